//! Edits of MIME parts: removal, replacement and addition, with a valid message as the result.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use bytes::Bytes;

use crate::mime::parser::{ENTITIES_MAX, EntityKind, PART_HEADER_BYTES_MAX};
use crate::mime::{Base64Writer, ContentType, QuotedPrintableWriter};
use crate::parts::{MimeParts, PartExtent, TooManyParts};
use crate::{Field, FieldError, HeaderBlock};

/// Maximum octets of a line without line end, in headers and in unencoded content (RFC 5322 §2.1.1).
const LINE_BYTES_MAX: usize = 998;
/// Maximum octets of the header of a new part.
const NEW_HEADER_BYTES_MAX: usize = 16 << 10;
/// Prefix of generated boundaries, followed by a number.
const BOUNDARY_PREFIX: &[u8] = b"=_waxwing_";
/// Digits of the number: more than enough for the boundaries of any message in memory.
const BOUNDARY_DIGITS_MAX: usize = 12;
/// Replacement for the last part of a multipart, since a multipart needs at least one.
const EMPTY_PART: &[u8] = b"Content-Type: text/plain\r\n\r\n";

/// Content of a new part; the transfer encoding is chosen automatically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPart {
    /// Media type with parameters. Neither multipart nor message.
    pub content_type: String,
    /// File name; its presence makes the part an attachment.
    pub filename: Option<String>,
    /// Octets of the content; line ends of text may be LF or CRLF.
    pub content: Bytes,
}

/// Edit of a part. Indexes refer to the parts before all edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartEdit {
    /// Removes a part with all nested parts.
    Drop(u32),
    /// Replaces a part; index 0 is the content of the whole message.
    Replace(u32, NewPart),
    /// Adds a part at the end; a message of another type becomes multipart/mixed.
    Add(NewPart),
}

/// Reason for refusing an edit of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartEditError {
    /// No part with the given index.
    #[error("there is no part {0}")]
    NoSuchPart(u32),
    /// The message itself can't be dropped.
    #[error("the message itself can't be dropped")]
    RootPart,
    /// An enclosed message can only be changed together with its header.
    #[error("part {0} is the content of an enclosed message")]
    EnclosedMessage(u32),
    /// A part of multipart/signed or multipart/encrypted can't be changed; the multipart as a whole can.
    #[error("part {0} is signed or encrypted")]
    SignedOrEncrypted(u32),
    /// Content type malformed, multipart or message, or file name too long for a header field.
    #[error("the content type is malformed, multipart, message, or with the file name too long")]
    BadContentType,
    /// The Content-… fields of the message exceed the limit for the header of a part (64 KiB), so the message can't
    /// become a part.
    #[error("the Content-... fields of the message are longer than the header of a part may be")]
    HeaderTooLong,
    /// File name or content type not valid in a header field.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The message has too many parts.
    #[error(transparent)]
    TooManyParts(#[from] TooManyParts),
}

/// Applies edits. A later edit of the same part wins; edits within a dropped or replaced part have no effect. All
/// octets of other parts stay unchanged.
pub fn edit_parts(header: &HeaderBlock, body: &Bytes, edits: &[PartEdit]) -> Result<(HeaderBlock, Bytes), PartEditError> {
    edit_parsed_parts(header, &MimeParts::parse(header, body.clone())?, edits)
}

