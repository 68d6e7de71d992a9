//! Trace fields added on top of a message (RFC 5321 §4.4), and fields added where missing.

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;
use waxwing_types::{Address, Envelope, Origin, QueueId, ReversePath, Source, Timestamp, TlsSession};

use crate::Field;
use crate::date::{compact_date, rfc5322_date};

/// Maximum number of characters of a name given by a client.
const CLIENT_NAME_MAX: usize = 255;

/// Returns the Received field of a message. `by` is the host name of the server, `tls` the TLS session of the
/// connection, if any. A for-clause is written only for a single recipient, so that no recipient learns of another.
#[must_use]
pub fn received(by: &str, id: QueueId, envelope: &Envelope, tls: Option<&TlsSession>) -> Field {
    let origin = &envelope.origin;
    let mut text = String::with_capacity(320);
    text.push_str("Received: ");
    match origin.peer {
        Some(peer) => {
            push_from_clause(&mut text, origin, peer.ip());
            if let Some(tls) = tls {
                push_tls_comments(&mut text, tls);
            }
            _ = write!(text, "\r\n\tby {by} (Waxwing) with {}", protocol_keyword(origin, tls.is_some(), envelope.smtputf8));
        }
        None => _ = write!(text, "by {by} (Waxwing, {})", origin.source.as_str()),
    }
    _ = write!(text, " id {id}");
    if let [only] = envelope.recipients.as_slice() {
        _ = write!(text, "\r\n\tfor <{}>", only.address);
    }
    _ = write!(text, ";\r\n\t{}\r\n", rfc5322_date(origin.received_at));
    generated_field(text)
}

fn push_from_clause(text: &mut String, origin: &Origin, ip: IpAddr) {
    let helo = origin.helo.as_deref().map_or_else(|| "unknown".to_owned(), sanitize);
    let client = origin.client_name.as_deref().map_or_else(|| "unknown".to_owned(), sanitize);
    _ = match ip.to_canonical() {
        IpAddr::V4(v4) => write!(text, "from {helo} ({client} [{v4}])"),
        IpAddr::V6(v6) => write!(text, "from {helo} ({client} [IPv6:{v6}])"),
    };
}

/// Writes TLS details as Postfix does, as far as known. Nothing is written about a client without a certificate: a
/// request for a certificate is not recorded.
fn push_tls_comments(text: &mut String, tls: &TlsSession) {
    _ = write!(text, "\r\n\t(using {} with cipher {})", sanitize(&tls.version), sanitize(&tls.cipher));
    if tls.client_fingerprint.is_some() {
        let verified = if tls.verified { "verified OK" } else { "not verified" };
        _ = write!(text, "\r\n\t(Client certificate {verified})");
    }
}

/// Protocol keyword of the with-clause (RFC 3848), or of RFC 6531 §4.3 for a message with SMTPUTF8.
fn protocol_keyword(origin: &Origin, tls: bool, utf8: bool) -> &'static str {
    let family: [&str; 4] = match (origin.source, origin.esmtp, utf8) {
        (Source::Api, _, _) => return "HTTP",
        (Source::Lmtp, _, false) => ["LMTP", "LMTPA", "LMTPS", "LMTPSA"],
        (Source::Lmtp, _, true) => ["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"],
        (Source::Smtp | Source::Submission | Source::Pickup | Source::Forward | Source::Dsn, false, _) => return "SMTP",
        (Source::Smtp | Source::Submission | Source::Pickup | Source::Forward | Source::Dsn, true, false) => {
            ["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"]
        }
        (Source::Smtp | Source::Submission | Source::Pickup | Source::Forward | Source::Dsn, true, true) => {
            ["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"]
        }
    };
    let [plain, authenticated, encrypted, both] = family;
    match (tls, origin.user.is_some()) {
        (false, false) => plain,
        (false, true) => authenticated,
        (true, false) => encrypted,
        (true, true) => both,
    }
}

/// Replaces characters in text from the client that would end a comment or begin a clause.
fn sanitize(word: &str) -> String {
    let keep = |c: char| if c.is_ascii_graphic() && !"()<>\\\";".contains(c) { c } else { '?' };
    let mut kept = String::with_capacity(word.len().min(CLIENT_NAME_MAX));
    kept.extend(word.chars().take(CLIENT_NAME_MAX).map(keep));
    if kept.is_empty() { "unknown".to_owned() } else { kept }
}

/// Returns `Return-Path: <sender>`, written at final delivery (RFC 5321 §4.4).
#[must_use]
pub fn return_path(sender: &ReversePath) -> Field {
    generated_field(format!("Return-Path: <{sender}>\r\n"))
}

/// Returns `Delivered-To: recipient`, showing the address of delivery and used for loop detection.
#[must_use]
pub fn delivered_to(recipient: &Address) -> Field {
    generated_field(format!("Delivered-To: {recipient}\r\n"))
}

/// Returns `Date:` for a message without one.
#[must_use]
pub fn date(at: Timestamp) -> Field {
    generated_field(format!("Date: {}\r\n", rfc5322_date(at)))
}

