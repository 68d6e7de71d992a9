//! Header field, in its received form.

use bytes::Bytes;
use memchr::memchr;

/// Maximum length in octets of the name of a generated field.
const FIELD_NAME_BYTES_MAX: usize = 200;

/// Header field: the octets as received or generated, folds and final CRLF included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    raw: Bytes,
    name_len: usize,
}

/// Reason for refusing a field name or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Name empty, too long, or not printable ASCII without colon (RFC 5322 §2.2).
    #[error("a field name is 1 to 200 printable ASCII characters without colon")]
    BadName,
    /// Value with NUL, a bare CR, or a line starting another field.
    #[error("a field value has no NUL and no bare CR, and each further line begins with white space")]
    BadValue,
}

impl Field {
    /// Creates the field `name: value` CRLF. Further lines of the value, separated by LF or CRLF, must begin with white
    /// space.
    pub fn new(name: &str, value: &[u8]) -> Result<Self, FieldError> {
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || !name.bytes().all(is_name_byte) {
            return Err(FieldError::BadName);
        }
        let mut raw = Vec::with_capacity(name.len() + value.len() + 4);
        raw.extend_from_slice(name.as_bytes());
        raw.extend_from_slice(b": ");
        for (number, line) in value.split(|b| *b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if number > 0 {
                if !matches!(line.first(), Some(b' ' | b'\t')) {
                    return Err(FieldError::BadValue);
                }
                raw.extend_from_slice(b"\r\n");
            }
            if line.iter().any(|b| matches!(b, 0 | b'\r')) {
                return Err(FieldError::BadValue);
            }
            raw.extend_from_slice(line);
        }
        raw.extend_from_slice(b"\r\n");
        Ok(Self { raw: raw.into(), name_len: name.len() })
    }

    /// Wraps the octets of a received field. `None` without a name and a colon at the start.
    #[must_use]
    pub fn from_raw(raw: Bytes) -> Option<Self> {
        field_name_len(&raw).map(|name_len| Self { raw, name_len })
    }

    /// Returns the name, as received.
    #[must_use]
    pub fn name(&self) -> &str {
        self.raw.get(..self.name_len).and_then(|n| std::str::from_utf8(n).ok()).unwrap_or_default()
    }

    /// Compares the name, ignoring case.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }

    /// Returns the value with folds, without surrounding white space.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        let colon = memchr(b':', &self.raw).unwrap_or(self.raw.len());
        self.raw.get(colon + 1..).unwrap_or_default().trim_ascii()
    }

    /// Returns the value unfolded to one line (RFC 5322 §2.2.3), with invalid UTF-8 replaced.
    #[must_use]
    pub fn unfolded(&self) -> String {
        let value: Vec<u8> = self.value().iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        String::from_utf8_lossy(&value).into_owned()
    }

    /// Returns the octets, final CRLF included.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

/// Length of the field name if the line begins a field. White space before the colon is tolerated (RFC 5322 §4.5),
/// white space within the name is not: implementations differ on the meaning of such a field.
pub(crate) fn field_name_len(line: &[u8]) -> Option<usize> {
    let colon = memchr(b':', line)?;
    let before = line.get(..colon)?;
    let name = before.trim_ascii_end();
    (!name.is_empty() && name.iter().copied().all(is_name_byte)).then_some(name.len())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b':'
}
