//! SMTP replies and enhanced status codes (RFC 5321 §4.2, RFC 3463).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum octets of text in a generated reply.
const REPLY_TEXT_BYTES_MAX: usize = 2048;

/// Enhanced status code `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnhancedCode {
    /// Class digit: 2, 4 or 5.
    pub class: u8,
    /// Subject, 0 to 999.
    pub subject: u16,
    /// Detail, 0 to 999.
    pub detail: u16,
}

impl EnhancedCode {
    /// Creates a status code; `class` must be 2, 4 or 5.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedCode {
    type Err = ReplyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: Option<&str>| match part {
            Some(p) if (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()) => {
                p.parse::<u16>().map_err(|_| ReplyError::BadEnhancedCode)
            }
            _ => Err(ReplyError::BadEnhancedCode),
        };
        let mut parts = text.split('.');
        let (class, subject, detail) = (number(parts.next())?, number(parts.next())?, number(parts.next())?);
        match class {
            2 | 4 | 5 if parts.next().is_none() => Ok(Self::new(class as u8, subject, detail)),
            _ => Err(ReplyError::BadEnhancedCode),
        }
    }
}

/// Reason why a reply is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Code outside 200 to 599, or enhanced code of another class.
    #[error("the reply code and the enhanced status code do not agree")]
    ClassMismatch,
    /// Enhanced code not of the form `2|4|5.n.n`.
    #[error("the enhanced status code is not of the form 2|4|5.number.number")]
    BadEnhancedCode,
    /// Text with a control character such as CR or NUL, or too long.
    #[error("the text has a control character or is longer than 2048 octets")]
    BadText,
}

/// SMTP reply of a server. Lines of the text are separated by LF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

impl Reply {
    /// Creates a reply with a constant text from the source code.
    #[must_use]
    pub const fn fixed(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Self {
        Self { code, enhanced: Some(EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2)), text: Cow::Borrowed(text) }
    }

    /// Creates a reply without enhanced code, as for the greeting, EHLO, 354 and HELP (RFC 2034 §4).
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }

    /// Creates a reply from external data: from a remote server or a plugin. Fails on invalid codes or text.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: impl Into<Cow<'static, str>>) -> Result<Self, ReplyError> {
        let text = text.into();
        if !(200..600).contains(&code) || enhanced.is_some_and(|e| u16::from(e.class) != code / 100) {
            return Err(ReplyError::ClassMismatch);
        }
        if text.len() > REPLY_TEXT_BYTES_MAX || text.bytes().any(|b| (b < 0x20 && b != b'\n' && b != b'\t') || b == 0x7f) {
            return Err(ReplyError::BadText);
        }
        Ok(Self { code, enhanced, text })
    }

    /// Returns the three-digit reply code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the enhanced status code, if any.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// Returns the text, lines separated by LF.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the code is 2yz or 3yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Appends the reply in wire format, with code and enhanced code on each line.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(code_digits(self.code).as_slice());
            out.push(mark as u8);
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(enhanced.to_string().as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn code_digits(code: u16) -> [u8; 3] {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    [digit(code / 100), digit(code / 10), digit(code)]
}

impl fmt::Display for Reply {
    /// Formats on a single line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text.replace('\n', " / "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_line_with_its_codes() {
        let mut out = Vec::new();
        Reply::fixed(550, (5, 1, 1), "no such\nuser").write_to(&mut out);
        assert_eq!(out, b"550-5.1.1 no such\r\n550 5.1.1 user\r\n");
    }

    #[test]
    fn refuses_what_would_break_the_wire() {
        assert_eq!(Reply::new(550, Some(EnhancedCode::new(4, 0, 0)), "x"), Err(ReplyError::ClassMismatch));
        assert_eq!(Reply::new(99, None, "x"), Err(ReplyError::ClassMismatch));
        assert_eq!(Reply::new(250, None, "x\r\n550 y"), Err(ReplyError::BadText));
        assert!("5.1".parse::<EnhancedCode>().is_err());
        assert!("3.1.1".parse::<EnhancedCode>().is_err());
        assert_eq!("5.7.30".parse(), Ok(EnhancedCode::new(5, 7, 30)));
    }
}
