//! Content-Type and Content-Transfer-Encoding, as far as needed for the structure (RFC 2045 §5.1, §6.1).

use crate::HeaderBlock;

/// Maximum number of parameters parsed.
const PARAMETERS_MAX: usize = 50;
/// Maximum boundary length. RFC 2046 §5.1.1 allows 70 octets; longer boundaries occur in practice.
const BOUNDARY_BYTES_MAX: usize = 200;

/// Media type with parameters; names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentType {
    pub(crate) top_level_type: String,
    pub(crate) subtype: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Parses Content-Type. RFC 2045 §5.2: a malformed type is plain text; an absent type is the default of the
    /// context.
    pub(crate) fn from_header(header: &HeaderBlock, default: &Self) -> Self {
        match header.first("Content-Type") {
            Some(field) => Self::parse(&field.unfolded()).unwrap_or_else(Self::text_plain),
            None => default.clone(),
        }
    }

    pub(crate) fn text_plain() -> Self {
        Self { top_level_type: "text".into(), subtype: "plain".into(), parameters: Vec::new() }
    }

    pub(crate) fn message_rfc822() -> Self {
        Self { top_level_type: "message".into(), subtype: "rfc822".into(), parameters: Vec::new() }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = without_comments(text);
        let (media, mut rest) = text.split_once(';').unwrap_or((&text, ""));
        let (kind, subtype) = media.split_once('/')?;
        let (kind, subtype) = (kind.trim().to_ascii_lowercase(), subtype.trim().to_ascii_lowercase());
        if !is_token(&kind) || !is_token(&subtype) {
            return None;
        }
        let mut parameters = Vec::new();
        while let Some((name, tail)) = rest.split_once('=').filter(|_| parameters.len() < PARAMETERS_MAX) {
            let (value, tail) = parameter_value(tail.trim_start());
            let name = name.trim_matches(|c: char| c == ';' || c.is_whitespace()).to_ascii_lowercase();
            parameters.push((name, value));
            rest = tail;
        }
        Some(Self { top_level_type: kind, subtype, parameters })
    }

    /// Media type without parameters, as `text/plain`.
    pub(crate) fn essence(&self) -> String {
        format!("{}/{}", self.top_level_type, self.subtype)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Boundary of a multipart, if usable.
    pub(crate) fn boundary(&self) -> Option<&str> {
        let boundary = self.parameter("boundary").filter(|_| self.top_level_type == "multipart")?.trim_end();
        (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()).then_some(boundary)
    }

    pub(crate) fn matches(&self, kind: &str, subtype: &str) -> bool {
        self.top_level_type == kind && self.subtype == subtype
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

/// Parses a parameter value with quotes removed; returns the rest of the text too.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, inner.get(at + 1..).unwrap_or("")),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Removes comments outside quoted strings.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut quoted) = (0_usize, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => {
                out.push(c);
                out.extend(chars.next());
            }
            '\\' if depth > 0 => drop(chars.next()),
            '"' if depth == 0 => {
                quoted = !quoted;
                out.push(c);
            }
            '(' if !quoted => depth += 1,
            ')' if depth > 0 => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Transfer encoding of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferEncoding {
    /// 7bit, 8bit, binary, or absent.
    Identity,
    Base64,
    QuotedPrintable,
    /// Unknown encoding; the octets are kept unchanged.
    Unknown,
}

impl TransferEncoding {
    pub(crate) fn from_header(header: &HeaderBlock) -> Self {
        let Some(field) = header.first("Content-Transfer-Encoding") else { return Self::Identity };
        match without_comments(&field.unfolded()).trim().to_ascii_lowercase().as_str() {
            "7bit" | "8bit" | "binary" | "" => Self::Identity,
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_parameters() {
        let parsed = ContentType::parse("Multipart/Mixed (c \\) =;); boundary=\"a;\\\"b \" ; Charset=x (y)").unwrap();
        assert!(parsed.matches("multipart", "mixed"));
        assert_eq!((parsed.boundary(), parsed.parameter("charset")), (Some("a;\"b"), Some("x")));
        assert_eq!(ContentType::parse("text"), None);
        assert_eq!(ContentType::parse("text/plain; x").unwrap().parameters, []);
        assert_eq!(ContentType::parse("text/plain; boundary=x").unwrap().boundary(), None);
    }
}
