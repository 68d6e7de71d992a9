//! Constructors and conversions for contract types.

use crate::{Address, Reply, Verdict};

impl Reply {
    /// Creates a reply with an enhanced status code (RFC 3463), such as `Reply::new(550, "5.7.1", "no")`.
    #[must_use]
    pub fn new(code: u16, enhanced: &str, text: impl Into<String>) -> Self {
        Self { code, enhanced: Some(enhanced.to_owned()), text: text.into() }
    }
}

impl Verdict {
    /// Creates a rejection with code 550, a permanent failure.
    #[must_use]
    pub fn reject(enhanced: &str, text: impl Into<String>) -> Self {
        Self::Reject(Reply::new(550, enhanced, text))
    }

    /// Creates a deferral with code 451, a temporary failure.
    #[must_use]
    pub fn defer(enhanced: &str, text: impl Into<String>) -> Self {
        Self::Defer(Reply::new(451, enhanced, text))
    }
}

impl Address {
    /// Creates `local@domain`, with the domain in lower case.
    #[must_use]
    pub fn new(local: impl Into<String>, domain: &str) -> Self {
        Self { local: local.into(), domain: domain.to_lowercase() }
    }

    /// Parses `local@domain` or a bare `local`; a quoted local part may contain anything but control characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = match text.strip_prefix('"') {
            Some(quoted) => {
                let (local, rest) = unquote(quoted)?;
                (local, if rest.is_empty() { rest } else { rest.strip_prefix('@').filter(|d| !d.is_empty())? })
            }
            None => match text.rsplit_once('@') {
                Some((_, "")) => return None,
                Some((local, domain)) => (local.to_owned(), domain),
                None => (text.to_owned(), ""),
            },
        };
        let quoted = text.starts_with('"');
        let local_ok =
            !local.is_empty() && local.len() <= 64 && (quoted || is_dot_string(&local)) && !local.chars().any(char::is_control);
        let domain_ok = domain.len() <= 255 && (domain.is_empty() || is_domain(domain));
        (local_ok && domain_ok).then(|| Self::new(local, domain))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if is_dot_string(&self.local) {
            f.write_str(&self.local)?;
        } else {
            write!(f, "\"{}\"", self.local.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        if self.domain.is_empty() { Ok(()) } else { write!(f, "@{}", self.domain) }
    }
}

fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((local, quoted.get(at + 1..)?)),
            '\\' => local.push(chars.next()?.1),
            _ => local.push(c),
        }
    }
    None
}

fn is_dot_string(text: &str) -> bool {
    let atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control());
    !text.is_empty() && text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

fn is_domain(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .is_some_and(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b)));
    }
    let letter =
        |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (!c.is_ascii() && !c.is_control() && !c.is_whitespace());
    text.split('.').all(|l| (1..=63).contains(&l.len()) && !l.starts_with('-') && !l.ends_with('-') && l.chars().all(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for text in ["a@b.example", "\"a b\"@c.example", "root", "\"a\\\"b\"", "x@[127.0.0.1]"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "@b", "a@", "a b@c", "\"a", "a..b@c", "a@b..c", "\"a\"x", "\"a\"@"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
