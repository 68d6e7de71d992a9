//! Lenient decoding of transfer encodings: invalid code is skipped or kept (RFC 2045 §6.7, §6.8).

use std::borrow::Cow;

use super::TransferEncoding;

/// Decodes the octets of a body.
pub(crate) fn decode(encoding: TransferEncoding, octets: &[u8]) -> Cow<'_, [u8]> {
    match encoding {
        TransferEncoding::Identity | TransferEncoding::Unknown => Cow::Borrowed(octets),
        TransferEncoding::Base64 => Cow::Owned(decode_base64(octets)),
        TransferEncoding::QuotedPrintable => Cow::Owned(decode_quoted_printable(octets)),
    }
}

/// Decodes base64. Octets outside the alphabet are skipped; the first `=` ends the content; an incomplete last group
/// yields the complete octets.
fn decode_base64(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in octets {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 255) as u8);
        }
    }
    out
}

/// Decodes quoted-printable. White space at the end of a line is dropped; `=` before invalid code stays.
fn decode_quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for line in octets.split_inclusive(|b| *b == b'\n') {
        let (text, end) = match line {
            [text @ .., b'\r', b'\n'] => (text, &b"\r\n"[..]),
            [text @ .., b'\n'] => (text, &b"\n"[..]),
            text => (text, &b""[..]),
        };
        let trimmed = text.len() - text.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let mut rest = text.get(..trimmed).unwrap_or_default();
        let soft = rest.ends_with(b"=");
        if soft {
            rest = rest.get(..rest.len() - 1).unwrap_or_default();
        }
        while let Some((byte, tail)) = rest.split_first() {
            let code = match (byte, tail) {
                (b'=', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
                _ => None,
            };
            match code {
                Some((high, low)) => {
                    out.push(high << 4 | low);
                    rest = tail.get(2..).unwrap_or_default();
                }
                None => {
                    out.push(*byte);
                    rest = tail;
                }
            }
        }
        if !soft {
            out.extend_from_slice(end);
        }
    }
    out
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Base64Writer, QuotedPrintableWriter};
    use super::*;

    #[test]
    fn lenient() {
        assert_eq!(decode_quoted_printable(b"a=3D=3d==\r\nb \t\r\nc=\r\nd=zz=\n="), b"a===b\r\ncd=zz");
        assert_eq!(decode_base64(b"aGVs bG8\r\n"), b"hello");
        assert_eq!(decode_base64(b"aGVsbA=="), b"hell");
        assert_eq!(decode_base64(b"YQ"), b"a");
    }

    fn lines_fit(encoded: &[u8]) -> bool {
        encoded.is_ascii() && encoded.split(|b| *b == b'\n').all(|line| line.strip_suffix(b"\r").unwrap_or(line).len() <= 76)
    }

    proptest! {
        #[test]
        fn quoted_printable_round_trips(
            text in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'='), Just(b'a'), any::<u8>()], 0..300),
            size in 1_usize..50,
            open_end in any::<bool>(),
        ) {
            let (mut writer, mut out) = (QuotedPrintableWriter::default(), Vec::new());
            for piece in text.chunks(size) {
                writer.push(piece, &mut out);
            }
            writer.finish(open_end, &mut out);
            prop_assert!(lines_fit(&out), "{}", String::from_utf8_lossy(&out));
            prop_assert_eq!(decode_quoted_printable(&out), text);
        }

        #[test]
        fn base64_round_trips(octets in proptest::collection::vec(any::<u8>(), 0..400), size in 1_usize..80, open_end in any::<bool>()) {
            let (mut writer, mut out) = (Base64Writer::default(), Vec::new());
            for piece in octets.chunks(size) {
                writer.push(piece, &mut out);
            }
            writer.finish(open_end, &mut out);
            prop_assert!(lines_fit(&out));
            prop_assert_eq!(decode_base64(&out), octets);
        }

        #[test]
        fn any_octets_decode(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_quoted_printable(&octets).len() <= octets.len());
            prop_assert!(decode_base64(&octets).len() <= octets.len());
        }
    }
}