/// Applies edits as [`edit_parts`] does, to parts parsed before.
pub(crate) fn edit_parsed_parts(
    header: &HeaderBlock,
    parts: &MimeParts,
    edits: &[PartEdit],
) -> Result<(HeaderBlock, Bytes), PartEditError> {
    let mut header = header.clone();
    let mut changes: Vec<PartChange> = Vec::new();
    let mut added = Vec::new();
    let mut whole = None;
    let delimiters = Delimiters::from_parts(parts);
    let encode = |new: &NewPart| encode_part(new, &delimiters);
    for edit in edits {
        match edit {
            PartEdit::Drop(index) => {
                changes.push(PartChange { index: *index, extent: editable_extent(parts, *index)?, replacement: None })
            }
            PartEdit::Replace(0, new) => whole = Some(encode(new)?),
            PartEdit::Replace(index, new) => {
                changes.push(PartChange {
                    index: *index,
                    extent: editable_extent(parts, *index)?,
                    replacement: Some(encode(new)?),
                });
            }
            PartEdit::Add(new) => added.push(encode(new)?),
        }
    }
    let body = match whole {
        Some(encoded) => {
            header = replace_content_fields(&header, &encoded.fields);
            encoded.content.into()
        }
        None => splice_parts(parts, changes),
    };
    if added.is_empty() { Ok((header, body)) } else { append_parts(&header, body, &added) }
}

/// Checks a single edit. A valid edit stays valid in combination with others, except for the number of parts.
pub(crate) fn check_edit(header: &HeaderBlock, parts: &MimeParts, edit: &PartEdit) -> Result<(), PartEditError> {
    match edit {
        PartEdit::Drop(index) => editable_extent(parts, *index).map(drop),
        PartEdit::Replace(index, new) => {
            if *index > 0 {
                editable_extent(parts, *index)?;
            }
            part_header_fields(new, "base64").map(drop)
        }
        PartEdit::Add(new) => {
            part_header_fields(new, "base64")?;
            message_as_part(header).map(drop)
        }
    }
}

/// Delimiters `--boundary` of all multiparts. There may be hundreds of boundaries, and large content full of similar
/// lines.
struct Delimiters {
    all: HashSet<Vec<u8>>,
    lengths: BTreeSet<usize>,
}

impl Delimiters {
    fn from_parts(parts: &MimeParts) -> Self {
        let boundary =
            |part: &crate::MimePart| parts.extent(part.index)?.content_type.boundary().map(|b| format!("--{b}").into_bytes());
        let all: HashSet<Vec<u8>> = parts.list().iter().filter_map(boundary).collect();
        let lengths = all.iter().map(Vec::len).collect();
        Self { all, lengths }
    }

    /// Returns whether some line of the text begins with a delimiter.
    fn occurs_in(&self, text: &[u8]) -> bool {
        let parts = |line: &[u8]| self.lengths.iter().map_while(|n| line.get(..*n)).any(|start| self.all.contains(start));
        text.split(|b| *b == b'\n').filter(|line| line.starts_with(b"--")).any(parts)
    }
}

struct PartChange<'p> {
    index: u32,
    extent: &'p PartExtent,
    /// New content; `None` drops the part.
    replacement: Option<EncodedPart>,
}

fn editable_extent(parts: &MimeParts, index: u32) -> Result<&PartExtent, PartEditError> {
    let extent = parts.extent(index).ok_or(PartEditError::NoSuchPart(index))?;
    let parent = parts.list().get(index as usize).and_then(|part| part.parent).ok_or(PartEditError::RootPart)?;
    match parts.extent(parent).map(|extent| extent.kind) {
        Some(EntityKind::Multipart) if extent.signed_or_encrypted => Err(PartEditError::SignedOrEncrypted(index)),
        Some(EntityKind::Multipart) => Ok(extent),
        Some(EntityKind::Message | EntityKind::Leaf) | None => Err(PartEditError::EnclosedMessage(index)),
    }
}

