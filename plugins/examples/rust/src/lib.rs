//! Refuses mail with a configured word in its subject, marks the rest.
use waxwing_sdk::hooks::{on_load, on_message};
use waxwing_sdk::{Verdict, content, edit, message, settings, transaction};

struct Plugin;

const NAME: &str = "checker";
/// Octets of the body that are looked at.
const BODY_BYTES_MAX: u32 = 65536;

fn word() -> Result<Option<String>, String> {
    match settings::string("word")? {
        Some(word) if word.is_empty() => Err("`word` must be a text, and not empty".to_owned()),
        word => Ok(word),
    }
}

impl on_load::Guest for Plugin {
    fn load() -> Result<(), String> {
        word().map(drop)
    }
}

impl on_message::Guest for Plugin {
    fn message() -> Verdict {
        // `load` has read it without error.
        if let Ok(Some(word)) = word() {
            if message::header_text("Subject").is_some_and(|subject| subject.contains(&word)) {
                return Verdict::reject("5.7.1", "This subject is not wanted here");
            }
            let body = content::read_part(0, 0, BODY_BYTES_MAX).unwrap_or_default();
            let found = body.windows(word.len()).any(|part| part == word.as_bytes());
            transaction::set_tag("body-word", if found { "yes" } else { "no" });
        }
        let _ = edit::add_header("X-Checked", NAME.as_bytes());
        Verdict::Next
    }
}

waxwing_sdk::export!(Plugin: on_load, on_message);

#[cfg(test)]
mod tests {
    use waxwing_sdk::testing::{Change, Host};

    use super::*;

    #[test]
    fn a_word_in_the_subject_is_refused() {
        let host = Host::new().config("word", "\"lottery\"").header("Subject", "win the lottery");
        assert!(matches!(host.run(<Plugin as on_message::Guest>::message), Verdict::Reject(_)));
        assert_eq!(host.changes(), []);
    }

    #[test]
    fn other_mail_is_marked() {
        let host = Host::new().header("Subject", "lunch");
        assert_eq!(host.run(<Plugin as on_message::Guest>::message), Verdict::Next);
        assert_eq!(host.changes(), [Change::AddHeader("X-Checked".into(), NAME.into())]);
    }
}
