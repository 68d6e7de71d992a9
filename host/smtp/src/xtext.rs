//! Encoding xtext (RFC 3461 §4): an octet as `+` and two upper-case hexadecimal digits.

/// Decodes xtext; `None` if the text is malformed.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                out.push(16 * hex_digit(*digits.first()?)? + hex_digit(*digits.get(1)?)?);
                rest = tail;
            }
            b'!'..=b'~' if first != b'=' => out.push(first),
            _ => return None,
        }
    }
    Some(out)
}

/// Encodes text as xtext.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(char::from(byte)),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

/// Value of a hexadecimal digit. Lower case is not valid xtext, but sent by some clients.
fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        assert_eq!(decode("a+2Bb+3D+00").unwrap(), b"a+b=\0");
        assert_eq!(encode("a+b=\0"), "a+2Bb+3D+00");
        for text in ["a=b", "+2", "+", "+2G", "a b", "\u{e9}"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
