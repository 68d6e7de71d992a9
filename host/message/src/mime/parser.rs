//! Streaming parser for the MIME structure of a message, in memory independent of the size of the message.

use bytes::Bytes;
use memchr::memchr;

use super::{ContentType, TransferEncoding};
use crate::HeaderBlock;
use crate::field::field_name_len;

/// Maximum nesting depth of multiparts and messages.
const DEPTH_MAX: usize = 32;
/// Maximum number of entities in a message.
pub(crate) const ENTITIES_MAX: u32 = 1000;
/// Maximum octets of the header of a part.
pub(crate) const PART_HEADER_BYTES_MAX: usize = 64 << 10;
/// Octets of a line examined at once; delimiters are shorter.
const LINE_BYTES_BUFFERED_MAX: usize = 1024;

/// MIME entity: the message, a part, or an enclosed message.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    /// Index, counted from 0 for the message itself.
    pub(crate) index: u32,
    pub(crate) parent: Option<u32>,
    pub(crate) content_type: ContentType,
    pub(crate) encoding: TransferEncoding,
    pub(crate) kind: EntityKind,
    /// Lies within multipart/signed or multipart/encrypted.
    pub(crate) signed_or_encrypted: bool,
}

/// Kind of the body of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntityKind {
    /// Content without further structure.
    Leaf,
    /// Parts between delimiters.
    Multipart,
    /// Enclosed message with header and body.
    Message,
}

/// Receiver of parser events. Every octet of the body is passed exactly once and in order: in a header, as content, or
/// as framing.
pub(crate) trait MimeVisitor {
    /// Header of an entity. `separator` is the empty line after the header. For the message itself, with a header
    /// parsed elsewhere, both are empty.
    fn header(&mut self, entity: &Entity, raw: &[u8], separator: &[u8]);
    /// Octets of the leaf announced last.
    fn content(&mut self, octets: &[u8]);
    /// End of a leaf; `at_end`: the message ends too.
    fn leaf_end(&mut self, at_end: bool);
    /// Delimiter of the given multipart, before its octets: all entities open within the multipart have ended.
    fn delimiter(&mut self, multipart: u32, closes: bool);
    /// Delimiters with the preceding line end, preambles and epilogues.
    fn frame(&mut self, octets: &[u8]);
}

enum ParserState {
    Header { raw: Vec<u8>, parent: u32, default: ContentType },
    Leaf,
    Framing,
}

struct OpenMultipart {
    boundary: Vec<u8>,
    entity: u32,
    signed_or_encrypted: bool,
    digest: bool,
    /// The closing delimiter was found.
    closed: bool,
}

pub(crate) struct MimeParser {
    state: ParserState,
    open: Vec<OpenMultipart>,
    entities: u32,
    overflowed: bool,
    depth: usize,
    line: Vec<u8>,
    mid_line: bool,
    /// Line end of the last line of a leaf: part of the delimiter, if one follows.
    pending_line_end: &'static [u8],
}

impl MimeParser {
    /// Creates a parser, starting after the header of the message.
    pub(crate) fn new(header: &HeaderBlock, sink: &mut impl MimeVisitor) -> Self {
        let mut walker = Self {
            state: ParserState::Framing,
            open: Vec::new(),
            entities: 0,
            overflowed: false,
            depth: 0,
            line: Vec::new(),
            mid_line: false,
            pending_line_end: b"",
        };
        walker.enter_entity(header, None, &ContentType::text_plain(), (b"", b""), sink);
        walker
    }

    pub(crate) fn push(&mut self, mut input: &[u8], sink: &mut impl MimeVisitor) {
        while !input.is_empty() {
            let end = memchr(b'\n', input).map_or(input.len(), |at| at + 1);
            let (piece, rest) = input.split_at(end);
            input = rest;
            let whole = piece.ends_with(b"\n");
            if self.line.is_empty() && whole {
                self.process_piece(piece, true, sink);
                continue;
            }
            self.line.extend_from_slice(piece);
            if whole || self.line.len() > LINE_BYTES_BUFFERED_MAX {
                let line = std::mem::take(&mut self.line);
                self.process_piece(&line, whole, sink);
            }
        }
    }

