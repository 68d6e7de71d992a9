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
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Octets of a line examined at once; delimiters are shorter.
const LINE_BYTES_HELD: usize = 1024;

/// MIME entity: the message, a part, or an enclosed message.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    /// Index, counted from 0 for the message itself.
    pub(crate) index: u32,
    pub(crate) parent: Option<u32>,
    pub(crate) content_type: ContentType,
    pub(crate) encoding: TransferEncoding,
    pub(crate) shape: Shape,
    /// Lies within multipart/signed or multipart/encrypted.
    pub(crate) sealed: bool,
}

/// Kind of the body of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Content without further structure.
    Leaf,
    /// Parts between delimiters.
    Multipart,
    /// Enclosed message with header and body.
    Message,
}

/// Receiver of parser events. Every octet of the body is passed exactly once and in order: in a header, as content, or
/// as framing.
pub(crate) trait Sink {
    /// Header of an entity. `separator` is the empty line after the header. For the message itself, with a header
    /// parsed elsewhere, both are empty.
    fn head(&mut self, entity: &Entity, raw: &[u8], separator: &[u8]);
    /// Octets of the leaf announced last.
    fn content(&mut self, octets: &[u8]);
    /// End of a leaf; `at_end`: the message ends too.
    fn leaf_end(&mut self, at_end: bool);
    /// Delimiter of the given multipart, before its octets: all entities open within the multipart have ended.
    fn delimiter(&mut self, multipart: u32, closes: bool);
    /// Delimiters with the preceding line end, preambles and epilogues.
    fn frame(&mut self, octets: &[u8]);
}

enum State {
    Head { raw: Vec<u8>, parent: u32, default: ContentType },
    Leaf,
    Between,
}

struct Open {
    boundary: Vec<u8>,
    entity: u32,
    sealed: bool,
    digest: bool,
    /// The closing delimiter was found.
    closed: bool,
}

pub(crate) struct Walker {
    state: State,
    open: Vec<Open>,
    entities: u32,
    overflowed: bool,
    depth: usize,
    line: Vec<u8>,
    mid_line: bool,
    /// Line end of the last line of a leaf: part of the delimiter, if one follows.
    held_end: &'static [u8],
}

impl Walker {
    /// Creates a parser, starting after the header of the message.
    pub(crate) fn new(header: &HeaderBlock, sink: &mut impl Sink) -> Self {
        let mut walker = Self {
            state: State::Between,
            open: Vec::new(),
            entities: 0,
            overflowed: false,
            depth: 0,
            line: Vec::new(),
            mid_line: false,
            held_end: b"",
        };
        walker.enter(header, None, &ContentType::plain(), (b"", b""), sink);
        walker
    }

    pub(crate) fn push(&mut self, mut input: &[u8], sink: &mut impl Sink) {
        while !input.is_empty() {
            let end = memchr(b'\n', input).map_or(input.len(), |at| at + 1);
            let (piece, rest) = input.split_at(end);
            input = rest;
            let whole = piece.ends_with(b"\n");
            if self.line.is_empty() && whole {
                self.piece(piece, true, sink);
                continue;
            }
            self.line.extend_from_slice(piece);
            if whole || self.line.len() > LINE_BYTES_HELD {
                let line = std::mem::take(&mut self.line);
                self.piece(&line, whole, sink);
            }
        }
    }

