//! Dot-stuffing of outgoing messages: CRLF at the end of every line, leading dots doubled (RFC 5321 §4.5.2, §2.3.8).

use bytes::Bytes;
use memchr::memchr2;

/// Kind of the last octet processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastOctet {
    /// Line end, or start of the message.
    LineEnd,
    /// Text within a line.
    Text,
    /// CR at the end of a piece, held back until the next octet decides about the line end.
    Cr,
}

/// Dot-stuffs one message. Octets in no need of change are passed on without a copy.
#[derive(Debug)]
pub struct DotStuffer {
    last: LastOctet,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { last: LastOctet::LineEnd }
    }
}

impl DotStuffer {
    /// Creates a stuffer at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the next octets in wire format.
    pub fn stuff(&mut self, chunk: Bytes) -> Bytes {
        // Octets of `chunk` before `done` are in `fixed`; `fixed` stays empty as long as nothing changes.
        let (mut fixed, mut done, mut pos) = (Vec::new(), 0, 0);
        let mut insert = |at: usize, octets: &[u8], skip: usize| {
            fixed.extend_from_slice(chunk.get(done..at).unwrap_or_default());
            fixed.extend_from_slice(octets);
            done = at + skip;
        };
        while let Some(&byte) = chunk.get(pos) {
            match (self.last, byte) {
                (LastOctet::Cr, _) => {
                    let skip = usize::from(byte == b'\n');
                    insert(pos, b"\r\n", skip);
                    pos += skip;
                    self.last = LastOctet::LineEnd;
                }
                (LastOctet::LineEnd, b'.') => {
                    insert(pos, b".", 0);
                    pos += 1;
                    self.last = LastOctet::Text;
                }
                (LastOctet::LineEnd | LastOctet::Text, _) => {
                    let rest = chunk.get(pos..).unwrap_or_default();
                    let end = memchr2(b'\r', b'\n', rest).map_or(chunk.len(), |n| pos + n);
                    (pos, self.last) = match (chunk.get(end), chunk.get(end + 1)) {
                        (None, _) => (end, LastOctet::Text),
                        (Some(b'\r'), Some(b'\n')) => (end + 2, LastOctet::LineEnd),
                        (Some(b'\r'), None) => (end + 1, LastOctet::Cr),
                        (Some(_), _) => {
                            insert(end, b"\r\n", 1);
                            (end + 1, LastOctet::LineEnd)
                        }
                    };
                }
            }
        }
        let end = chunk.len() - usize::from(self.last == LastOctet::Cr && !chunk.is_empty());
        if done == 0 && fixed.is_empty() {
            return chunk.slice(..end);
        }
        fixed.extend_from_slice(chunk.get(done..end).unwrap_or_default());
        Bytes::from(fixed)
    }

    /// Returns the end of the message: a missing last line end, and the final dot.
    #[must_use]
    pub fn finish(self) -> Bytes {
        Bytes::from_static(match self.last {
            LastOctet::LineEnd => b".\r\n",
            LastOctet::Text | LastOctet::Cr => b"\r\n.\r\n",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &[u8], size: usize) -> Vec<u8> {
        let mut stuffer = DotStuffer::new();
        let mut out = Vec::new();
        for chunk in text.chunks(size) {
            out.extend_from_slice(&stuffer.stuff(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&stuffer.finish());
        out
    }

    #[test]
    fn any_chopping_gives_the_same_wire() {
        for (text, expected) in [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n..\r\n.a", "..\r\n...\r\n..a\r\n.\r\n"),
            ("a\nb\rc\r\n", "a\r\nb\r\nc\r\n.\r\n"),
            ("\n.\r.\r\n", "\r\n..\r\n..\r\n.\r\n"),
            ("a\r\r\n\r", "a\r\n\r\n\r\n.\r\n"),
            ("\r", "\r\n.\r\n"),
            ("\n\n", "\r\n\r\n.\r\n"),
        ] {
            for size in 1..=text.len().max(1) {
                assert_eq!(String::from_utf8_lossy(&wire(text.as_bytes(), size)), expected, "{text:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn passes_clean_octets_without_a_copy() {
        let chunk = Bytes::from_static(b"Subject: x\r\n\r\nhello .\r\n");
        assert_eq!(DotStuffer::new().stuff(chunk.clone()).as_ptr(), chunk.as_ptr());
    }
}