    /// Returns whether the message has more than 1000 entities; later entities are not parsed.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(crate) fn finish(mut self, sink: &mut impl MimeVisitor) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.process_piece(&line, true, sink);
        }
        while matches!(self.state, ParserState::Header { .. }) {
            self.end_header(b"", sink);
        }
        if matches!(self.state, ParserState::Leaf) {
            self.flush_line_end(sink);
            sink.leaf_end(true);
        }
    }

    /// Processes a line, or a piece of a long line.
    fn process_piece(&mut self, line: &[u8], whole: bool, sink: &mut impl MimeVisitor) {
        if !self.mid_line
            && whole
            && let Some((level, closes)) = self.match_delimiter(line)
        {
            self.cross_delimiter(line, level, closes, sink);
            return;
        }
        if let ParserState::Header { raw, .. } = &mut self.state {
            let goes_on = self.mid_line || (matches!(line.first(), Some(b' ' | b'\t')) && !raw.is_empty());
            if !self.mid_line && matches!(line, b"\r\n" | b"\n") {
                self.end_header(line, sink);
                return;
            }
            if (goes_on || field_name_len(line).is_some()) && raw.len() + line.len() <= PART_HEADER_BYTES_MAX {
                raw.extend_from_slice(line);
                self.mid_line = !whole;
                return;
            }
            // A line other than a field ends the header, as for the message itself; likewise for enclosed messages.
            while matches!(self.state, ParserState::Header { .. }) {
                self.end_header(b"", sink);
            }
            if !self.mid_line
                && whole
                && let Some((level, closes)) = self.match_delimiter(line)
            {
                self.cross_delimiter(line, level, closes, sink);
                return;
            }
        }
        match &self.state {
            ParserState::Leaf => self.process_leaf_piece(line, whole, sink),
            ParserState::Header { .. } | ParserState::Framing => sink.frame(line),
        }
        self.mid_line = !whole;
    }

    fn process_leaf_piece(&mut self, line: &[u8], whole: bool, sink: &mut impl MimeVisitor) {
        self.flush_line_end(sink);
        let (text, end) = match line {
            [text @ .., b'\r', b'\n'] if whole => (text, &b"\r\n"[..]),
            [text @ .., b'\n'] if whole => (text, &b"\n"[..]),
            text => (text, &b""[..]),
        };
        if !text.is_empty() {
            sink.content(text);
        }
        self.pending_line_end = end;
    }

    fn flush_line_end(&mut self, sink: &mut impl MimeVisitor) {
        let end = std::mem::take(&mut self.pending_line_end);
        if !end.is_empty() {
            sink.content(end);
        }
    }

    /// Level of the multipart delimited by the line, innermost first, and whether the delimiter is the closing one.
    fn match_delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let rest = line.strip_prefix(b"--")?;
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            let tail = rest.strip_prefix(open.boundary.as_slice())?;
            let (tail, closes) = tail.strip_prefix(b"--").map_or((tail, false), |tail| (tail, true));
            (!open.closed && tail.iter().all(u8::is_ascii_whitespace)).then_some((level, closes))
        })
    }

    /// Closes all entities within the level and processes the delimiter.
    fn cross_delimiter(&mut self, line: &[u8], level: usize, closes: bool, sink: &mut impl MimeVisitor) {
        // A message enclosed without header and body.
        while matches!(self.state, ParserState::Header { .. }) {
            self.end_header(b"", sink);
        }
        if matches!(self.state, ParserState::Leaf) {
            sink.leaf_end(false);
        }
        self.open.truncate(level + 1);
        self.depth = level + 1;
        let end = std::mem::take(&mut self.pending_line_end);
        let Some(open) = self.open.last_mut() else { return };
        open.closed = closes;
        sink.delimiter(open.entity, closes);
        if !end.is_empty() {
            sink.frame(end);
        }
        sink.frame(line);
        self.overflowed |= !closes && self.entities >= ENTITIES_MAX;
        self.state = if closes || self.overflowed {
            ParserState::Framing
        } else {
            let default = if open.digest { ContentType::message_rfc822() } else { ContentType::text_plain() };
            ParserState::Header { raw: Vec::new(), parent: open.entity, default }
        };
    }

    fn end_header(&mut self, separator: &[u8], sink: &mut impl MimeVisitor) {
        let ParserState::Header { raw, parent, default } = std::mem::replace(&mut self.state, ParserState::Framing) else {
            return;
        };
        let raw = Bytes::from(raw);
        let header = HeaderBlock::parse(raw.clone(), !separator.is_empty());
        self.enter_entity(&header, Some(parent), &default, (&raw, separator), sink);
    }

    /// Announces an entity and starts parsing its body.
    fn enter_entity(
        &mut self,
        header: &HeaderBlock,
        parent: Option<u32>,
        default: &ContentType,
        (raw, separator): (&[u8], &[u8]),
        sink: &mut impl MimeVisitor,
    ) {
        let content_type = ContentType::from_header(header, default);
        let encoding = TransferEncoding::from_header(header);
        let descends = self.depth < DEPTH_MAX && self.entities < ENTITIES_MAX && encoding == TransferEncoding::Identity;
        let shape = match content_type.boundary() {
            Some(_) if descends => EntityKind::Multipart,
            None if descends && content_type.matches("message", "rfc822") => EntityKind::Message,
            Some(_) | None => EntityKind::Leaf,
        };
        let index = self.entities;
        self.entities += 1;
        let sealed = self.open.iter().any(|open| open.signed_or_encrypted);
        let entity = Entity { index, parent, content_type, encoding, kind: shape, signed_or_encrypted: sealed };
        sink.header(&entity, raw, separator);
        let content_type = &entity.content_type;
        match shape {
            EntityKind::Leaf => self.state = ParserState::Leaf,
            EntityKind::Message => {
                self.depth += 1;
                self.state = ParserState::Header { raw: Vec::new(), parent: index, default: ContentType::text_plain() };
            }
            EntityKind::Multipart => {
                self.depth += 1;
                self.open.push(OpenMultipart {
                    boundary: content_type.boundary().unwrap_or_default().as_bytes().to_vec(),
                    entity: index,
                    signed_or_encrypted: content_type.subtype == "signed" || content_type.subtype == "encrypted",
                    digest: content_type.subtype == "digest",
                    closed: false,
                });
                self.state = ParserState::Framing;
            }
        }
    }
}