/// Returns the body with the changed parts.
fn splice_parts(parts: &MimeParts, mut changes: Vec<PartChange<'_>>) -> Bytes {
    if changes.is_empty() {
        return parts.body().clone();
    }
    // The last edit of a part wins.
    changes.reverse();
    let mut seen = Vec::new();
    changes.retain(|change| {
        !seen.contains(&change.index) && {
            seen.push(change.index);
            true
        }
    });
    changes.sort_by_key(|change| change.index);
    let children = |parent: u32| parts.list().iter().filter(move |part| part.parent == Some(parent)).map(|part| part.index);
    let dropped: Vec<u32> = changes.iter().filter(|c| c.replacement.is_none()).map(|c| c.index).collect();
    let mut pieces: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    for change in changes {
        let PartExtent { delimiter_start: lead, header_start: head, content, .. } = change.extent;
        if pieces.last().is_some_and(|(range, _)| range.contains(head)) {
            continue;
        }
        match change.replacement {
            Some(encoded) => pieces.push((*head..content.end, encoded.to_bytes())),
            None => {
                let parent = parts.list().get(change.index as usize).and_then(|part| part.parent).unwrap_or(0);
                let is_first_of_none_left =
                    children(parent).next() == Some(change.index) && children(parent).all(|child| dropped.contains(&child));
                if is_first_of_none_left {
                    pieces.push((*head..content.end, EMPTY_PART.to_vec()));
                } else {
                    pieces.push((*lead..content.end, Vec::new()));
                }
            }
        }
    }
    let mut out = Vec::with_capacity(parts.body().len());
    let mut done = 0;
    for (range, by) in pieces {
        out.extend_from_slice(parts.body().get(done..range.start).unwrap_or_default());
        out.extend_from_slice(&by);
        done = range.end;
    }
    out.extend_from_slice(parts.body().get(done..).unwrap_or_default());
    out.into()
}

/// Adds parts at the end.
fn append_parts(header: &HeaderBlock, body: Bytes, added: &[EncodedPart]) -> Result<(HeaderBlock, Bytes), PartEditError> {
    let parts = MimeParts::parse(header, body.clone())?;
    // The message itself may become a part, so another part is counted.
    if parts.list().len() + added.len() >= ENTITIES_MAX as usize {
        return Err(TooManyParts.into());
    }
    let root = parts.extent(0).ok_or(PartEditError::NoSuchPart(0))?;
    let mut out = Vec::with_capacity(body.len() + 1024);
    if let Some(boundary) =
        root.content_type.boundary().filter(|_| root.content_type.subtype == "mixed" && root.kind == EntityKind::Multipart)
    {
        let end = root.close_delimiter_start.unwrap_or(body.len());
        out.extend_from_slice(body.get(..end).unwrap_or_default());
        for part in added {
            push_part(&mut out, boundary, &part.to_bytes());
        }
        match root.close_delimiter_start {
            Some(close) => out.extend_from_slice(body.get(close..).unwrap_or_default()),
            None => out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes()),
        }
        return Ok((header.clone(), out.into()));
    }
    let mut first = message_as_part(header)?;
    first.extend_from_slice(&body);
    let boundary = unused_boundary(&first, added);
    push_part(&mut out, &boundary, &first);
    for part in added {
        push_part(&mut out, &boundary, &part.to_bytes());
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let mut fields = vec![Field::new("Content-Type", format!("multipart/mixed; boundary=\"{boundary}\"").as_bytes())?];
    if !body.is_ascii() {
        // RFC 2045 §6.4: a multipart with 8bit parts must be labelled 8bit.
        fields.push(Field::new("Content-Transfer-Encoding", b"8bit")?);
    }
    Ok((replace_content_fields(header, &fields), out.into()))
}

