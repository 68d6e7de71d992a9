//! Refuses mail with a configured word in its subject, marks the rest.
use waxwing_sdk::hooks::{on_load, on_message};
use waxwing_sdk::{Reply, Verdict, content, edit, message, settings, transaction};

struct Checker;

/// Octets of the body that are looked at.
const BODY_BYTES_MAX: u32 = 65536;

fn word() -> Result<String, String> {
    settings::string("word")?.filter(|w| !w.is_empty()).ok_or_else(|| "`word` is required".to_owned())
}

impl on_load::Guest for Checker {
    fn load() -> Result<(), String> {
        word().map(drop)
    }
}

impl on_message::Guest for Checker {
    fn message() -> Verdict {
        let Ok(word) = word() else { return Verdict::Next };
        if message::header_text("Subject").is_some_and(|subject| subject.contains(&word)) {
            let text = "This subject is not wanted here".to_owned();
            return Verdict::Reject(Reply { code: 550, enhanced: Some("5.7.1".to_owned()), text });
        }
        let body = content::read_part(0, 0, BODY_BYTES_MAX).unwrap_or_default();
        let found = body.windows(word.len()).any(|part| part == word.as_bytes());
        transaction::set_tag("body-word", if found { "yes" } else { "no" });
        let _ = edit::add_header("X-Checked", b"rust");
        Verdict::Next
    }
}

waxwing_sdk::export!(Checker: on_load, on_message);
