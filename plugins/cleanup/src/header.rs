//! Changes of the header block: missing, dropped and oversized fields.

use waxwing_sdk::message::Field;
use waxwing_sdk::{Address, Source};

use crate::{CleanupSettings, date};

/// A change of the header block; fields are addressed by name and index among fields of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Appends a field below all others.
    Add {
        /// Name of the field.
        name: String,
        /// Value of the field.
        value: String,
    },
    /// Removes a field.
    Remove {
        /// Name of the field.
        name: String,
        /// Index among fields of the same name.
        nth: u32,
    },
    /// Truncates a field to the size limit.
    Truncate {
        /// Name of the field.
        name: String,
        /// Index among fields of the same name.
        nth: u32,
        /// Value after the truncation.
        value: Vec<u8>,
    },
}

/// Transaction data for missing fields, requested only if a field is missing.
#[derive(Clone, Debug)]
pub struct MissingFieldContext {
    /// Id of the transaction.
    pub id: String,
    /// Start of the transaction, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// Envelope sender; `None` for the null path.
    pub sender: Option<Address>,
}

/// Returns the changes required for a header block.
pub fn header_changes(
    settings: &CleanupSettings,
    fields: &[Field],
    source: Source,
    missing: impl FnOnce() -> MissingFieldContext,
) -> Vec<HeaderChange> {
    let mut changes = Vec::new();
    // Occurrences so far by dropped name; a linear pass, since a header may consist of such fields only.
    let mut dropped: Vec<(&String, u32)> = settings.message_drop_headers.iter().map(|name| (name, 0)).collect();
    for (index, field) in fields.iter().enumerate() {
        if let Some((_, met)) = dropped.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(&field.name)) {
            changes.push(HeaderChange::Remove { name: field.name.clone(), nth: *met });
            *met += 1;
        } else if field.name.len() + field.value.len() + 4 > settings.header_size_limit {
            let value_bytes_max = settings.header_size_limit.saturating_sub(field.name.len() + 4);
            changes.push(HeaderChange::Truncate {
                name: field.name.clone(),
                nth: index_among_same_name(fields, index),
                value: truncate_value(&field.value, value_bytes_max),
            });
        }
    }
    if settings.always_add_missing_headers || is_local_source(source) {
        changes.extend(missing_fields(settings, fields, missing));
    }
    changes
}

