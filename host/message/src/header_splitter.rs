//! Splitter for header and body of a message received in pieces.

use bytes::Bytes;
use memchr::memchr;

use crate::HeaderBlock;
use crate::field::field_name_len;

/// Error for a header longer than `header_size_limit` octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header is longer than {limit} octets")]
pub struct HeaderTooLarge {
    /// The limit, octets.
    pub limit: usize,
}

/// Result of adding a piece.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderSplit {
    /// The header goes on.
    Incomplete,
    /// The header, and the first octets of the body.
    Complete(HeaderBlock, Bytes),
}

/// Collects a header up to a limit. The header ends at the first empty line, or before the first line that is neither a
/// field nor a continuation line.
#[derive(Debug)]
pub struct HeaderSplitter {
    held: Vec<u8>,
    /// Start of the first line not yet examined.
    next_line: usize,
    limit: usize,
}

/// End of a header: octets of the fields, and of the empty line after the fields.
struct HeaderEnd {
    fields: usize,
    separator: usize,
}

impl HeaderSplitter {
    /// Creates a splitter; `limit` is `header_size_limit` in octets.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { held: Vec::new(), next_line: 0, limit }
    }

    /// Adds the next piece of the message.
    pub fn push(&mut self, piece: Bytes) -> Result<HeaderSplit, HeaderTooLarge> {
        if self.held.is_empty() {
            let end = find_header_end(&piece, &mut self.next_line);
            self.check_limit()?;
            return Ok(match end {
                Some(end) => split_message(piece, &end),
                None => {
                    self.held.extend_from_slice(&piece);
                    HeaderSplit::Incomplete
                }
            });
        }
        self.held.extend_from_slice(&piece);
        let end = find_header_end(&self.held, &mut self.next_line);
        self.check_limit()?;
        Ok(match end {
            Some(end) => split_message(Bytes::from(std::mem::take(&mut self.held)), &end),
            None => {
                if self.held.len() > self.limit {
                    return Err(HeaderTooLarge { limit: self.limit });
                }
                HeaderSplit::Incomplete
            }
        })
    }

    /// Ends the message without an end of the header: all is header, or the last line is body.
    #[must_use]
    pub fn finish(self) -> (HeaderBlock, Bytes) {
        let whole = Bytes::from(self.held);
        let rest = whole.get(self.next_line..).unwrap_or_default();
        let is_field = field_name_len(rest).is_some() || (self.next_line > 0 && matches!(rest.first(), Some(b' ' | b'\t')));
        let fields = if is_field { whole.len() } else { self.next_line };
        (HeaderBlock::parse(whole.slice(..fields), false), whole.slice(fields..))
    }

    fn check_limit(&self) -> Result<(), HeaderTooLarge> {
        if self.next_line > self.limit { Err(HeaderTooLarge { limit: self.limit }) } else { Ok(()) }
    }
}

impl HeaderBlock {
    /// Splits a message in memory into header block and body. A message without an end of the header has an empty body, unless
    /// the last line is no field.
    #[must_use]
    pub fn split(message: Bytes) -> (Self, Bytes) {
        let mut splitter = HeaderSplitter::new(message.len());
        match splitter.push(message.clone()) {
            Ok(HeaderSplit::Complete(header, body)) => (header, body),
            Ok(HeaderSplit::Incomplete) => splitter.finish(),
            Err(_) => (Self::default(), message),
        }
    }
}

/// Examines complete lines from `*line` on, and sets `*line` to the first line not yet examined.
fn find_header_end(text: &[u8], line: &mut usize) -> Option<HeaderEnd> {
    loop {
        let rest = text.get(*line..)?;
        let length = memchr(b'\n', rest)? + 1;
        let this = rest.get(..length)?;
        if matches!(this, b"\r\n" | b"\n") {
            return Some(HeaderEnd { fields: *line, separator: length });
        }
        let goes_on = *line > 0 && matches!(this.first(), Some(b' ' | b'\t'));
        if !goes_on && field_name_len(this).is_none() {
            return Some(HeaderEnd { fields: *line, separator: 0 });
        }
        *line += length;
    }
}

fn split_message(message: Bytes, end: &HeaderEnd) -> HeaderSplit {
    let body = message.slice(end.fields + end.separator..);
    HeaderSplit::Complete(HeaderBlock::parse(message.slice(..end.fields), end.separator > 0), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(message: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>) {
        let mut splitter = HeaderSplitter::new(1000);
        let mut body: Option<(HeaderBlock, Vec<u8>)> = None;
        for chunk in message.chunks(piece) {
            let chunk = Bytes::copy_from_slice(chunk);
            match &mut body {
                Some((_, body)) => body.extend_from_slice(&chunk),
                None => {
                    if let HeaderSplit::Complete(head, rest) = splitter.push(chunk).unwrap() {
                        body = Some((head, rest.to_vec()));
                        splitter = HeaderSplitter::new(0);
                    }
                }
            }
        }
        let (head, body) = body.unwrap_or_else(|| {
            let (head, rest) = splitter.finish();
            (head, rest.to_vec())
        });
        (head.to_bytes(body.is_empty()).to_vec(), body)
    }

    #[test]
    fn any_chopping_splits_alike_and_loses_nothing() {
        for (message, head, body) in [
            (&b"A: 1\r\n b\r\nC: 2\r\n\r\nbody\r\n"[..], &b"A: 1\r\n b\r\nC: 2\r\n\r\n"[..], &b"body\r\n"[..]),
            (b"A: 1\r\nno field\r\n", b"A: 1\r\n\r\n", b"no field\r\n"),
            (b"A: 1\r\n", b"A: 1\r\n", b""),
            (b"\r\nbody\r\n", b"\r\n", b"body\r\n"),
            (b"just text\r\n", b"\r\n", b"just text\r\n"),
            (b"Fr om: x\r\n", b"\r\n", b"Fr om: x\r\n"),
            (b" folded\r\n", b"\r\n", b" folded\r\n"),
            (b"", b"", b""),
            (b"A: 1\r\n\r\n", b"A: 1\r\n\r\n", b""),
        ] {
            let (fields, rest) = HeaderBlock::split(Bytes::from_static(message));
            assert_eq!((&fields.to_bytes(rest.is_empty())[..], &rest[..]), (head, body), "in one piece");
            for piece in 1..=message.len().max(1) {
                let (h, b) = split(message, piece);
                assert_eq!((&h[..], &b[..]), (head, body), "{:?} in pieces of {piece}", String::from_utf8_lossy(message));
            }
        }
    }

    #[test]
    fn a_header_over_the_limit_is_refused() {
        let mut splitter = HeaderSplitter::new(20);
        assert!(splitter.push(Bytes::from_static(b"A: 0123456789\r\n")).is_ok());
        assert_eq!(splitter.push(Bytes::from_static(b"B: 0123456789\r\n")), Err(HeaderTooLarge { limit: 20 }));
        let mut one_line = HeaderSplitter::new(20);
        assert!(one_line.push(Bytes::from_static(b"A: 012345678901")).is_ok());
        assert!(one_line.push(Bytes::from_static(b"0123456789")).is_err());
    }
}
