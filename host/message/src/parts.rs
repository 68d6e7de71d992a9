//! MIME parts of a message, as shown to plugins.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::{MessageParser, MimeHeaders};

use crate::HeaderBlock;
use crate::mime::parser::{Entity, EntityKind, MimeParser, MimeVisitor};
use crate::mime::{ContentType, TransferEncoding, decode};

/// Error for a message with more than 1000 parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has more than 1000 parts")]
pub struct TooManyParts;

/// The message itself (index 0), or a MIME part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MimePart {
    /// Index, counted from 0 in the order of the message.
    pub index: u32,
    /// Index of the enclosing multipart or message.
    pub parent: Option<u32>,
    /// Media type such as `text/plain`, in lower case, without parameters.
    pub content_type: String,
    /// Parameter charset of Content-Type.
    pub charset: Option<String>,
    /// File name, decoded (RFC 2231, RFC 2047).
    pub filename: Option<String>,
    /// Meant for display: the disposition is inline, or the part is text without disposition and file name.
    pub inline: bool,
    /// Octets of the decoded content; for multiparts and messages, of all nested parts.
    pub size: u64,
}

/// Position of an entity in the body.
#[derive(Clone, Debug)]
pub(crate) struct PartExtent {
    /// Start of the preceding delimiter, including the line end before.
    pub(crate) delimiter_start: usize,
    /// Start of the header; equal to the start of the content for the message itself.
    pub(crate) header_start: usize,
    /// Octets of the body of the entity.
    pub(crate) content: Range<usize>,
    pub(crate) encoding: TransferEncoding,
    pub(crate) kind: EntityKind,
    pub(crate) signed_or_encrypted: bool,
    pub(crate) content_type: ContentType,
    /// Start of the closing delimiter of a multipart, including the line end before.
    pub(crate) close_delimiter_start: Option<usize>,
}

/// All parts of a message in memory.
#[derive(Clone, Debug)]
pub struct MimeParts {
    body: Bytes,
    list: Vec<MimePart>,
    extents: Vec<PartExtent>,
}

impl MimeParts {
    /// Parses the parts. Only fields accepted by [`HeaderBlock`] count: a line like `Fr om: x` is not a field.
    pub fn parse(header: &HeaderBlock, body: Bytes) -> Result<Self, TooManyParts> {
        let mut index = PartIndexer::default();
        let mut walker = MimeParser::new(header, &mut index);
        walker.push(&body, &mut index);
        if walker.overflowed() {
            return Err(TooManyParts);
        }
        walker.finish(&mut index);
        let end = index.position;
        index.close_nested(None, end);
        let mut parts = Self { body, list: Vec::new(), extents: Vec::new() };
        for (entity, extent, raw) in index.entries {
            let part_header = HeaderBlock::parse(raw.into(), true);
            let described = if entity.index == 0 { header } else { &part_header };
            let size = decode(extent.encoding, parts.body.get(extent.content.clone()).unwrap_or_default()).len() as u64;
            parts.list.push(describe_part(&entity, described, size));
            parts.extents.push(extent);
        }
        Ok(parts)
    }

    /// Returns the parts; the first is the message itself.
    #[must_use]
    pub fn list(&self) -> &[MimePart] {
        &self.list
    }

    /// Returns the body containing the parts.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns whether the part has content and no nested parts.
    #[must_use]
    pub fn is_leaf(&self, index: u32) -> bool {
        self.extent(index).is_some_and(|extent| extent.kind == EntityKind::Leaf)
    }

    /// Returns the decoded content of a part, or all nested octets of a multipart or message. `None` if there is no
    /// such part.
    #[must_use]
    pub fn content(&self, index: u32) -> Option<Bytes> {
        let extent = self.extent(index)?;
        let octets = self.body.get(extent.content.clone())?;
        Some(match decode(extent.encoding, octets) {
            Cow::Borrowed(_) => self.body.slice(extent.content.clone()),
            Cow::Owned(decoded) => decoded.into(),
        })
    }