/// Returns `Message-ID:` for a message without one; unique because queue ids are.
#[must_use]
pub fn message_id(at: Timestamp, id: QueueId, host: &str) -> Field {
    generated_field(format!("Message-ID: {}\r\n", message_id_value(at, id, host)))
}

pub(crate) fn message_id_value(at: Timestamp, id: QueueId, host: &str) -> String {
    format!("<{}.{id}@{host}>", compact_date(at))
}

/// Converts generated text to a field. All inserted text comes from checked types or [`sanitize`], so the result is a
/// valid field.
fn generated_field(text: String) -> Field {
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
        let mut origin = Origin::internal(Source::Smtp, Timestamp::from_millis(951_827_696_000));
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
        let field =
            received("mx.example", QueueId::from_u64(31), &envelope(&["a@b.example"], origin("192.0.2.1:25", "client")), None);
        assert_eq!(
            text(&field),
            "Received: from client (unknown [192.0.2.1])\r\n\tby mx.example (Waxwing) with ESMTP id 000000000000z\r\n\
             \tfor <a@b.example>;\r\n\tTue, 29 Feb 2000 12:34:56 +0000\r\n"
        );
        let two = received(
            "mx",
            QueueId::from_u64(31),
            &envelope(&["a@b.example", "c@b.example"], origin("[2001:db8::1]:25", "x")),
            None,
        );
        assert!(!text(&two).contains("b.example") && text(&two).contains("[IPv6:2001:db8::1]"), "{}", text(&two));
    }

    #[test]
    fn a_strangers_name_stays_a_name() {
        let field = received("mx", QueueId::from_u64(1), &envelope(&[], origin("192.0.2.1:25", "x)\r\nBcc: <a>; ä(")), None);
        let text = text(&field);
        assert!(text.starts_with("Received: from x???Bcc:??a????? (unknown"), "{text}");
        assert_eq!(text.matches("\r\n").count(), 3, "{text}");
    }

    #[test]
    fn says_how_it_came() {
        let tls = TlsSession { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into(), ..TlsSession::default() };
        let with = |via, esmtp, user: Option<&str>, utf8, tls: Option<&TlsSession>| {
            let mut envelope = envelope(&[], origin("192.0.2.1:25", "client"));
            envelope.origin.source = via;
            envelope.origin.esmtp = esmtp;
            envelope.origin.user = user.map(String::from);
            envelope.smtputf8 = utf8;
            text(&received("mx", QueueId::from_u64(1), &envelope, tls))
        };
        for (via, esmtp, user, utf8, secure, expected) in [
            (Source::Smtp, false, None, false, false, "SMTP"),
            (Source::Smtp, true, None, false, true, "ESMTPS"),
            (Source::Submission, true, Some("ann"), false, false, "ESMTPA"),
            (Source::Submission, true, Some("ann"), false, true, "ESMTPSA"),
            (Source::Smtp, true, None, true, false, "UTF8SMTP"),
            (Source::Submission, true, Some("ann"), true, true, "UTF8SMTPSA"),
            (Source::Lmtp, true, None, false, true, "LMTPS"),
            (Source::Lmtp, true, None, true, false, "UTF8LMTP"),
        ] {
            let text = with(via, esmtp, user, utf8, secure.then_some(&tls));
            assert!(text.contains(&format!("(Waxwing) with {expected} id ")), "{expected}: {text}");
            assert_eq!(text.contains("\r\n\t(using TLSv1.3 with cipher TLS13_AES_256_GCM_SHA384)"), secure, "{text}");
            assert!(!text.contains("certificate"), "{text}");
        }
        let shown = TlsSession { client_fingerprint: Some("ab".into()), verified: true, ..tls };
        assert!(
            with(Source::Smtp, true, None, false, Some(&shown)).contains("\r\n\t(Client certificate verified OK)\r\n\tby mx")
        );
    }

    #[test]
    fn mail_from_within_says_by_which_door() {
        let within = envelope(&[], Origin::internal(Source::Pickup, Timestamp::default()));
        let field = received("mx", QueueId::from_u64(0), &within, None);
        assert!(text(&field).starts_with("Received: by mx (Waxwing, pickup) id 0000000000000;"), "{}", text(&field));
    }

    #[test]
    fn small_fields() {
        let at = Timestamp::from_millis(951_827_696_000);
        let quoted = Address::new("a b", "c.example").unwrap();
        assert_eq!(text(&return_path(&ReversePath::Null)), "Return-Path: <>\r\n");
        assert_eq!(text(&return_path(&ReversePath::Address(quoted.clone()))), "Return-Path: <\"a b\"@c.example>\r\n");
        assert_eq!(text(&delivered_to(&quoted)), "Delivered-To: \"a b\"@c.example\r\n");
        assert_eq!(text(&date(at)), "Date: Tue, 29 Feb 2000 12:34:56 +0000\r\n");
        assert_eq!(text(&message_id(at, QueueId::from_u64(1), "h")), "Message-ID: <20000229123456.0000000000001@h>\r\n");
    }
}
