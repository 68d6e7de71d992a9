//! Line ending conversion from CRLF on the wire to LF on disk.

use memchr::memchr;

/// Streaming converter from CRLF to LF, for input split at any point. A CR without LF is kept.
#[derive(Debug, Default)]
pub struct CrlfToLf {
    /// CR at the end of the last chunk, withheld until the next byte is known.
    held_cr: bool,
}

impl CrlfToLf {
    /// Appends the converted chunk to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(first) = piece.first() else { return };
        if std::mem::take(&mut self.held_cr) && *first != b'\n' {
            out.push(b'\r');
        }
        out.reserve(piece.len());
        let mut rest = piece;
        while let Some(at) = memchr(b'\r', rest) {
            let (before, tail) = rest.split_at(at);
            out.extend_from_slice(before);
            match tail.get(1) {
                Some(b'\n') => {}
                Some(_) => out.push(b'\r'),
                None => self.held_cr = true,
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
    }

    /// Appends a withheld CR at the end of input.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held_cr) {
            out.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut ends, mut out) = (CrlfToLf::default(), Vec::new());
        for piece in pieces {
            ends.push(piece, &mut out);
        }
        ends.finish(&mut out);
        out
    }

    #[test]
    fn converts() {
        assert_eq!(convert([&b"a\r\nb\rc\r\r\nd\n\r"[..]]), b"a\nb\rc\r\nd\n\r");
        assert_eq!(convert([&b"a\r"[..], b"", b"\nb\r", b"\r", b"\n"]), b"a\nb\r\n");
    }

    proptest! {
        #[test]
        fn chopping_does_not_matter(text in "[ab\r\n]{0,60}", size in 1_usize..9) {
            let whole = convert([text.as_bytes()]);
            prop_assert_eq!(&convert(text.as_bytes().chunks(size)), &whole);
            prop_assert_eq!(whole, text.replace("\r\n", "\n").into_bytes());
        }
    }
}