    /// Returns the text of a part, decoded by charset. Unknown charsets are read as UTF-8, with invalid octets
    /// replaced.
    #[must_use]
    pub fn text(&self, index: u32) -> Option<String> {
        let content = self.content(index)?;
        let charset = self.list.get(index as usize)?.charset.as_deref().unwrap_or("utf-8");
        Some(match charset_decoder(charset.as_bytes()) {
            Some(decoder) => decoder(&content),
            None => String::from_utf8_lossy(&content).into_owned(),
        })
    }

    pub(crate) fn extent(&self, index: u32) -> Option<&PartExtent> {
        self.extents.get(index as usize)
    }
}

fn describe_part(entity: &Entity, header: &HeaderBlock, size: u64) -> MimePart {
    // Only fields accepted by [`HeaderBlock`] reach the external parser.
    let mut fields = Vec::new();
    for field in header.fields().iter().filter(|f| f.has_name("Content-Type") || f.has_name("Content-Disposition")) {
        fields.extend_from_slice(field.raw());
    }
    fields.extend_from_slice(b"\r\n");
    let parsed = MessageParser::default().parse_headers(&fields);
    let filename = parsed.as_ref().and_then(|m| m.attachment_name()).map(str::to_owned);
    let disposition = parsed.as_ref().and_then(|m| m.content_disposition()).map(|d| d.c_type.to_ascii_lowercase());
    let inline = match disposition.as_deref() {
        Some(kind) => kind == "inline",
        None => entity.content_type.top_level_type == "text" && filename.is_none(),
    };
    MimePart {
        index: entity.index,
        parent: entity.parent,
        content_type: entity.content_type.essence(),
        charset: entity.content_type.parameter("charset").map(str::to_ascii_lowercase),
        filename,
        inline,
        size,
    }
}

/// Recorder of the positions of entities.
#[derive(Default)]
struct PartIndexer {
    position: usize,
    /// Length of the line end before `at`, if not part of a leaf.
    line_end: usize,
    /// Start of the last delimiter, including the line end before (RFC 2046 §5.1.1).
    delimiter_start: usize,
    entries: Vec<(Entity, PartExtent, Vec<u8>)>,
    open: Vec<u32>,
}

impl PartIndexer {
    /// Ends all open entities nested within `multipart`.
    fn close_nested(&mut self, multipart: Option<u32>, end: usize) {
        while let Some(index) = self.open.pop_if(|open| Some(*open) != multipart) {
            if let Some((_, extent, _)) = self.entries.get_mut(index as usize) {
                extent.content.end = end;
            }
        }
    }
}

impl MimeVisitor for PartIndexer {
    fn header(&mut self, entity: &Entity, raw: &[u8], separator: &[u8]) {
        let head = self.position;
        self.position += raw.len() + separator.len();
        let extent = PartExtent {
            delimiter_start: self.delimiter_start,
            header_start: head,
            content: self.position..self.position,
            encoding: entity.encoding,
            kind: entity.kind,
            signed_or_encrypted: entity.signed_or_encrypted,
            content_type: entity.content_type.clone(),
            close_delimiter_start: None,
        };
        self.entries.push((entity.clone(), extent, raw.to_vec()));
        self.open.push(entity.index);
        self.line_end = 0;
    }

    fn content(&mut self, octets: &[u8]) {
        self.position += octets.len();
        self.line_end = 0;
    }

    fn leaf_end(&mut self, _at_end: bool) {}

    fn delimiter(&mut self, multipart: u32, closes: bool) {
        // The line end before a delimiter belongs to the delimiter. After a leaf that line end comes later, as framing.
        self.delimiter_start = self.position - self.line_end;
        self.close_nested(Some(multipart), self.delimiter_start);
        if closes && let Some((_, extent, _)) = self.entries.get_mut(multipart as usize) {
            extent.close_delimiter_start = Some(self.delimiter_start);
        }
    }