/// Header of the message content as a part, with the empty line after the header.
fn message_as_part(header: &HeaderBlock) -> Result<Vec<u8>, PartEditError> {
    let mut out = Vec::new();
    for field in header.fields().iter().filter(|field| is_content_field(field)) {
        push_field(&mut out, field);
    }
    if out.len() > PART_HEADER_BYTES_MAX {
        return Err(PartEditError::HeaderTooLong);
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// Appends a field. A header at the very end of a message may lack the last line end, so the line end is added.
fn push_field(out: &mut Vec<u8>, field: &Field) {
    out.extend_from_slice(field.raw());
    if !field.raw().ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
}

fn push_part(out: &mut Vec<u8>, boundary: &str, part: &[u8]) {
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
    out.extend_from_slice(part);
}

/// Returns a boundary that occurs nowhere in the content. Linear time even for a message with a million similar
/// boundaries.
fn unused_boundary(first: &[u8], added: &[EncodedPart]) -> String {
    let mut taken = HashSet::new();
    for text in added.iter().map(|part| part.content.as_slice()).chain([first]) {
        for at in memchr::memmem::find_iter(text, BOUNDARY_PREFIX) {
            // `_12` contains `_1` too.
            let mut number = 0_usize;
            for digit in text.iter().skip(at + BOUNDARY_PREFIX.len()).take(BOUNDARY_DIGITS_MAX).take_while(|b| b.is_ascii_digit())
            {
                number = number * 10 + usize::from(digit - b'0');
                taken.insert(number);
            }
        }
    }
    let number = (0..).find(|number| !taken.contains(number)).unwrap_or(taken.len());
    format!("{}{number}", String::from_utf8_lossy(BOUNDARY_PREFIX))
}

pub(crate) fn is_content_field(field: &Field) -> bool {
    field.name().get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-"))
}

/// Returns the header with `fields` in place of all Content-… fields, and with MIME-Version.
fn replace_content_fields(header: &HeaderBlock, fields: &[Field]) -> HeaderBlock {
    let mut raw = Vec::with_capacity(header.size());
    for field in header.fields().iter().filter(|field| !is_content_field(field)) {
        push_field(&mut raw, field);
    }
    if header.first("MIME-Version").is_none() {
        raw.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    for field in fields {
        raw.extend_from_slice(field.raw());
    }
    HeaderBlock::parse(raw.into(), true)
}

/// New part, encoded.
struct EncodedPart {
    fields: Vec<Field>,
    content: Vec<u8>,
}

impl EncodedPart {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.content.len() + 256);
        for field in &self.fields {
            out.extend_from_slice(field.raw());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.content);
        out
    }
}

/// Chooses an encoding: base64 for all but text, and for text with a line equal to a delimiter.
fn encode_part(new: &NewPart, delimiters: &Delimiters) -> Result<EncodedPart, PartEditError> {
    let kind = top_level_type(new)?;
    let (encoding, content) = match kind.as_str() {
        "text" => match encode_text(&normalize_line_ends(&new.content)) {
            (_, content) if delimiters.occurs_in(&content) => ("base64", encode_base64(&normalize_line_ends(&new.content))),
            encoded => encoded,
        },
        _ => ("base64", encode_base64(&new.content)),
    };
    Ok(EncodedPart { fields: part_header_fields(new, encoding)?, content })
}

fn top_level_type(new: &NewPart) -> Result<String, PartEditError> {
    let media = ContentType::parse(&new.content_type).ok_or(PartEditError::BadContentType)?;
    if media.top_level_type == "multipart" || media.top_level_type == "message" {
        Err(PartEditError::BadContentType)
    } else {
        Ok(media.top_level_type)
    }
}

/// Header fields of a new part.
fn part_header_fields(new: &NewPart, encoding: &str) -> Result<Vec<Field>, PartEditError> {
    top_level_type(new)?;
    let mut fields = vec![
        Field::new("Content-Type", new.content_type.as_bytes())?,
        Field::new("Content-Transfer-Encoding", encoding.as_bytes())?,
    ];
    if let Some(filename) = &new.filename {
        fields.push(Field::new("Content-Disposition", attachment_disposition(filename).as_bytes())?);
    }
    let size: usize = fields.iter().map(|field| field.raw().len()).sum();
    let long = |field: &Field| field.raw().split(|b| *b == b'\n').any(|line| line.len() > LINE_BYTES_MAX);
    if size > NEW_HEADER_BYTES_MAX || fields.iter().any(long) {
        return Err(PartEditError::BadContentType);
    }
    Ok(fields)
}

fn encode_base64(octets: &[u8]) -> Vec<u8> {
    let (mut writer, mut out) = (Base64Writer::default(), Vec::new());
    writer.push(octets, &mut out);
    writer.finish(false, &mut out);
    out
}

/// Encodes text as 7bit if possible, else as quoted-printable.
fn encode_text(text: &[u8]) -> (&'static str, Vec<u8>) {
    let fits = |line: &[u8]| line.len() <= LINE_BYTES_MAX && !line.contains(&b'\r') && !line.contains(&0);
    let mut lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if text.is_ascii() && lines.all(fits) {
        return ("7bit", text.to_vec());
    }
    let (mut writer, mut out) = (QuotedPrintableWriter::default(), Vec::new());
    writer.push(text, &mut out);
    writer.finish(false, &mut out);
    ("quoted-printable", out)
}

/// Converts every line end to CRLF.
fn normalize_line_ends(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut before = 0;
    for byte in text {
        if *byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(*byte);
        before = *byte;
    }
    out
}

/// Returns `attachment` with the file name, encoded by RFC 2231 if not plain ASCII.
fn attachment_disposition(filename: &str) -> String {
    if filename.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        let quoted = filename.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("attachment; filename=\"{quoted}\"");
    }
    let mut out = String::from("attachment; filename*=utf-8''");
    for byte in filename.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> HeaderBlock {
        HeaderBlock::parse(Bytes::copy_from_slice(text.as_bytes()), true)
    }

    fn new(content_type: &str, content: &str) -> NewPart {
        NewPart { content_type: content_type.into(), filename: None, content: Bytes::copy_from_slice(content.as_bytes()) }
    }

    const HEAD: &str = "Subject: s\r\nContent-Type: multipart/mixed; boundary=x\r\nMIME-Version: 1.0\r\n";
    const BODY: &[u8] = b"--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--\r\n";

    fn edit(edits: &[PartEdit]) -> Result<(HeaderBlock, Bytes), PartEditError> {
        edit_parts(&head(HEAD), &Bytes::from_static(BODY), edits)
    }

    fn edited(edits: &[PartEdit]) -> String {
        String::from_utf8(edit(edits).unwrap().1.to_vec()).unwrap()
    }

    #[test]
    fn drops_and_replaces() {
        assert_eq!(edited(&[PartEdit::Drop(1)]), "\r\n--x\r\n\r\ntwo\r\n--x--\r\n");
        assert_eq!(edited(&[PartEdit::Drop(2)]), "--x\r\n\r\none\r\n--x--\r\n");
        assert_eq!(
            edited(&[PartEdit::Drop(1), PartEdit::Replace(2, new("text/html; charset=utf-8", "<p>ä\n"))]),
            "\r\n--x\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=C3=A4\r\n\r\n--x--\r\n"
        );
        assert_eq!(
            edited(&[PartEdit::Drop(1), PartEdit::Drop(2)]),
            "--x\r\nContent-Type: text/plain\r\n\r\n\r\n--x--\r\n",
            "a multipart has a part"
        );
        assert_eq!(edited(&[]).as_bytes(), BODY);
        let parting = edited(&[PartEdit::Replace(2, new("text/plain", "a\n--x--\n"))]);
        assert!(parting.contains("base64") && parting.matches("--x--").count() == 1, "{parting}");
    }

    #[test]
    fn adds() {
        let mut file = new("application/x", "\0");
        file.filename = Some("ü \".x".into());
        assert_eq!(
            edited(&[PartEdit::Add(file)]),
            "--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename*=utf-8''%C3%BC%20%22.x\r\n\r\nAA==\r\n--x--\r\n"
        );
        let plain = head("Subject: s\r\nContent-Type: text/plain\r\n");
        let body = Bytes::from_static(b"=_waxwing_0 is here\r\n");
        let (wrapped, body) = edit_parts(&plain, &body, &[PartEdit::Add(new("text/plain", "added"))]).unwrap();
        assert_eq!(
            String::from_utf8(wrapped.to_bytes(false).to_vec()).unwrap(),
            "Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_waxwing_1\"\r\n\r\n"
        );
        let parts = MimeParts::parse(&wrapped, body).unwrap();
        assert_eq!(parts.list().len(), 3);
        assert_eq!(parts.content(1).as_deref(), Some(&b"=_waxwing_0 is here\r\n"[..]));
        assert_eq!(parts.content(2).as_deref(), Some(&b"added"[..]));
    }

    #[test]
    fn replaces_the_whole() {
        let (head, body) = edit(&[PartEdit::Replace(0, new("text/plain", "gone\n"))]).unwrap();
        assert_eq!(&body[..], b"gone\r\n");
        assert_eq!(head.count("Content-Type"), 1);
        assert_eq!(head.first("content-type").unwrap().value(), b"text/plain");
    }

    #[test]
    fn refuses() {
        assert_eq!(edit(&[PartEdit::Drop(0)]).unwrap_err(), PartEditError::RootPart);
        assert_eq!(edit(&[PartEdit::Drop(3)]).unwrap_err(), PartEditError::NoSuchPart(3));
        for bad in ["multipart/mixed", "message/rfc822", "text", "te xt/plain"] {
            assert_eq!(edit(&[PartEdit::Add(new(bad, ""))]).unwrap_err(), PartEditError::BadContentType, "{bad}");
        }
        let evil = edit(&[PartEdit::Add(new("text/plain;\r\nBcc: x=y", ""))]);
        assert_eq!(evil.unwrap_err(), PartEditError::Field(FieldError::BadValue));
        let signed = head("Content-Type: multipart/signed; boundary=x\r\n");
        assert_eq!(
            edit_parts(&signed, &Bytes::from_static(BODY), &[PartEdit::Drop(1)]).unwrap_err(),
            PartEditError::SignedOrEncrypted(1)
        );
        let enclosed = edit_parts(
            &head(HEAD),
            &Bytes::from_static(b"--x\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nc\r\n--x--\r\n"),
            &[PartEdit::Drop(2)],
        );
        assert_eq!(enclosed.unwrap_err(), PartEditError::EnclosedMessage(2));
    }

    proptest! {
        /// Untouched parts stay, whatever is dropped, replaced and added.
        #[test]
        fn others_stay(
            contents in proptest::collection::vec("([a-z\u{e4} ][a-z -]{0,9})?", 1..6),
            changes in proptest::collection::vec((1_u32..6, any::<bool>()), 0..4),
            add in any::<bool>(),
        ) {
            let body: String = contents.iter().map(|c| format!("--x\r\n\r\n{c}\r\n")).collect::<String>() + "--x--\r\n";
            let count = u32::try_from(contents.len()).unwrap();
            let changes: Vec<_> = changes.into_iter().filter(|(index, _)| *index <= count).collect();
            let mut edits: Vec<PartEdit> = changes
                .iter()
                .map(|(i, drop)| if *drop { PartEdit::Drop(*i) } else { PartEdit::Replace(*i, new("text/plain; charset=utf-8", "NEW\n--x\n")) })
                .collect();
            let mut wanted: Vec<Option<String>> = contents.into_iter().map(Some).collect();
            for (index, drop) in &changes {
                wanted[*index as usize - 1] = (!drop).then(|| "NEW\r\n--x\r\n".to_owned());
            }
            let mut wanted: Vec<String> = wanted.into_iter().flatten().collect();
            if wanted.is_empty() {
                wanted.push(String::new());
            }
            if add {
                edits.push(PartEdit::Add(new("text/plain", "ADDED")));
                wanted.push("ADDED".to_owned());
            }
            let (head, body) = edit_parts(&head(HEAD), &Bytes::from(body), &edits).unwrap();
            let parts = MimeParts::parse(&head, body).unwrap();
            let found: Vec<String> = parts.list().iter().skip(1).map(|p| parts.text(p.index).unwrap()).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
