//! Splits a stream into lines that end in CRLF, with a length limit.

use memchr::memchr2;

/// Collects octets until a line is complete. Memory never exceeds the limit given to [`LineSplitter::new`].
#[derive(Debug)]
pub struct LineSplitter {
    buffer: Vec<u8>,
    line_bytes_max: usize,
    overflowed: bool,
}

/// Line without its CRLF: borrowed from the input if complete there, otherwise from the splitter.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a>(pub &'a [u8]);

/// Defect of a line. The whole line has been consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Line longer than the limit, CRLF included.
    #[error("the line is too long")]
    TooLong,
    /// Line with a CR without LF or an LF without CR, both forbidden by RFC 5321 §2.3.8.
    #[error("a line ends in CR LF, and neither stands alone")]
    BareLineEnd,
}

impl LineSplitter {
    /// Creates a splitter for lines of at most `line_bytes_max` octets, CRLF included.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), line_bytes_max, overflowed: false }
    }

    /// Returns the number of buffered octets of an incomplete line.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes octets from the front of `input` up to and including the next LF. Returns `None` while the line is incomplete;
    /// then the whole input has been taken.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Result<Line<'s>, LineError>> {
        self.clear_finished();
        let (part, whole) = match memchr::memchr(b'\n', input) {
            Some(at) => {
                let (part, rest) = input.split_at(at + 1);
                *input = rest;
                (part, true)
            }
            None => (std::mem::take(input), false),
        };
        if self.overflowed || self.buffer.len() + part.len() > self.line_bytes_max {
            self.buffer.clear();
            self.overflowed = !whole;
            return whole.then_some(Err(LineError::TooLong));
        }
        if self.buffer.is_empty() && whole {
            return Some(strip_crlf(part));
        }
        self.buffer.extend_from_slice(part);
        whole.then(|| strip_crlf(&self.buffer))
    }

    fn clear_finished(&mut self) {
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.clear();
        }
    }
}

fn strip_crlf(line: &[u8]) -> Result<Line<'_>, LineError> {
    let text = line.strip_suffix(b"\r\n").ok_or(LineError::BareLineEnd)?;
    match memchr2(b'\r', b'\n', text) {
        Some(_) => Err(LineError::BareLineEnd),
        None => Ok(Line(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunks: &[&[u8]], max: usize) -> Vec<Result<Vec<u8>, LineError>> {
        let mut splitter = LineSplitter::new(max);
        let mut out = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while !input.is_empty() {
                if let Some(line) = splitter.next(&mut input) {
                    out.push(line.map(|l| l.0.to_vec()));
                }
            }
            assert!(splitter.buffered_bytes() <= max);
        }
        out
    }

    #[test]
    fn any_chopping_gives_the_same_lines() {
        let text = b"abc\r\n\r\nlonger than ten\r\nx\ny\r\nb\rc\r\nlast\r\n";
        let whole = run(&[text], 10);
        assert_eq!(whole.len(), 7);
        assert_eq!(whole[2], Err(LineError::TooLong));
        assert_eq!(whole[3], Err(LineError::BareLineEnd));
        for size in 1..text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(run(&chunks, 10), whole, "chunks of {size}");
        }
    }
}
