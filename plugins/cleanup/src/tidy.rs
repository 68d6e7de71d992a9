//! The header block: what is missing, what must go, what is too long.

use waxwing_sdk::message::Field;
use waxwing_sdk::{Address, Source};

use crate::{Settings, date};

/// A change of the header, by name and place among those of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A field below all others.
    Add {
        /// Field name.
        name: String,
        /// Value.
        value: String,
    },
    /// A field away.
    Remove {
        /// Field name.
        name: String,
        /// Which of that name.
        nth: u32,
    },
    /// A field cut off at its limit.
    Shorten {
        /// Field name.
        name: String,
        /// Which of that name.
        nth: u32,
        /// What is left.
        value: Vec<u8>,
    },
}

/// What missing fields are made of. Asked for only when one is missing.
#[derive(Clone, Debug)]
pub struct Missing {
    /// The transaction's id.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// The envelope sender; none for the null path.
    pub sender: Option<Address>,
}

/// The changes that a header needs.
pub fn tidy(settings: &Settings, fields: &[Field], source: Source, missing: impl FnOnce() -> Missing) -> Vec<Change> {
    let mut changes = Vec::new();
    // How many of each were met: a header may consist of nothing else.
    let mut dropped: Vec<(&String, u32)> = settings.message_drop_headers.iter().map(|name| (name, 0)).collect();
    for (index, field) in fields.iter().enumerate() {
        if let Some((_, met)) = dropped.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(&field.name)) {
            changes.push(Change::Remove { name: field.name.clone(), nth: *met });
            *met += 1;
        } else if field.name.len() + field.value.len() + 4 > settings.header_size_limit {
            let room = settings.header_size_limit.saturating_sub(field.name.len() + 4);
            changes.push(Change::Shorten { name: field.name.clone(), nth: nth(fields, index), value: cut(&field.value, room) });
        }
    }
    if settings.always_add_missing_headers || is_made_here(source) {
        changes.extend(additions(settings, fields, missing));
    }
    changes
}

