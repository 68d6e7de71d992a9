//! Hexadecimal encoding of octets.

use std::fmt::Write as _;

/// Encodes octets as lower-case hexadecimal digits, two per octet.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 2);
    for octet in octets {
        // Writing to a String does not fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_each() {
        assert_eq!((hex(&[0, 0x0a, 0xff]).as_str(), hex(&[]).as_str()), ("000aff", ""));
    }
}