    /// Returns whether the message has more than 1000 entities; later entities are not parsed.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(crate) fn finish(mut self, sink: &mut impl Sink) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.piece(&line, true, sink);
        }
        while matches!(self.state, State::Head { .. }) {
            self.end_head(b"", sink);
        }
        if matches!(self.state, State::Leaf) {
            self.release_end(sink);
            sink.leaf_end(true);
        }
    }

    /// Processes a line, or a piece of a long line.
    fn piece(&mut self, line: &[u8], whole: bool, sink: &mut impl Sink) {
        if !self.mid_line
            && whole
            && let Some((level, closes)) = self.delimiter(line)
        {
            self.cross(line, level, closes, sink);
            return;
        }
        if let State::Head { raw, .. } = &mut self.state {
            let goes_on = self.mid_line || (matches!(line.first(), Some(b' ' | b'\t')) && !raw.is_empty());
            if !self.mid_line && matches!(line, b"\r\n" | b"\n") {
                self.end_head(line, sink);
                return;
            }
            if (goes_on || field_name_len(line).is_some()) && raw.len() + line.len() <= HEAD_BYTES_MAX {
                raw.extend_from_slice(line);
                self.mid_line = !whole;
                return;
            }
            // A line other than a field ends the header, as for the message itself; likewise for enclosed messages.
            while matches!(self.state, State::Head { .. }) {
                self.end_head(b"", sink);
            }
            if !self.mid_line
                && whole
                && let Some((level, closes)) = self.delimiter(line)
            {
                self.cross(line, level, closes, sink);
                return;
            }
        }
        match &self.state {
            State::Leaf => self.leaf_piece(line, whole, sink),
            State::Head { .. } | State::Between => sink.frame(line),
        }
        self.mid_line = !whole;
    }

    fn leaf_piece(&mut self, line: &[u8], whole: bool, sink: &mut impl Sink) {
        self.release_end(sink);
        let (text, end) = match line {
            [text @ .., b'\r', b'\n'] if whole => (text, &b"\r\n"[..]),
            [text @ .., b'\n'] if whole => (text, &b"\n"[..]),
            text => (text, &b""[..]),
        };
        if !text.is_empty() {
            sink.content(text);
        }
        self.held_end = end;
    }

    fn release_end(&mut self, sink: &mut impl Sink) {
        let end = std::mem::take(&mut self.held_end);
        if !end.is_empty() {
            sink.content(end);
        }
    }

    /// Level of the multipart delimited by the line, innermost first, and whether the delimiter is the closing one.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let rest = line.strip_prefix(b"--")?;
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            let tail = rest.strip_prefix(open.boundary.as_slice())?;
            let (tail, closes) = tail.strip_prefix(b"--").map_or((tail, false), |tail| (tail, true));
            (!open.closed && tail.iter().all(u8::is_ascii_whitespace)).then_some((level, closes))
        })
    }

    /// Closes all entities within the level and processes the delimiter.
    fn cross(&mut self, line: &[u8], level: usize, closes: bool, sink: &mut impl Sink) {
        // A message enclosed without header and body.
        while matches!(self.state, State::Head { .. }) {
            self.end_head(b"", sink);
        }
        if matches!(self.state, State::Leaf) {
            sink.leaf_end(false);
        }
        self.open.truncate(level + 1);
        self.depth = level + 1;
        let end = std::mem::take(&mut self.held_end);
        let Some(open) = self.open.last_mut() else { return };
        open.closed = closes;
        sink.delimiter(open.entity, closes);
        if !end.is_empty() {
            sink.frame(end);
        }
        sink.frame(line);
        self.overflowed |= !closes && self.entities >= ENTITIES_MAX;
        self.state = if closes || self.overflowed {
            State::Between
        } else {
            let default = if open.digest { ContentType::message() } else { ContentType::plain() };
            State::Head { raw: Vec::new(), parent: open.entity, default }
        };
    }

    fn end_head(&mut self, separator: &[u8], sink: &mut impl Sink) {
        let State::Head { raw, parent, default } = std::mem::replace(&mut self.state, State::Between) else { return };
        let raw = Bytes::from(raw);
        let header = HeaderBlock::parse(raw.clone(), !separator.is_empty());
        self.enter(&header, Some(parent), &default, (&raw, separator), sink);
    }

    /// Announces an entity and starts parsing its body.
    fn enter(
        &mut self,
        header: &HeaderBlock,
        parent: Option<u32>,
        default: &ContentType,
        (raw, separator): (&[u8], &[u8]),
        sink: &mut impl Sink,
    ) {
        let content_type = ContentType::of(header, default);
        let encoding = TransferEncoding::of(header);
        let descends = self.depth < DEPTH_MAX && self.entities < ENTITIES_MAX && encoding == TransferEncoding::Identity;
        let shape = match content_type.boundary() {
            Some(_) if descends => Shape::Multipart,
            None if descends && content_type.is("message", "rfc822") => Shape::Message,
            Some(_) | None => Shape::Leaf,
        };
        let index = self.entities;
        self.entities += 1;
        let sealed = self.open.iter().any(|open| open.sealed);
        let entity = Entity { index, parent, content_type, encoding, shape, sealed };
        sink.head(&entity, raw, separator);
        let content_type = &entity.content_type;
        match shape {
            Shape::Leaf => self.state = State::Leaf,
            Shape::Message => {
                self.depth += 1;
                self.state = State::Head { raw: Vec::new(), parent: index, default: ContentType::plain() };
            }
            Shape::Multipart => {
                self.depth += 1;
                self.open.push(Open {
                    boundary: content_type.boundary().unwrap_or_default().as_bytes().to_vec(),
                    entity: index,
                    sealed: content_type.subtype == "signed" || content_type.subtype == "encrypted",
                    digest: content_type.subtype == "digest",
                    closed: false,
                });
                self.state = State::Between;
            }
        }
    }
}
