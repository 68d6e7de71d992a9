use proptest::prelude::*;

use super::*;
use crate::MimeParts;

fn head(text: &str) -> HeaderBlock {
    HeaderBlock::parse(Bytes::copy_from_slice(text.as_bytes()), true)
}

fn convert(fields: &str, body: &[u8]) -> Result<Option<(String, String)>, ConversionError> {
    let printed = to_seven_bit(&head(fields), body)?;
    Ok(printed.map(|(head, body)| {
        assert!(body.is_ascii());
        (String::from_utf8(head.to_bytes(false).to_vec()).unwrap(), String::from_utf8(body.to_vec()).unwrap())
    }))
}

#[test]
fn ascii_needs_nothing() {
    assert_eq!(convert("Content-Transfer-Encoding: 8bit\r\n", b"plain\r\n"), Ok(None));
    assert_eq!(convert("", b""), Ok(None));
}

#[test]
fn plain_text_becomes_quoted_printable() {
    let (head, body) = convert("Subject: x\r\n", "Grüße = alles\r\n.dot \r\nend".as_bytes()).unwrap().unwrap();
    assert_eq!(
        head,
        "Subject: x\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n"
    );
    assert_eq!(body, "Gr=C3=BC=C3=9Fe =3D alles\r\n.dot=20\r\nend=\r\n");
}

#[test]
fn binary_and_foreign_text_become_base64() {
    let fields = "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n";
    let (head, body) = convert(fields, b"\xff\0\r\n").unwrap().unwrap();
    assert!(head.contains("Content-Transfer-Encoding: base64\r\n") && head.matches("MIME-Version").count() == 1, "{head}");
    assert_eq!(body, "/wANCg==\r\n");
    let (head, _) = convert("Content-Type: text/plain; charset=utf-8\r\n", "漢字".repeat(50).as_bytes()).unwrap().unwrap();
    assert!(head.contains("base64"), "{head}");
}

const MULTIPART: &str =
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b 1\"\r\nContent-Transfer-Encoding: 8bit\r\n";
const PARTS: &str = "préamble\r\n--b 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nä\r\n\
    --b 1\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nascii\r\n\
    --b 1\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\n\r\nö\r\n\
    --b 1\r\nno header, ü\r\n--b 1--\r\nepilogue\r\n";

#[test]
fn each_part_for_itself() {
    let (head, body) = convert(MULTIPART, PARTS.as_bytes()).unwrap().unwrap();
    assert!(head.contains("Content-Transfer-Encoding: 7bit\r\n"), "{head}");
    let wanted = "pr??amble\r\n--b 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4\r\n\
        --b 1\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\n\r\nascii\r\n\
        --b 1\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: in\r\n\
        Content-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=B6\r\n\
        --b 1\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        no header, =C3=BC\r\n--b 1--\r\nepilogue\r\n";
    assert_eq!(body, wanted);
    // Another's reading of it.
    let message = head + &body;
    let parsed = mail_parser::MessageParser::default().parse(message.as_bytes()).unwrap();
    assert_eq!(parsed.body_text(0).as_deref(), Some("ä"));
    let inner = parsed.attachments().find_map(|part| part.message()).unwrap();
    assert_eq!(inner.body_text(0).as_deref().map(str::trim_end), Some("ö"));
}

#[test]
fn a_soft_line_end_makes_no_delimiter() {
    let body = format!("--b 1\r\n\r\nä{}--b 1\r\n--b 1--\r\n", "x".repeat(69));
    let (_, body) = convert(MULTIPART, body.as_bytes()).unwrap().unwrap();
    assert!(body.contains("=\r\n=2D-b 1\r\n"), "{body}");
}

#[test]
fn what_must_not_be_touched_is_refused() {
    let signed = "Content-Type: multipart/signed; boundary=s\r\n";
    assert_eq!(convert(signed, b"--s\r\n\r\n\xe4\r\n--s--\r\n"), Err(ConversionError::SignedOrEncrypted));
    assert_eq!(convert(signed, b"--s\r\nContent-Transfer-Encoding: 8bit\r\n\r\na\r\n--s--\r\n"), Ok(None));
    assert_eq!(convert("Content-Transfer-Encoding: base64\r\n", b"\xe4"), Err(ConversionError::BrokenEncoding));
    assert_eq!(convert("Content-Type: message/partial\r\n", b"\xe4"), Err(ConversionError::NotEncodable));
    assert_eq!(convert("Content-Type: multipart/mixed\r\n", b"\xe4"), Err(ConversionError::NotEncodable));
    let many = "--m\r\n\r\n".repeat(1100) + "ä";
    assert_eq!(convert("Content-Type: multipart/mixed; boundary=m\r\n", many.as_bytes()), Err(ConversionError::TooManyParts));
}

fn piecewise(head: &HeaderBlock, body: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut survey = SevenBitScan::new(head);
    body.chunks(size).for_each(|piece| survey.push(piece));
    let plan = survey.finish().ok()?;
    let mut writer = SevenBitWriter::new(plan, head);
    let mut out: Vec<u8> = body.chunks(size).flat_map(|piece| writer.push(piece)).collect();
    out.extend(writer.finish());
    Some(out)
}

proptest! {
    /// Whatever is converted is 7bit, has the same parts with the same content, and does not depend on the chopping.
    #[test]
    fn content_survives(
        pieces in proptest::collection::vec(prop_oneof![
            Just("--b\r\n"), Just("--b--\r\n"), Just("--c\r\n"), Just("--c--\r\n"), Just("\r\n"), Just("\n"), Just("\r"),
            Just("Content-Type: text/plain\r\n"), Just("Content-Type: multipart/mixed; boundary=c\r\n"),
            Just("Content-Type: message/rfc822\r\n"), Just("Content-Type: image/png\r\n"),
            Just("Content-Transfer-Encoding: 8bit\r\n"), Just("text ä"), Just("= \t"), Just("x\r\n"), Just("\0\u{80}\r\n"),
        ], 0..30),
        size in 1_usize..30,
        multipart in any::<bool>(),
    ) {
        let head = head(if multipart { "Content-Type: multipart/mixed; boundary=b\r\n" } else { "Subject: x\r\n" });
        let body = Bytes::from(pieces.concat());
        if let Ok(Some((new_head, new_body))) = to_seven_bit(&head, &body) {
            prop_assert!(new_body.is_ascii());
            prop_assert_eq!(piecewise(&head, &body, size).unwrap(), &new_body[..]);
            let before = MimeParts::parse(&head, body.clone()).unwrap();
            let after = MimeParts::parse(&new_head, new_body.clone()).unwrap();
            prop_assert_eq!(before.list().len(), after.list().len());
            for (old, new) in before.list().iter().zip(after.list()) {
                prop_assert_eq!((old.parent, &old.content_type), (new.parent, &new.content_type));
                if before.is_leaf(old.index) {
                    prop_assert_eq!(before.content(old.index), after.content(new.index));
                }
            }
            prop_assert!(to_seven_bit(&new_head, &new_body).unwrap().is_none());
        }
    }

    #[test]
    fn any_octets(body in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..20) {
        let head = head("Content-Type: multipart/mixed; boundary=\"a\"\r\n");
        let whole = to_seven_bit(&head, &body);
        prop_assert_eq!(piecewise(&head, &body, size).is_some(), whole.is_ok());
    }
}
