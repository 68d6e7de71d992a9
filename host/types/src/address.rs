//! Mailbox addresses: parsing and printing (RFC 5321 §4.1.2).

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// Maximum octets of a local part (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Maximum octets of a domain (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Maximum octets of an address between `<` and `>` (RFC 5321 §4.5.3.1.3, plus space for a quoted local part).
pub const ADDRESS_BYTES_MAX: usize = 2 * LOCAL_PART_BYTES_MAX + DOMAIN_BYTES_MAX + 3;

/// Mailbox address: the local part without quotes, the domain in lower case. The domain may be empty; the cleanup stage
/// completes such addresses with `myorigin`. A domain literal keeps its brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    local: String,
    domain: String,
}

/// Reason why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Local part missing before the `@`, or empty text.
    #[error("the local part is empty")]
    EmptyLocalPart,
    /// Local part longer than [`LOCAL_PART_BYTES_MAX`].
    #[error("the local part is longer than 64 octets")]
    LocalPartTooLong,
    /// Domain longer than [`DOMAIN_BYTES_MAX`].
    #[error("the domain is longer than 255 octets")]
    DomainTooLong,
    /// Local part with an unquoted special character, or with an unclosed quote.
    #[error("the local part is not a dot-string or a quoted string")]
    BadLocalPart,
    /// Domain that is neither a host name nor a literal in brackets.
    #[error("the domain is neither a host name nor an address in brackets")]
    BadDomain,
}

impl Address {
    /// Creates an address from a local part without quotes and a domain; the domain may be empty.
    pub fn new(local: impl Into<String>, domain: &str) -> Result<Self, AddressError> {
        let local = local.into();
        if local.is_empty() {
            return Err(AddressError::EmptyLocalPart);
        }
        if local.len() > LOCAL_PART_BYTES_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        if local.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(AddressError::BadLocalPart);
        }
        Ok(Self { local, domain: parse_domain(domain)? })
    }

    /// Parses `local@domain`, `"quoted local"@domain` or a local part alone, without angle brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, rest) = split_local(text)?;
        match rest {
            "" => Self::new(local, ""),
            _ => match rest.strip_prefix('@') {
                Some("") | None => Err(AddressError::BadDomain),
                Some(domain) => Self::new(local, domain),
            },
        }
    }

    /// Returns the local part without quotes.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Returns the domain in lower case; empty for an address without domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns whether the domain is empty.
    #[must_use]
    pub fn has_no_domain(&self) -> bool {
        self.domain.is_empty()
    }

    /// Returns the same local part at `domain`.
    pub fn with_domain(&self, domain: &str) -> Result<Self, AddressError> {
        Self::new(self.local.clone(), domain)
    }

    /// Returns `local@domain` with the local part in lower case, as in table keys.
    #[must_use]
    pub fn lookup_key(&self) -> String {
        let mut key = String::with_capacity(self.text_len_estimate());
        match self.local.is_ascii() {
            true => key.extend(self.local.bytes().map(|b| char::from(b.to_ascii_lowercase()))),
            false => key.push_str(&self.local.to_lowercase()),
        }
        if !self.domain.is_empty() {
            key.push('@');
            key.push_str(&self.domain);
        }
        key
    }

    /// Octets of the text, apart from quotes within the local part.
    fn text_len_estimate(&self) -> usize {
        self.local.len() + self.domain.len() + 3
    }
}

/// Formats as [`fmt::Display`] does, in a single allocation: message processing formats many addresses.
impl From<&Address> for String {
    fn from(address: &Address) -> Self {
        let mut text = Self::with_capacity(address.text_len_estimate());
        // Writing to a String does not fail.
        let _ = write!(text, "{address}");
        text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            f.write_str(&self.local)?;
        } else {
            f.write_str("\"")?;
            for c in self.local.chars() {
                if c == '"' || c == '\\' {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\"")?;
        }
        if !self.domain.is_empty() {
            f.write_str("@")?;
            f.write_str(&self.domain)?;
        }
        Ok(())
    }
}

fn split_local(text: &str) -> Result<(String, &str), AddressError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.rfind('@').unwrap_or(text.len());
        let (local, rest) = text.split_at(end);
        return if local.is_empty() {
            Err(AddressError::EmptyLocalPart)
        } else if is_dot_string(local) {
            Ok((local.to_owned(), rest))
        } else {
            Err(AddressError::BadLocalPart)
        };
    };
    let mut local = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((local, quoted.get(at + 1..).unwrap_or(""))),
            '\\' => local.push(chars.next().ok_or(AddressError::BadLocalPart)?.1),
            _ => local.push(c),
        }
    }
    Err(AddressError::BadLocalPart)
}

/// Checks RFC 5321 `Dot-string`, extended by the characters of RFC 6531.
fn is_dot_string(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|atom| {
            !atom.is_empty()
                && atom.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii())
        })
}

fn parse_domain(text: &str) -> Result<String, AddressError> {
    if text.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::DomainTooLong);
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(AddressError::BadDomain)?;
        let ok = !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b));
        return if ok { Ok(text.to_ascii_lowercase()) } else { Err(AddressError::BadDomain) };
    }
    let ok = text.is_empty() || text.split('.').all(is_label);
    if ok { Ok(text.to_lowercase()) } else { Err(AddressError::BadDomain) }
}

/// Checks a label of a host name. `_` is accepted because such names exist in practice, U-labels because of RFC 6531.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| {
            c.is_ascii_alphanumeric() || c == '-' || c == '_' || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, local, domain) in [
            ("a@b.example", "a", "b.example"),
            ("A.b+c@EXAMPLE.com", "A.b+c", "example.com"),
            ("\"a b\"@c.example", "a b", "c.example"),
            ("\"a\\\"b\"@c.example", "a\"b", "c.example"),
            ("\"a@x\"@c.example", "a@x", "c.example"),
            ("x@[127.0.0.1]", "x", "[127.0.0.1]"),
            ("root", "root", ""),
        ] {
            let a = Address::parse(text).unwrap();
            assert_eq!((a.local(), a.domain()), (local, domain), "{text}");
            assert_eq!(Address::parse(&a.to_string()).unwrap(), a, "{text}");
            assert_eq!(String::from(&a), a.to_string(), "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "", "@x", "a@", "a b@c", "a..b@c", ".a@c", "a@-b", "a@b..c", "a@b.", "\"a", "a@[]", "a@[x y]", "a\r@b", "a@@b",
            "a@b@c",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        assert!(Address::parse(&format!("{}@b", "a".repeat(65))).is_err());
        assert!(Address::new("a\nb", "c").is_err());
    }
}
