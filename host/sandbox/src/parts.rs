//! The MIME parts of a message (RFC 2045, RFC 2046), transfer encodings undone.

use bytes::Bytes;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{ContentType, Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};

/// One part; a message without MIME has one. A message within the message is one part, not taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) parent: Option<u32>,
    pub(crate) content_type: String,
    pub(crate) charset: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) inline: bool,
    /// Empty for a multipart. None if its transfer encoding is broken.
    pub(crate) content: Option<Bytes>,
}

/// All parts, parents before their children.
pub(crate) fn index(raw: &Bytes) -> Vec<Part> {
    let Some(message) = MessageParser::default().parse(&raw[..]) else { return Vec::new() };
    message.parts.iter().enumerate().map(|(id, part)| read(raw, &message, id, part)).collect()
}

fn read(raw: &Bytes, message: &Message<'_>, id: usize, part: &MessagePart<'_>) -> Part {
    let content_type = part.content_type();
    let attribute = |name: &str| content_type.and_then(|c| c.attribute(name)).map(str::to_owned);
    Part {
        parent: parent_of(message, id),
        content_type: content_type.map_or_else(|| "text/plain".to_owned(), full_type),
        charset: attribute("charset"),
        filename: part.attachment_name().map(str::to_owned),
        inline: !part.content_disposition().is_some_and(|d| d.is_attachment()),
        content: content(raw, part),
    }
}

fn full_type(content_type: &ContentType<'_>) -> String {
    match content_type.subtype() {
        Some(subtype) => format!("{}/{subtype}", content_type.ctype()).to_lowercase(),
        None => content_type.ctype().to_lowercase(),
    }
}

fn parent_of(message: &Message<'_>, id: usize) -> Option<u32> {
    let is_parent = |part: &MessagePart<'_>| part.sub_parts().is_some_and(|children| children.iter().any(|c| *c as usize == id));
    message.parts.iter().position(is_parent).and_then(|at| u32::try_from(at).ok())
}

/// As the octets were before the transfer encoding: the parser's own text has its character set changed.
fn content(raw: &Bytes, part: &MessagePart<'_>) -> Option<Bytes> {
    if matches!(part.body, PartType::Multipart(_)) {
        return Some(Bytes::new());
    }
    let (start, end) = (part.offset_body as usize, part.offset_end as usize);
    let encoded = raw.get(start..end)?;
    match part.encoding {
        Encoding::None => Some(raw.slice(start..end)),
        Encoding::Base64 => base64_decode(encoded).map(Bytes::from),
        Encoding::QuotedPrintable => quoted_printable_decode(encoded).map(Bytes::from),
    }
}

/// A field's value with its encoded words (RFC 2047) decoded.
pub(crate) fn decoded(value: &str) -> String {
    if !value.contains("=?") {
        return value.to_owned();
    }
    let line = format!("{value}\n");
    let text = mail_parser::parsers::MessageStream::new(line.as_bytes()).parse_unstructured();
    text.as_text().map_or_else(|| value.to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\nbefore\r\n--x\r\n\
        Content-Type: multipart/alternative; boundary=y\r\n\r\n--y\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9\r\n--y\r\nContent-Type: TEXT/HTML\r\n\r\n<p>hi</p>\r\n--y--\r\n\
        --x\r\nContent-Type: application/octet-stream; name=a.bin\r\nContent-Disposition: attachment; filename=\"a.bin\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\nAw==\r\n--x--\r\nafter\r\n";

    #[test]
    fn parts_keep_their_octets_and_places() {
        let parts = index(&Bytes::from_static(MIXED.as_bytes()));
        let shown: Vec<_> = parts
            .iter()
            .map(|p| {
                (p.parent, &*p.content_type, p.charset.as_deref(), p.filename.as_deref(), p.inline, p.content.as_deref().unwrap())
            })
            .collect();
        assert_eq!(
            shown,
            [
                (None, "multipart/mixed", None, None, true, &b""[..]),
                (Some(0), "multipart/alternative", None, None, true, b""),
                (Some(1), "text/plain", Some("iso-8859-1"), None, true, b"caf\xe9"),
                (Some(1), "text/html", None, None, true, b"<p>hi</p>"),
                (Some(0), "application/octet-stream", None, Some("a.bin"), false, b"\x00\x01\x02\x03"),
            ]
        );
    }

    #[test]
    fn a_plain_message_is_one_part() {
        let parts = index(&Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n"));
        assert_eq!(
            (parts.len(), &*parts[0].content_type, parts[0].content.as_deref()),
            (1, "text/plain", Some(&b"body\r\n"[..]))
        );
        assert_eq!(index(&Bytes::new()), []);
    }

    #[test]
    fn encoded_words_are_read() {
        assert_eq!(decoded("=?utf-8?Q?caf=C3=A9?= =?utf-8?B?ISE=?= end"), "café!! end");
        assert_eq!(decoded("a =? b"), "a =? b");
    }
}