/// Number of fields of the same name above a field.
fn index_among_same_name(fields: &[Field], index: usize) -> u32 {
    let Some((field, above)) = fields.get(index).zip(fields.get(..index)) else { return 0 };
    let count = above.iter().filter(|f| f.name.eq_ignore_ascii_case(&field.name)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Local sources of mail. Postfix decides by `local_header_rewrite_clients`; here the source tells local users and programs from other
/// servers.
fn is_local_source(source: Source) -> bool {
    match source {
        Source::Submission | Source::Pickup | Source::Forward | Source::Api | Source::Dsn => true,
        Source::Smtp | Source::Lmtp => false,
    }
}

/// Returns Date, Message-ID and From, each if missing; for resent messages the Resent fields (RFC 5322 §3.6.6).
fn missing_fields(
    settings: &CleanupSettings,
    fields: &[Field],
    missing: impl FnOnce() -> MissingFieldContext,
) -> Vec<HeaderChange> {
    let resent = fields.iter().any(|f| f.name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("Resent-")));
    let prefix = if resent { "Resent-" } else { "" };
    let absent = ["Date", "Message-ID", "From"].map(|name| format!("{prefix}{name}"));
    let absent = absent.map(|name| (!fields.iter().any(|f| f.name.eq_ignore_ascii_case(&name))).then_some(name));
    if absent.iter().all(Option::is_none) {
        return Vec::new();
    }
    let context = missing();
    let values = [
        date::format_rfc5322(context.received_at_ms),
        format!("<{}.{}@{}>", date::format_digits(context.received_at_ms), context.id, settings.myhostname),
        from_value(settings, context.sender),
    ];
    let named = absent.into_iter().zip(values);
    named.filter_map(|(name, value)| name.map(|name| HeaderChange::Add { name, value })).collect()
}

fn from_value(settings: &CleanupSettings, sender: Option<Address>) -> String {
    let complete = |local: String| Address::new(local, &settings.myorigin);
    match sender {
        Some(sender) if sender.domain.is_empty() => complete(sender.local).to_string(),
        Some(sender) => sender.to_string(),
        None => format!("{} (Mail Delivery System)", complete("MAILER-DAEMON".to_owned())),
    }
}

/// Truncates a value, but not within a UTF-8 character, and trims trailing white space and line ends.
fn truncate_value(value: &[u8], value_bytes_max: usize) -> Vec<u8> {
    let mut end = value_bytes_max.min(value.len());
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

    fn missing() -> MissingFieldContext {
        MissingFieldContext { id: "1".into(), received_at_ms: 0, sender: None }
    }

    fn never() -> MissingFieldContext {
        panic!("nothing is missing")
    }

    fn settings() -> CleanupSettings {
        CleanupSettings { myorigin: "example.com".into(), myhostname: "mx.example.com".into(), ..CleanupSettings::default() }
    }

    const COMPLETE: [(&str, &str); 3] = [("date", "x"), ("MESSAGE-ID", "<x>"), ("From", "a@b")];

    #[test]
    fn a_complete_message_stays_as_it_is() {
        assert_eq!(header_changes(&settings(), &fields(&COMPLETE), Source::Smtp, never), []);
    }

    #[test]
    fn an_empty_header_gets_all_three() {
        let add = |name: &str, value: &str| HeaderChange::Add { name: name.into(), value: value.into() };
        assert_eq!(
            header_changes(&settings(), &[], Source::Smtp, missing),
            [
                add("Date", "Thu, 1 Jan 1970 00:00:00 +0000"),
                add("Message-ID", "<19700101000000.1@mx.example.com>"),
                add("From", "MAILER-DAEMON@example.com (Mail Delivery System)"),
            ]
        );
        let local_only = CleanupSettings { always_add_missing_headers: false, ..settings() };
        assert_eq!(header_changes(&local_only, &[], Source::Smtp, never), []);
        assert_eq!(header_changes(&local_only, &[], Source::Pickup, missing).len(), 3);
    }

    #[test]
    fn a_resent_message_is_completed_as_such() {
        let mut list = COMPLETE.to_vec();
        list.push(("Resent-From", "c@d"));
        let names: Vec<_> = header_changes(&settings(), &fields(&list), Source::Smtp, missing)
            .into_iter()
            .map(|c| match c {
                HeaderChange::Add { name, .. } => name,
                other @ (HeaderChange::Remove { .. } | HeaderChange::Truncate { .. }) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["Resent-Date", "Resent-Message-ID"]);
    }

    #[test]
    fn what_must_not_be_delivered_goes_by_its_place() {
        let mut list = COMPLETE.to_vec();
        list.extend([("Bcc", "1"), ("To", "t"), ("bcc", "2"), ("Return-Path", "<x>")]);
        let gone = |name: &str, nth| HeaderChange::Remove { name: name.into(), nth };
        assert_eq!(
            header_changes(&settings(), &fields(&list), Source::Smtp, never),
            [gone("Bcc", 0), gone("bcc", 1), gone("Return-Path", 0)]
        );
    }

    #[test]
    fn a_long_field_is_cut_where_it_may_be() {
        let mut list = fields(&COMPLETE);
        list.push(Field { name: "X".into(), value: b"0123456789 abc\xc3\xa9fgh".to_vec() });
        let short = |limit| CleanupSettings { header_size_limit: limit, ..settings() };
        let left = |limit| match &*header_changes(&short(limit), &list, Source::Smtp, never) {
            [] => None,
            [HeaderChange::Truncate { name, nth: 0, value }] if name == "X" => Some(String::from_utf8(value.clone()).unwrap()),
            other => panic!("{other:?}"),
        };
        assert_eq!(left(24), None);
        assert_eq!(left(23).as_deref(), Some("0123456789 abcéfg"));
        assert_eq!(left(20).as_deref(), Some("0123456789 abc"));
        assert_eq!(left(17).as_deref(), Some("0123456789 a"));
    }
}
