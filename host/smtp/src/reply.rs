//! Server replies as read by the client (RFC 5321 §4.2).

use waxwing_types::{EnhancedCode, Line, LineError, LineSplitter, Reply};

/// Maximum number of octets kept of the text of a reply; further text is dropped.
const TEXT_BYTES_MAX: usize = 2048;

/// Error in the syntax or size of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyParseError {
    /// Line without three digits from 200 to 599 followed by a space, a hyphen or nothing.
    #[error("not a reply")]
    NotAReply,
    /// Lines of one reply with different codes.
    #[error("the lines of the reply have different codes")]
    CodesDiffer,
    /// Line longer than the limit.
    #[error("a line of the reply is too long")]
    LineTooLong,
    /// More lines than the limit.
    #[error("the reply has too many lines")]
    TooManyLines,
}

/// Assembles replies from octets. Holds at most one line and [`TEXT_BYTES_MAX`] octets.
#[derive(Debug)]
pub struct ReplyReader {
    lines: LineSplitter,
    lines_max: usize,
    partial: Option<PartialReply>,
}

#[derive(Debug)]
struct PartialReply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: String,
    lines: usize,
}

impl ReplyReader {
    /// Creates a reader. `line_bytes_max` counts the octets of a line, CRLF included; `lines_max` the lines of a reply.
    #[must_use]
    pub fn new(line_bytes_max: usize, lines_max: usize) -> Self {
        Self { lines: LineSplitter::new(line_bytes_max), lines_max, partial: None }
    }

    /// Returns the number of octets held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.lines.buffered_bytes() + self.partial.as_ref().map_or(0, |partial| partial.text.len())
    }

    /// Consumes octets up to the end of the next reply. `None` if all input is consumed.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<Reply, ReplyParseError>> {
        while !input.is_empty() {
            let line = match self.lines.next(input)? {
                Ok(Line(line)) => line,
                // Some servers end lines in LF; a bare LF in a reply can't smuggle anything, unlike in a message.
                Err(LineError::BareLineEnd) => return Some(Err(ReplyParseError::NotAReply)),
                Err(LineError::TooLong) => return Some(Err(ReplyParseError::LineTooLong)),
            };
            match add_line(self.partial.take(), line, self.lines_max) {
                Ok((partial, true)) => return Some(partial.finish()),
                Ok((partial, false)) => self.partial = Some(partial),
                Err(fault) => return Some(Err(fault)),
            }
        }
        None
    }
}

/// Adds a line to a reply, or starts a reply; the flag says whether the line was the last.
fn add_line(partial: Option<PartialReply>, line: &[u8], lines_max: usize) -> Result<(PartialReply, bool), ReplyParseError> {
    let (code, last, text) = split_line(line).ok_or(ReplyParseError::NotAReply)?;
    let mut partial = match partial {
        None => {
            let enhanced = parse_leading_enhanced_code(&text).filter(|e| u16::from(e.class) == code / 100);
            PartialReply { code, enhanced, text: String::new(), lines: 0 }
        }
        Some(partial) if partial.code != code => return Err(ReplyParseError::CodesDiffer),
        Some(partial) => partial,
    };
    if partial.lines == lines_max {
        return Err(ReplyParseError::TooManyLines);
    }
    partial.push_line(&text);
    Ok((partial, last))
}

impl PartialReply {
    fn push_line(&mut self, text: &str) {
        let rest = match self.enhanced {
            Some(enhanced) if parse_leading_enhanced_code(text) == Some(enhanced) => {
                text.split_once(' ').map_or("", |(_, rest)| rest)
            }
            Some(_) | None => text,
        };
        if self.lines > 0 {
            self.text.push('\n');
        }
        self.lines += 1;
        self.text.push_str(rest);
        let end = self.text.floor_char_boundary(TEXT_BYTES_MAX);
        self.text.truncate(end);
    }

    fn finish(self) -> Result<Reply, ReplyParseError> {
        Reply::new(self.code, self.enhanced, self.text).map_err(|_| ReplyParseError::NotAReply)
    }
}

/// Splits a line into code, last-line flag, and text with forbidden octets replaced.
fn split_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code: u16 = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let (last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(text).replace(|c: char| c.is_ascii_control() && c != '\t', "?");
    (200..600).contains(&code).then_some((code, last, text))
}

fn parse_leading_enhanced_code(text: &str) -> Option<EnhancedCode> {
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &[u8], size: usize) -> Vec<Result<String, ReplyParseError>> {
        let mut reader = ReplyReader::new(40, 3);
        let mut out = Vec::new();
        for chunk in wire.chunks(size) {
            let mut input = chunk;
            while !input.is_empty() {
                if let Some(reply) = reader.next(&mut input) {
                    out.push(reply.map(|r| format!("{:?} {r}", r.enhanced().is_some())));
                }
            }
        }
        out
    }

    #[test]
    fn reads_replies_in_any_chopping() {
        let wire = b"220 hi\r\n250-a\r\n250-b c\r\n250 d\r\n250\r\n550-5.1.1 x\r\n550 5.1.1 y\r\n450 5.1.1 z\r\n250-2.0.0\r\n250 2.0.0\r\n";
        let expected: Vec<Result<String, ReplyParseError>> = [
            "false 220 hi",
            "false 250 a / b c / d",
            "false 250 ",
            "true 550 5.1.1 x / y",
            "false 450 5.1.1 z",
            "true 250 2.0.0  / ",
        ]
        .map(|t| Ok(t.to_owned()))
        .into();
        for size in 1..=wire.len() {
            assert_eq!(read(wire, size), expected, "chunks of {size}");
        }
    }

    #[test]
    fn refuses_what_is_no_reply() {
        let long = format!("250 {}\r\n", "x".repeat(40));
        for (wire, fault) in [
            ("hello\r\n", ReplyParseError::NotAReply),
            ("25\r\n", ReplyParseError::NotAReply),
            ("199 x\r\n", ReplyParseError::NotAReply),
            ("600 x\r\n", ReplyParseError::NotAReply),
            ("2500 x\r\n", ReplyParseError::NotAReply),
            ("250-x\r\n251 x\r\n", ReplyParseError::CodesDiffer),
            ("250-1\r\n250-2\r\n250-3\r\n250 4\r\n", ReplyParseError::TooManyLines),
            (long.as_str(), ReplyParseError::LineTooLong),
        ] {
            assert_eq!(read(wire.as_bytes(), wire.len()), [Err(fault)], "{wire}");
        }
    }
}
