//! Reader for message octets in chunks (BDAT, RFC 3030): sizes are known in advance, no dot is stuffed.

use memchr::memchr2;

use crate::data::{Refusal, Runs};
use crate::server::BareNewline;

/// Reads the chunks of one message. Holds no octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkReader {
    bare_newline: BareNewline,
    /// The last octet was a CR, not yet emitted.
    cr: bool,
    octets: u64,
    octets_max: u64,
}

impl ChunkReader {
    /// Creates a reader. `octets_max` bounds the message. A message with BODY=BINARYMIME may have any octets:
    /// [`BareNewline::No`].
    pub(crate) fn new(octets_max: u64, bare_newline: BareNewline) -> Self {
        Self { bare_newline, cr: false, octets: 0, octets_max }
    }

    /// Number of octets of the message so far.
    pub(crate) fn octets(&self) -> u64 {
        self.octets + u64::from(self.cr)
    }

    /// Reads a piece of a chunk, and adds the octets of the message to `slices`. After a refusal the reader must not be
    /// used again.
    pub(crate) fn read<'i>(&mut self, input: &'i [u8], slices: &mut Runs<'i>) -> Result<(), Refusal> {
        if self.bare_newline == BareNewline::No {
            return self.give(input, slices);
        }
        // `start..pos` is text scanned and not yet emitted.
        let (mut start, mut pos) = (0, 0);
        if self.cr
            && let Some(first) = input.first()
        {
            self.cr = false;
            if *first == b'\n' {
                self.give(b"\r\n", slices)?;
                (start, pos) = (1, 1);
            } else {
                self.bare(slices)?;
            }
        }
        while let Some(end) = memchr2(b'\r', b'\n', input.get(pos..).unwrap_or_default()).map(|n| pos + n) {
            pos = match (input.get(end), input.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => end + 2,
                (Some(b'\r'), None) => {
                    self.cr = true;
                    return self.give(input.get(start..end).unwrap_or_default(), slices);
                }
                (_, _) => {
                    self.give(input.get(start..end).unwrap_or_default(), slices)?;
                    self.bare(slices)?;
                    start = end + 1;
                    start
                }
            };
        }
        self.give(input.get(start..).unwrap_or_default(), slices)
    }

    /// Ends the message after the last chunk.
    pub(crate) fn end(&mut self, slices: &mut Runs<'_>) -> Result<(), Refusal> {
        if std::mem::take(&mut self.cr) { self.bare(slices) } else { Ok(()) }
    }

    fn bare(&mut self, slices: &mut Runs<'_>) -> Result<(), Refusal> {
        match self.bare_newline {
            BareNewline::Reject => Err(Refusal::BareLineEnd),
            BareNewline::Normalize | BareNewline::No => self.give(b"\r\n", slices),
        }
    }

    fn give<'i>(&mut self, slice: &'i [u8], slices: &mut Runs<'i>) -> Result<(), Refusal> {
        let remaining = self.octets_max.saturating_sub(self.octets);
        let taken = usize::try_from(remaining).map_or(slice.len(), |remaining| remaining.min(slice.len()));
        let given = slice.get(..taken).unwrap_or_default();
        self.octets += given.len() as u64;
        if !given.is_empty() {
            slices.push(given, 0);
        }
        if taken < slice.len() { Err(Refusal::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8], size: usize, mode: BareNewline) -> (Vec<u8>, Result<(), Refusal>) {
        let mut reader = ChunkReader::new(12, mode);
        let mut all = Vec::new();
        for piece in octets.chunks(size) {
            let mut runs = Runs::default();
            let result = reader.read(piece, &mut runs);
            all.extend(runs.into_bytes().unwrap_or_default());
            if result.is_err() {
                return (all, result);
            }
        }
        let mut runs = Runs::default();
        let result = reader.end(&mut runs);
        all.extend(runs.into_bytes().unwrap_or_default());
        (all, result)
    }

    #[test]
    fn any_chopping_gives_the_same() {
        use BareNewline::{No, Normalize, Reject};
        let bare = Err(Refusal::BareLineEnd);
        let cases: &[(&str, BareNewline, &str, Result<(), Refusal>)] = &[
            ("a\r\n.\r\nb\r\n", Reject, "a\r\n.\r\nb\r\n", Ok(())),
            ("a\nb", Reject, "a", bare),
            ("a\rb", Reject, "a", bare),
            ("a\r", Reject, "a", bare),
            ("a\r\r\n", Reject, "a", bare),
            ("a\nb\rc\r\n", Normalize, "a\r\nb\r\nc\r\n", Ok(())),
            ("\n\r", Normalize, "\r\n\r\n", Ok(())),
            ("\n\n\n\n\n\n", Normalize, "\r\n\r\n\r\n\r\n\r\n\r\n", Ok(())),
            ("\n\n\n\n\n\nx", Normalize, "\r\n\r\n\r\n\r\n\r\n\r\n", Err(Refusal::TooLarge)),
            ("\nx\n\n\n\n\n", Normalize, "\r\nx\r\n\r\n\r\n\r\n\r", Err(Refusal::TooLarge)),
            ("a\nb\rc\r", No, "a\nb\rc\r", Ok(())),
        ];
        for (octets, mode, given, result) in cases {
            for size in 1..=octets.len() {
                let found = read(octets.as_bytes(), size, *mode);
                assert_eq!(found, (given.as_bytes().to_vec(), *result), "{octets:?} in pieces of {size}");
            }
        }
    }
}
