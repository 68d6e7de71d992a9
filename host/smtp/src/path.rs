//! Paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2).

use waxwing_types::{Address, AddressError, Parameter};

/// Maximum number of parameters of one command.
const PARAMETERS_MAX: usize = 16;

/// Syntax error in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathSyntaxError {
    /// Missing `<` or `>`, or junk after `>`.
    Brackets,
    /// Octets above 127 that are not UTF-8 (RFC 6531 §3.3).
    NotUtf8,
    /// Invalid mailbox address.
    Address(AddressError),
    /// Source route not of the form `@domain,@domain:`.
    BadSourceRoute,
}

/// Splits `<path> parameters`, or `path parameters` as sent by old clients, and parses the path. The address is `None`
/// for the null path. The flag says whether the path has octets above 127: SMTPUTF8 is then required, and the domain
/// has been converted to A-labels.
pub(crate) fn split_path(text: &[u8]) -> Result<(Option<Address>, &str, bool), PathSyntaxError> {
    let end = find_path_end(text)?;
    let (path, rest) = text.split_at(end);
    let utf8 = !path.is_ascii();
    let path = std::str::from_utf8(path).map_err(|_| PathSyntaxError::NotUtf8)?;
    let rest = std::str::from_utf8(rest).ok().filter(|rest| rest.is_ascii()).ok_or(PathSyntaxError::Brackets)?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(PathSyntaxError::Brackets);
    }
    let inner = path.strip_prefix('<').and_then(|p| p.strip_suffix('>')).unwrap_or(path);
    if inner.is_empty() {
        return Ok((None, rest, false));
    }
    let mailbox = strip_source_route(inner)?;
    let address = if mailbox.is_ascii() { Address::parse(mailbox) } else { parse_international(mailbox) };
    Ok((Some(address.map_err(PathSyntaxError::Address)?), rest, utf8))
}

/// Parses a mailbox beyond ASCII (RFC 6531 §3.3). The domain is converted to A-labels here, at the edge, so that no
/// later code compares a domain in two forms. Each label must be the U-label of its A-label: full-width letters,
/// ideographic dots and the like would turn into another name and are refused.
fn parse_international(mailbox: &str) -> Result<Address, AddressError> {
    let address = Address::parse(mailbox)?;
    if address.local().chars().any(char::is_control) {
        return Err(AddressError::BadLocalPart);
    }
    // The domain as given by the client: parsing maps capitals, and some look-alikes of capitals, to lower case.
    let given = mailbox.rsplit_once('@').map_or("", |(_, domain)| domain);
    if given.is_ascii() {
        return Ok(address);
    }
    let ascii = idna::domain_to_ascii_cow(given.as_bytes(), idna::AsciiDenyList::URL).map_err(|_| AddressError::BadDomain)?;
    let is_label_of = |(given, ascii): (&str, &str)| {
        let (unicode, result) = idna::domain_to_unicode(ascii);
        match given.is_ascii() {
            true => given.eq_ignore_ascii_case(ascii),
            false => ascii.starts_with("xn--") && result.is_ok() && unicode == given.to_lowercase(),
        }
    };
    let same_length = given.split('.').count() == ascii.split('.').count();
    match same_length && given.split('.').zip(ascii.split('.')).all(is_label_of) {
        true => address.with_domain(&ascii),
        false => Err(AddressError::BadDomain),
    }
}

/// Finds the end of the path: after the first unquoted `>`, or before the first unquoted space of a path without
/// brackets.
fn find_path_end(text: &[u8]) -> Result<usize, PathSyntaxError> {
    let bracketed = match text.first() {
        None | Some(b' ') => return Err(PathSyntaxError::Brackets),
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
    if bracketed { Err(PathSyntaxError::Brackets) } else { Ok(text.len()) }
}

/// Removes the source route `@a,@b:`: servers must accept and should ignore source routes (RFC 5321 §4.1.2, appendix
/// C).
fn strip_source_route(path: &str) -> Result<&str, PathSyntaxError> {
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
    let (route, mailbox) = path.split_at(colon.ok_or(PathSyntaxError::BadSourceRoute)?);
    let hop_is_domain = |hop: &str| {
        let domain = hop.strip_prefix('@').unwrap_or_default();
        !domain.is_empty() && Address::new("x", domain).is_ok()
    };
    if route.split(',').all(hop_is_domain) {
        Ok(mailbox.get(1..).unwrap_or_default())
    } else {
        Err(PathSyntaxError::BadSourceRoute)
    }
}

/// Parses ` KEYWORD=value KEYWORD` (RFC 5321 §4.1.1.11). `None` for a malformed list, a repeated keyword, or too many
/// parameters.
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
            let (found, left, _) = split_path(text.as_bytes()).unwrap();
            assert_eq!((found.unwrap().to_string().as_str(), left), (address, rest), "{text}");
        }
        assert_eq!(split_path(b"<>"), Ok((None, "", false)));
    }

    #[test]
    fn refuses_what_is_no_path() {
        for text in ["", " <a@b>", "<a@b", "<a@b>x", "<@a>", "<@a,b:c@d>", "<@:c@d>", "<a b@c>", "<\"a@b>", "<a@b>\u{e4}"] {
            assert!(split_path(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(split_path(b"<\xe4@b>"), Err(PathSyntaxError::NotUtf8));
    }

    #[test]
    fn a_domain_beyond_ascii_becomes_its_a_labels() {
        for (text, address) in [
            ("<jos\u{e9}@b.example>", "jos\u{e9}@b.example"),
            ("<a@b\u{fc}cher.example>", "a@xn--bcher-kva.example"),
            ("<a@B\u{dc}CHER.Example>", "a@xn--bcher-kva.example"),
            ("<\"\u{e9} x\"@\u{4f8b}.example>", "\"\u{e9} x\"@xn--fsq.example"),
        ] {
            let (found, _, utf8) = split_path(text.as_bytes()).unwrap();
            assert_eq!((found.unwrap().to_string().as_str(), utf8), (address, true), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_domain_is_refused() {
        for domain in [
            "\u{ff45}xample.com",  // full-width e
            "a\u{3002}example",    // ideographic full stop
            "e\u{212a}ample.com",  // Kelvin sign
            "ex\u{ad}ample.com",   // soft hyphen, which vanishes
            "b\u{200b}.example",   // zero width space
            "\u{202e}moc.example", // right-to-left override
            "a\u{2024}example",    // one dot leader
            "\u{fb00}.example",    // ligature
            "a.example\u{ff0f}b",  // full-width solidus
            "xn--a\u{e9}.example",
        ] {
            let text = format!("<a@{domain}>");
            assert!(split_path(text.as_bytes()).is_err(), "{domain:?}");
        }
        assert!(split_path("<a\u{85}b@c.example>".as_bytes()).is_err(), "a control character");
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