/// How many fields of its name stand above a field.
fn nth(fields: &[Field], index: usize) -> u32 {
    let Some((field, above)) = fields.get(index).zip(fields.get(..index)) else { return 0 };
    let count = above.iter().filter(|f| f.name.eq_ignore_ascii_case(&field.name)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Postfix asks whether the client is one of `local_header_rewrite_clients`; these doors are for users and programs of ours.
fn is_made_here(source: Source) -> bool {
    match source {
        Source::Submission | Source::Pickup | Source::Forward | Source::Api | Source::Dsn => true,
        Source::Smtp | Source::Lmtp => false,
    }
}

/// Date, Message-ID and From, each if it is not there; those of a resent message by their Resent names (RFC 5322 §3.6.6).
fn additions(settings: &Settings, fields: &[Field], missing: impl FnOnce() -> Missing) -> Vec<Change> {
    let resent = fields.iter().any(|f| f.name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("Resent-")));
    let prefix = if resent { "Resent-" } else { "" };
    let absent = ["Date", "Message-ID", "From"].map(|name| format!("{prefix}{name}"));
    let absent = absent.map(|name| (!fields.iter().any(|f| f.name.eq_ignore_ascii_case(&name))).then_some(name));
    if absent.iter().all(Option::is_none) {
        return Vec::new();
    }
    let about = missing();
    let values = [
        date::rfc5322(about.received_at_ms),
        format!("<{}.{}@{}>", date::digits(about.received_at_ms), about.id, settings.myhostname),
        from(settings, about.sender),
    ];
    let named = absent.into_iter().zip(values);
    named.filter_map(|(name, value)| name.map(|name| Change::Add { name, value })).collect()
}

fn from(settings: &Settings, sender: Option<Address>) -> String {
    let complete = |local: String| Address::new(local, &settings.myorigin);
    match sender {
        Some(sender) if sender.domain.is_empty() => complete(sender.local).to_string(),
        Some(sender) => sender.to_string(),
        None => format!("{} (Mail Delivery System)", complete("MAILER-DAEMON".to_owned())),
    }
}

/// The beginning of a value that still is one: no cut within a line end or a character, nor blanks at its end.
fn cut(value: &[u8], room: usize) -> Vec<u8> {
    let mut end = room.min(value.len());
    while end > 0 && value.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default().trim_ascii_end().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Vec<Field> {
        list.iter().map(|(name, value)| Field { name: (*name).into(), value: (*value).into() }).collect()
    }

    fn missing() -> Missing {
        Missing { id: "1".into(), received_at_ms: 0, sender: None }
    }

    fn never() -> Missing {
        panic!("nothing is missing")
    }

    fn settings() -> Settings {
        Settings { myorigin: "example.com".into(), myhostname: "mx.example.com".into(), ..Settings::default() }
    }

    const COMPLETE: [(&str, &str); 3] = [("date", "x"), ("MESSAGE-ID", "<x>"), ("From", "a@b")];

    #[test]
    fn a_complete_message_stays_as_it_is() {
        assert_eq!(tidy(&settings(), &fields(&COMPLETE), Source::Smtp, never), []);
    }

    #[test]
    fn an_empty_header_gets_all_three() {
        let add = |name: &str, value: &str| Change::Add { name: name.into(), value: value.into() };
        assert_eq!(
            tidy(&settings(), &[], Source::Smtp, missing),
            [
                add("Date", "Thu, 1 Jan 1970 00:00:00 +0000"),
                add("Message-ID", "<19700101000000.1@mx.example.com>"),
                add("From", "MAILER-DAEMON@example.com (Mail Delivery System)"),
            ]
        );
        let local_only = Settings { always_add_missing_headers: false, ..settings() };
        assert_eq!(tidy(&local_only, &[], Source::Smtp, never), []);
        assert_eq!(tidy(&local_only, &[], Source::Pickup, missing).len(), 3);
    }

    #[test]
    fn a_resent_message_is_completed_as_such() {
        let mut list = COMPLETE.to_vec();
        list.push(("Resent-From", "c@d"));
        let names: Vec<_> = tidy(&settings(), &fields(&list), Source::Smtp, missing)
            .into_iter()
            .map(|c| match c {
                Change::Add { name, .. } => name,
                other @ (Change::Remove { .. } | Change::Shorten { .. }) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["Resent-Date", "Resent-Message-ID"]);
    }

    #[test]
    fn what_must_not_be_delivered_goes_by_its_place() {
        let mut list = COMPLETE.to_vec();
        list.extend([("Bcc", "1"), ("To", "t"), ("bcc", "2"), ("Return-Path", "<x>")]);
        let gone = |name: &str, nth| Change::Remove { name: name.into(), nth };
        assert_eq!(
            tidy(&settings(), &fields(&list), Source::Smtp, never),
            [gone("Bcc", 0), gone("bcc", 1), gone("Return-Path", 0)]
        );
    }

    #[test]
    fn a_long_field_is_cut_where_it_may_be() {
        let mut list = fields(&COMPLETE);
        list.push(Field { name: "X".into(), value: b"0123456789 abc\xc3\xa9fgh".to_vec() });
        let short = |limit| Settings { header_size_limit: limit, ..settings() };
        let left = |limit| match &*tidy(&short(limit), &list, Source::Smtp, never) {
            [] => None,
            [Change::Shorten { name, nth: 0, value }] if name == "X" => Some(String::from_utf8(value.clone()).unwrap()),
            other => panic!("{other:?}"),
        };
        assert_eq!(left(24), None);
        assert_eq!(left(23).as_deref(), Some("0123456789 abcéfg"));
        assert_eq!(left(20).as_deref(), Some("0123456789 abc"));
        assert_eq!(left(17).as_deref(), Some("0123456789 a"));
    }
}
