//! Reader for message octets in chunks (BDAT, RFC 3030): sizes are known in advance, no dot is stuffed.

use memchr::memchr2;

use crate::data_reader::{BodySlices, DataRefusal};
use crate::server::BareNewline;

/// Reads the chunks of one message. Holds no octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BdatReader {
    bare_newline: BareNewline,
    /// The last octet was a CR, not yet emitted.
    cr_pending: bool,
    octets: u64,
    octets_max: u64,
}

impl BdatReader {
    /// Creates a reader. `octets_max` bounds the message. A message with BODY=BINARYMIME may have any octets:
    /// [`BareNewline::No`].
    pub(crate) fn new(octets_max: u64, bare_newline: BareNewline) -> Self {
        Self { bare_newline, cr_pending: false, octets: 0, octets_max }
    }

    /// Number of octets of the message so far.
    pub(crate) fn octets(&self) -> u64 {
        self.octets + u64::from(self.cr_pending)
    }

    /// Reads a piece of a chunk, and adds the octets of the message to `slices`. After a refusal the reader must not be
    /// used again.
    pub(crate) fn read<'i>(&mut self, input: &'i [u8], slices: &mut BodySlices<'i>) -> Result<(), DataRefusal> {
        if self.bare_newline == BareNewline::No {
            return self.emit(input, slices);
        }
        // `start..pos` is text scanned and not yet emitted.
        let (mut start, mut pos) = (0, 0);
        if self.cr_pending
            && let Some(first) = input.first()
        {
            self.cr_pending = false;
            if *first == b'\n' {
                self.emit(b"\r\n", slices)?;
                (start, pos) = (1, 1);
            } else {
                self.bare_line_end(slices)?;
            }
        }
        while let Some(end) = memchr2(b'\r', b'\n', input.get(pos..).unwrap_or_default()).map(|n| pos + n) {
            pos = match (input.get(end), input.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => end + 2,
                (Some(b'\r'), None) => {
                    self.cr_pending = true;
                    return self.emit(input.get(start..end).unwrap_or_default(), slices);
                }
                (_, _) => {
                    self.emit(input.get(start..end).unwrap_or_default(), slices)?;
                    self.bare_line_end(slices)?;
                    start = end + 1;
                    start
                }
            };
        }
        self.emit(input.get(start..).unwrap_or_default(), slices)
    }

    /// Ends the message after the last chunk.
    pub(crate) fn finish(&mut self, slices: &mut BodySlices<'_>) -> Result<(), DataRefusal> {
        if std::mem::take(&mut self.cr_pending) { self.bare_line_end(slices) } else { Ok(()) }
    }

    fn bare_line_end(&mut self, slices: &mut BodySlices<'_>) -> Result<(), DataRefusal> {
        match self.bare_newline {
            BareNewline::Reject => Err(DataRefusal::BareNewline),
            BareNewline::Normalize | BareNewline::No => self.emit(b"\r\n", slices),
        }
    }

    fn emit<'i>(&mut self, slice: &'i [u8], slices: &mut BodySlices<'i>) -> Result<(), DataRefusal> {
        let remaining = self.octets_max.saturating_sub(self.octets);
        let taken = usize::try_from(remaining).map_or(slice.len(), |remaining| remaining.min(slice.len()));
        let given = slice.get(..taken).unwrap_or_default();
        self.octets += given.len() as u64;
        if !given.is_empty() {
            slices.push(given, 0);
        }
        if taken < slice.len() { Err(DataRefusal::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8], size: usize, mode: BareNewline) -> (Vec<u8>, Result<(), DataRefusal>) {
        let mut reader = BdatReader::new(12, mode);
        let mut all = Vec::new();
        for piece in octets.chunks(size) {
            let mut runs = BodySlices::default();
            let result = reader.read(piece, &mut runs);
            all.extend(runs.into_bytes().unwrap_or_default());
            if result.is_err() {
                return (all, result);
            }
        }
        let mut runs = BodySlices::default();
        let result = reader.finish(&mut runs);
        all.extend(runs.into_bytes().unwrap_or_default());
        (all, result)
    }

    #[test]
    fn any_chopping_gives_the_same() {
        use BareNewline::{No, Normalize, Reject};
        let bare = Err(DataRefusal::BareNewline);
        let cases: &[(&str, BareNewline, &str, Result<(), DataRefusal>)] = &[
            ("a\r\n.\r\nb\r\n", Reject, "a\r\n.\r\nb\r\n", Ok(())),
            ("a\nb", Reject, "a", bare),
            ("a\rb", Reject, "a", bare),
            ("a\r", Reject, "a", bare),
            ("a\r\r\n", Reject, "a", bare),
            ("a\nb\rc\r\n", Normalize, "a\r\nb\r\nc\r\n", Ok(())),
            ("\n\r", Normalize, "\r\n\r\n", Ok(())),
            ("\n\n\n\n\n\n", Normalize, "\r\n\r\n\r\n\r\n\r\n\r\n", Ok(())),
            ("\n\n\n\n\n\nx", Normalize, "\r\n\r\n\r\n\r\n\r\n\r\n", Err(DataRefusal::TooLarge)),
            ("\nx\n\n\n\n\n", Normalize, "\r\nx\r\n\r\n\r\n\r\n\r", Err(DataRefusal::TooLarge)),
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
