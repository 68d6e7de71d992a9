//! The paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2).

use waxwing_types::{Address, AddressError, Parameter};

/// Parameters of one command.
const PARAMETERS_MAX: usize = 16;

/// Why a path is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// No `<`, no `>`, or junk behind it.
    Brackets,
    /// Octets above 127, which need SMTPUTF8 (RFC 6531).
    NonAscii,
    /// Not an address.
    Address(AddressError),
    /// The source route is not `@domain,@domain:`.
    Route,
}

/// Splits `<path> parameters`, or `path parameters` as old clients have it, and reads the path. `None`: the null path.
pub(crate) fn split_path(text: &[u8]) -> Result<(Option<Address>, &str), PathError> {
    let end = path_end(text)?;
    let (path, rest) = text.split_at(end);
    if !path.is_ascii() {
        return Err(PathError::NonAscii);
    }
    let (path, rest) = (ascii(path).ok_or(PathError::Brackets)?, ascii(rest).ok_or(PathError::Brackets)?);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(PathError::Brackets);
    }
    let inner = path.strip_prefix('<').and_then(|p| p.strip_suffix('>')).unwrap_or(path);
    if inner.is_empty() {
        return Ok((None, rest));
    }
    let mailbox = strip_route(inner)?;
    Ok((Some(Address::parse(mailbox).map_err(PathError::Address)?), rest))
}

fn ascii(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|t| t.is_ascii())
}

/// Where the path ends: behind the `>` that no quotes hold, or before the first such space.
fn path_end(text: &[u8]) -> Result<usize, PathError> {
    let bracketed = match text.first() {
        None | Some(b' ') => return Err(PathError::Brackets),
        Some(first) => *first == b'<',
    };
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if bracketed && !quoted => return Ok(at + 1),
            b' ' if !bracketed && !quoted => return Ok(at),
            _ => {}
        }
    }
    if bracketed { Err(PathError::Brackets) } else { Ok(text.len()) }
}

/// Takes `@a,@b:` off: servers must accept and should ignore source routes (RFC 5321 §4.1.2, appendix C).
fn strip_route(path: &str) -> Result<&str, PathError> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let mut in_literal = false;
    let colon = path.bytes().position(|byte| {
        match byte {
            b'[' => in_literal = true,
            b']' => in_literal = false,
            _ => {}
        }
        byte == b':' && !in_literal
    });
    let (route, mailbox) = path.split_at(colon.ok_or(PathError::Route)?);
    let hop_is_domain = |hop: &str| {
        let domain = hop.strip_prefix('@').unwrap_or_default();
        !domain.is_empty() && Address::new("x", domain).is_ok()
    };
    if route.split(',').all(hop_is_domain) { Ok(mailbox.get(1..).unwrap_or_default()) } else { Err(PathError::Route) }
}

/// Reads ` KEYWORD=value KEYWORD` (RFC 5321 §4.1.1.11). `None`: not such a list, a keyword twice, or too many.
pub(crate) fn parse_parameters(text: &str) -> Option<Vec<Parameter>> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword_ok = keyword.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let value_ok = value.is_none_or(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_graphic() && b != b'='));
        let keyword = keyword.to_ascii_uppercase();
        if !keyword_ok || !value_ok || parameters.len() == PARAMETERS_MAX || parameters.iter().any(|(k, _)| *k == keyword) {
            return None;
        }
        parameters.push((keyword, value.map(str::to_owned)));
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths() {
        for (text, address, rest) in [
            ("<a@b.example>", "a@b.example", ""),
            ("<a@b.example> SIZE=1", "a@b.example", " SIZE=1"),
            ("<@x.example,@[IPv6:::1]:a@b.example>", "a@b.example", ""),
            ("<\"a>b\"@c.example>", "\"a>b\"@c.example", ""),
            ("<\"a\\\">b\"@c.example> X", "\"a\\\">b\"@c.example", " X"),
            ("<postmaster>", "postmaster", ""),
            ("a@b.example X=1", "a@b.example", " X=1"),
            ("\"a b\"@c.example X", "\"a b\"@c.example", " X"),
        ] {
            let (found, left) = split_path(text.as_bytes()).unwrap();
            assert_eq!((found.unwrap().to_string().as_str(), left), (address, rest), "{text}");
        }
        assert_eq!(split_path(b"<>"), Ok((None, "")));
    }

    #[test]
    fn refuses_what_is_no_path() {
        for text in ["", " <a@b>", "<a@b", "<a@b>x", "<@a>", "<@a,b:c@d>", "<@:c@d>", "<a b@c>", "<\"a@b>", "<a@b>\u{e4}"] {
            assert!(split_path(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(split_path("<\u{e4}@b>".as_bytes()), Err(PathError::NonAscii));
    }

    #[test]
    fn reads_parameters() {
        assert_eq!(
            parse_parameters(" size=10  X-Y"),
            Some(vec![("SIZE".to_owned(), Some("10".to_owned())), ("X-Y".to_owned(), None)])
        );
        for text in [" A=", " =1", " A=1=2", " A A", " -A=1", " A=\u{7f}"] {
            assert_eq!(parse_parameters(text), None, "{text}");
        }
        let many: String = (0..=PARAMETERS_MAX).map(|n| format!(" K{n}")).collect();
        assert_eq!(parse_parameters(&many), None);
    }
}