    fn frame(&mut self, octets: &[u8]) {
        self.position += octets.len();
        self.line_end = if octets.ends_with(b"\r\n") { 2 } else { usize::from(octets.ends_with(b"\n")) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str, body: &'static [u8]) -> MimeParts {
        MimeParts::parse(&HeaderBlock::parse(Bytes::copy_from_slice(head.as_bytes()), true), Bytes::from_static(body)).unwrap()
    }

    const MIXED: &[u8] = b"preamble\r\n--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Gr=FC=DFe=\r\n!\r\n--x\r\nContent-Type: application/pdf; name=\"=?utf-8?q?=C3=BC.pdf?=\"\r\nContent-Disposition: attachment;\r\n \
        filename*=utf-8''%C3%BC.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\naGVs\r\nbG8=\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n\
        Subject: inner\r\nContent-Type: text/html\r\n\r\n<p>\r\n--x--\r\nepilogue\r\n";

    #[test]
    fn lists_and_decodes() {
        let parts = read("Content-Type: multipart/mixed; boundary=x\r\n", MIXED);
        let line =
            |p: &MimePart| format!("{:?} {} {:?} {:?} {} {}", p.parent, p.content_type, p.charset, p.filename, p.inline, p.size);
        let lines: Vec<String> = parts.list().iter().map(line).collect();
        let whole = MIXED.len();
        assert_eq!(
            lines,
            [
                format!("None multipart/mixed None None false {whole}"),
                "Some(0) text/plain Some(\"iso-8859-1\") None true 6".to_owned(),
                "Some(0) application/pdf None Some(\"ü.pdf\") false 5".to_owned(),
                "Some(0) message/rfc822 None None false 46".to_owned(),
                "Some(3) text/html None None true 3".to_owned(),
            ]
        );
        assert_eq!(parts.text(1).as_deref(), Some("Grüße!"));
        assert_eq!(parts.content(2).as_deref(), Some(&b"hello"[..]));
        assert_eq!(parts.content(4).as_deref(), Some(&b"<p>"[..]));
        assert!(parts.content(3).unwrap().starts_with(b"Subject: inner\r\n"));
        assert_eq!(parts.content(5), None);
    }

    #[test]
    fn a_header_name_with_a_space_is_no_header() {
        let parts = read("Subject: x\r\n", b"");
        assert_eq!(parts.list()[0].content_type, "text/plain");
        let inner =
            read("Content-Type: multipart/mixed; boundary=x\r\n", b"--x\r\nContent Type: text/html\r\n\r\n<p>\r\n--x--\r\n");
        assert_eq!(inner.list()[1].content_type, "text/plain");
        assert_eq!(inner.content(1).as_deref(), Some(&b"Content Type: text/html\r\n\r\n<p>"[..]), "it begins the body");
    }

    #[test]
    fn a_plain_message_is_its_own_part() {
        let parts = read("Content-Transfer-Encoding: base64\r\n", b"aGk=\r\n");
        assert_eq!((parts.list().len(), parts.list()[0].size), (1, 2));
        assert_eq!(parts.text(0).as_deref(), Some("hi"));
    }

    proptest! {
        /// The fields go through a parser that is not ours.
        #[test]
        fn any_fields_are_read(
            kind in r#"[a-z/;="*' (),?:@\\0-9%\r\n\t-]{0,60}|text/plain; name\*[0-9*]{0,3}=[a-z'%A-F0-9\PC"]{0,30}"#,
            disposition in r#"attachment; ?filename\*?[0-9]?\*?=[\PC"'=?%;]{0,40}|\PC{0,30}"#,
        ) {
            let head = format!("Content-Type: {kind}\r\nContent-Disposition: {disposition}\r\n");
            let head = HeaderBlock::parse(head.into_bytes().into(), true);
            prop_assert_eq!(MimeParts::parse(&head, Bytes::from_static(b"body")).unwrap().list()[0].index, 0);
        }

        #[test]
        fn any_octets_have_parts(body in proptest::collection::vec(prop_oneof![Just(b'-'), Just(b'x'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200)) {
            let head = HeaderBlock::parse(Bytes::from_static(b"Content-Type: multipart/digest; boundary=x\r\n"), true);
            let parts = MimeParts::parse(&head, body.clone().into()).unwrap();
            prop_assert_eq!(parts.list()[0].size, body.len() as u64);
            for part in parts.list() {
                prop_assert!(parts.content(part.index).is_some() && parts.text(part.index).is_some());
            }
        }
    }
}
