//! The fields that a server puts on top of a message (RFC 5321 §4.4), and those that it adds where they are missing.

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;
use waxwing_types::{Address, Envelope, Origin, QueueId, ReversePath, Timestamp, Via};

use crate::Field;
use crate::date::{compact_date, rfc5322_date};

/// Characters of a name that a client gave.
const CLIENT_NAME_MAX: usize = 255;

/// The Received field of a message. `by` is this server's name; a for-clause is written only for a lone recipient, so that
/// no recipient learns of another.
#[must_use]
pub fn received(by: &str, id: QueueId, envelope: &Envelope) -> Field {
    let origin = &envelope.origin;
    let mut text = String::with_capacity(240);
    text.push_str("Received: ");
    match origin.peer {
        Some(peer) => from_clause(&mut text, origin, peer.ip()),
        None => _ = write!(text, "by {by} (Waxwing, {})", origin.via.as_str()),
    }
    if origin.peer.is_some() {
        _ = write!(text, "\r\n\tby {by} (Waxwing) with {}", protocol(origin));
    }
    _ = write!(text, " id {id}");
    if let [only] = envelope.recipients.as_slice() {
        _ = write!(text, "\r\n\tfor <{}>", only.address);
    }
    _ = write!(text, ";\r\n\t{}\r\n", rfc5322_date(origin.received_at));
    made(text)
}

fn from_clause(text: &mut String, origin: &Origin, ip: IpAddr) {
    let helo = origin.helo.as_deref().map_or_else(|| "unknown".to_owned(), harmless);
    let client = origin.client_name.as_deref().map_or_else(|| "unknown".to_owned(), harmless);
    _ = match ip.to_canonical() {
        IpAddr::V4(v4) => write!(text, "from {helo} ({client} [{v4}])"),
        IpAddr::V6(v6) => write!(text, "from {helo} ({client} [IPv6:{v6}])"),
    };
}

/// The protocol types of RFC 3848.
fn protocol(origin: &Origin) -> &'static str {
    match (origin.via, origin.esmtp, origin.user.is_some()) {
        (Via::Lmtp, _, false) => "LMTP",
        (Via::Lmtp, _, true) => "LMTPA",
        (Via::Api, _, _) => "HTTP",
        (Via::Smtp | Via::Submission | Via::Pickup | Via::Forward | Via::Dsn, true, true) => "ESMTPA",
        (Via::Smtp | Via::Submission | Via::Pickup | Via::Forward | Via::Dsn, true, false) => "ESMTP",
        (Via::Smtp | Via::Submission | Via::Pickup | Via::Forward | Via::Dsn, false, _) => "SMTP",
    }
}

/// A stranger's word, without what would end a comment or begin a clause.
fn harmless(word: &str) -> String {
    let keep = |c: char| if c.is_ascii_graphic() && !"()<>\\\";".contains(c) { c } else { '?' };
    let word: String = word.chars().take(CLIENT_NAME_MAX).map(keep).collect();
    if word.is_empty() { "unknown".to_owned() } else { word }
}

/// `Return-Path: <sender>`, which the final delivery writes (RFC 5321 §4.4).
#[must_use]
pub fn return_path(sender: &ReversePath) -> Field {
    made(format!("Return-Path: <{sender}>\r\n"))
}

/// `Delivered-To: recipient`: shows which address brought the message here, and finds loops.
#[must_use]
pub fn delivered_to(recipient: &Address) -> Field {
    made(format!("Delivered-To: {recipient}\r\n"))
}

/// `Date:` for a message that has none.
#[must_use]
pub fn date(at: Timestamp) -> Field {
    made(format!("Date: {}\r\n", rfc5322_date(at)))
}

/// `Message-ID:` for a message that has none; unique as queue ids are.
#[must_use]
pub fn message_id(at: Timestamp, id: QueueId, host: &str) -> Field {
    made(format!("Message-ID: {}\r\n", message_id_of(at, id, host)))
}

pub(crate) fn message_id_of(at: Timestamp, id: QueueId, host: &str) -> String {
    format!("<{}.{id}@{host}>", compact_date(at))
}

/// All that is put in comes from checked types or [`harmless`], so that this is a field.
fn made(text: String) -> Field {
    match Field::from_raw(Bytes::from(text)) {
        Some(field) => field,
        None => unreachable!("the text begins with a field name and a colon"),
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::{BodyType, Recipient};

    use super::*;

    fn envelope(recipients: &[&str], origin: Origin) -> Envelope {
        let recipients = recipients.iter().map(|r| Recipient::new(Address::parse(r).unwrap())).collect();
        Envelope {
            sender: ReversePath::Null,
            recipients,
            body_type: BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin,
        }
    }

    fn origin(peer: &str, helo: &str) -> Origin {
        let mut origin = Origin::internal(Via::Smtp, Timestamp::from_millis(951_827_696_000));
        origin.peer = Some(peer.parse().unwrap());
        origin.helo = Some(helo.to_owned());
        origin.esmtp = true;
        origin
    }

    fn text(field: &Field) -> String {
        String::from_utf8(field.raw().to_vec()).unwrap()
    }

    #[test]
    fn a_lone_recipient_is_named() {
        let field = received("mx.example", QueueId::from_u64(31), &envelope(&["a@b.example"], origin("192.0.2.1:25", "client")));
        assert_eq!(
            text(&field),
            "Received: from client (unknown [192.0.2.1])\r\n\tby mx.example (Waxwing) with ESMTP id 000000000000z\r\n\
             \tfor <a@b.example>;\r\n\tTue, 29 Feb 2000 12:34:56 +0000\r\n"
        );
        let two =
            received("mx", QueueId::from_u64(31), &envelope(&["a@b.example", "c@b.example"], origin("[2001:db8::1]:25", "x")));
        assert!(!text(&two).contains("b.example") && text(&two).contains("[IPv6:2001:db8::1]"), "{}", text(&two));
    }

    #[test]
    fn a_strangers_name_stays_a_name() {
        let field = received("mx", QueueId::from_u64(1), &envelope(&[], origin("192.0.2.1:25", "x)\r\nBcc: <a>; ä(")));
        let text = text(&field);
        assert!(text.starts_with("Received: from x???Bcc:??a????? (unknown"), "{text}");
        assert_eq!(text.matches("\r\n").count(), 3, "{text}");
    }

    #[test]
    fn mail_from_within_says_by_which_door() {
        let within = envelope(&[], Origin::internal(Via::Pickup, Timestamp::default()));
        let field = received("mx", QueueId::from_u64(0), &within);
        assert!(text(&field).starts_with("Received: by mx (Waxwing, pickup) id 0000000000000;"), "{}", text(&field));
    }

    #[test]
    fn small_fields() {
        let at = Timestamp::from_millis(951_827_696_000);
        let quoted = Address::new("a b", "c.example").unwrap();
        assert_eq!(text(&return_path(&ReversePath::Null)), "Return-Path: <>\r\n");
        assert_eq!(text(&return_path(&ReversePath::Of(quoted.clone()))), "Return-Path: <\"a b\"@c.example>\r\n");
        assert_eq!(text(&delivered_to(&quoted)), "Delivered-To: \"a b\"@c.example\r\n");
        assert_eq!(text(&date(at)), "Date: Tue, 29 Feb 2000 12:34:56 +0000\r\n");
        assert_eq!(text(&message_id(at, QueueId::from_u64(1), "h")), "Message-ID: <20000229123456.0000000000001@h>\r\n");
    }
}
