use waxwing_types::EnhancedCode;

use super::*;

const AT: Timestamp = Timestamp::from_millis(951_827_696_000);

fn print(ret: Option<DsnReturn>, head: &[u8], body: Option<&[u8]>, text: &str) -> String {
    let to = Address::parse("sender@a.example").unwrap();
    let mut recipient = Recipient::new(Address::parse("user@b.example").unwrap());
    recipient.original = Some("rfc822;info+2Bx@a.example".to_owned());
    let status = Status {
        code: Some(550),
        enhanced: EnhancedCode::new(5, 1, 1),
        remote: Some("mx.b.example[192.0.2.1]".to_owned()),
        text: text.to_owned(),
    };
    let late = Status::local(EnhancedCode::new(4, 4, 1), "connect: timed out");
    let slow = Recipient::new(Address::parse("slow@c.example").unwrap());
    let recipients = [
        DsnRecipient { recipient: &recipient, action: DsnAction::Failed, status: &status, last_attempt: AT },
        DsnRecipient { recipient: &slow, action: DsnAction::Delayed { until: AT }, status: &late, last_attempt: AT },
    ];
    let report = DsnBuilder {
        reporting_mta: "mx.a.example",
        recipient: &to,
        dsn_queue_id: QueueId::from_u64(2),
        created_at: AT,
        original_queue_id: QueueId::from_u64(1),
        arrived_at: AT,
        envid: Some("env+3D1"),
        recipients: &recipients,
        ret,
        smtputf8: false,
        header: head,
        body,
    };
    let dsn = report.build();
    assert_eq!(dsn.eight_bit, !dsn.content.is_ascii());
    String::from_utf8_lossy(&dsn.content).into_owned()
}

const HEAD: &[u8] = b"Subject: hello\r\nFrom: sender@a.example\r\n\r\n";

#[test]
fn programs_find_their_fields() {
    let text = print(None, HEAD, Some(b"body\r\n"), "5.1.1 no such user");
    let wanted = "Reporting-MTA: dns; mx.a.example\r\nOriginal-Envelope-Id: env=1\r\nX-Waxwing-Queue-ID: 0000000000001\r\n\
        Arrival-Date: Tue, 29 Feb 2000 12:34:56 +0000\r\n\r\n\
        Original-Recipient: rfc822;info+x@a.example\r\nFinal-Recipient: rfc822; user@b.example\r\nAction: failed\r\n\
        Status: 5.1.1\r\nRemote-MTA: dns; mx.b.example[192.0.2.1]\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
        Last-Attempt-Date: Tue, 29 Feb 2000 12:34:56 +0000\r\n\r\n\
        Final-Recipient: rfc822; slow@c.example\r\nAction: delayed\r\nStatus: 4.4.1\r\n\
        Diagnostic-Code: X-Waxwing; connect: timed out\r\nLast-Attempt-Date: Tue, 29 Feb 2000 12:34:56 +0000\r\n\
        Will-Retry-Until: Tue, 29 Feb 2000 12:34:56 +0000\r\n";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("<user@b.example> (expanded from <info+x@a.example>): host"), "{text}");
    assert!(text.contains("To: sender@a.example\r\n") && text.contains("Auto-Submitted: auto-replied\r\n"), "{text}");
    assert!(text.lines().all(|line| line.len() < 998), "{text}");
}

#[test]
fn returns_the_message_or_its_header() {
    let full = print(Some(DsnReturn::Full), HEAD, Some(b"the body\r\n"), "x");
    assert!(full.contains("Content-Type: message/rfc822\r\n"), "{full}");
    assert!(full.contains("From: sender@a.example\r\n\r\nthe body\r\n\r\n--"), "{full}");
    for (ret, body) in [(Some(DsnReturn::Headers), Some(&b"the body\r\n"[..])), (Some(DsnReturn::Full), None)] {
        let headers = print(ret, HEAD, body, "x");
        assert!(headers.contains("Content-Type: text/rfc822-headers\r\n") && !headers.contains("the body"), "{headers}");
    }
}

#[test]
fn a_remote_servers_words_stay_words() {
    let text = print(None, HEAD, None, "no\r\nBcc: x@y.example\r\n\r\n--evil\u{e4}");
    assert!(!text.contains("\nBcc:") && !text.contains("\n--evil"), "{text}");
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn the_boundary_does_not_occur_in_what_is_returned() {
    let body = format!("--0000000000002.{}/report--\r\n", AT.as_millis());
    let text = print(None, HEAD, Some(body.as_bytes()), "x");
    assert!(text.contains("/report=\"\r\n") && text.ends_with("/report=--\r\n"), "{text}");
}

#[test]
fn eight_bit_messages_are_returned_as_such() {
    let text = print(None, HEAD, Some(b"\xe4\r\n"), "x");
    assert_eq!(text.matches("Content-Transfer-Encoding: 8bit").count(), 2, "{text}");
}

#[test]
fn addresses_in_utf8_make_a_global_report() {
    let (to, late) = (Address::parse("a@a.example").unwrap(), Address::parse("grün@b.example").unwrap());
    let recipient = Recipient { original: Some("utf-8;grün@old.example".into()), ..Recipient::new(late) };
    let status = Status::local(EnhancedCode::new(5, 6, 7), "no");
    let recipients = [DsnRecipient { recipient: &recipient, action: DsnAction::Failed, status: &status, last_attempt: AT }];
    let report = |to: &Address, smtputf8, head: &[u8]| {
        let (id, about) = (QueueId::from_u64(2), QueueId::from_u64(1));
        let (at, arrived, recipients) = (AT, AT, &recipients[..]);
        let (envid, ret, body, reporting_mta) = (None, None, None, "mx.a.example");
        DsnBuilder {
            reporting_mta,
            recipient: to,
            dsn_queue_id: id,
            created_at: at,
            original_queue_id: about,
            arrived_at: arrived,
            envid,
            recipients,
            ret,
            smtputf8,
            header: head,
            body,
        }
        .build()
    };
    let dsn = report(&to, true, "Subject: grün\r\n\r\n".as_bytes());
    let text = String::from_utf8(dsn.content.to_vec()).unwrap();
    for part in [
        "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
        "Final-Recipient: utf-8; grün@b.example\r\n",
        "Original-Recipient: utf-8;grün@old.example\r\n",
        "Content-Type: message/global-headers\r\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(dsn.eight_bit && !dsn.smtputf8, "an ASCII address needs no SMTPUTF8");
    assert!(report(&recipient.address, true, b"").smtputf8);
}
