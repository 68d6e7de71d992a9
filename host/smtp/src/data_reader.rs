//! Reader for message octets after DATA: finds the end of the message and removes dot-stuffing (RFC 5321 §4.5.2).
//!
//! Only CR LF . CR LF ends a message. A bare CR or LF causes a refusal: servers differ on the meaning of such a line
//! end, and an end of data seen by only one of two servers lets mail be smuggled past the other. Where the operator
//! accepts bare line ends ([`BareNewline`]), they still never end the message.

use bytes::Bytes;
use memchr::memchr2;

use crate::server::BareNewline;

/// Reason for refusing a message during DATA or BDAT. The rest of the message is read nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRefusal {
    /// Message longer than the limit.
    TooLarge,
    /// Message with a bare CR or LF.
    BareNewline,
}

/// Result of a call of [`DataReader::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEvent {
    /// All input is consumed; the message continues.
    More,
    /// The message is refused from here on; input may remain. Returned once per message.
    Refused(DataRefusal),
    /// End of the message; input may remain.
    End(Option<DataRefusal>),
    /// A refused message exceeds the number of octets read after a refusal.
    SkipLimitExceeded,
}

/// Message octets produced by one call: a slice of the input where possible, else one copy.
#[derive(Debug, Default)]
pub enum BodySlices<'i> {
    /// No octets yet.
    #[default]
    Empty,
    /// One contiguous slice of the input.
    One(&'i [u8]),
    /// Several slices, copied into one buffer.
    Many(Vec<u8>),
}

impl<'i> BodySlices<'i> {
    /// Adds a slice; `more_max` bounds the octets still to come, so that one allocation is enough.
    pub(crate) fn push(&mut self, slice: &'i [u8], more_max: usize) {
        match self {
            Self::Empty => *self = Self::One(slice),
            Self::One(first) => {
                let mut all = Vec::with_capacity(first.len() + slice.len() + more_max);
                all.extend_from_slice(first);
                all.extend_from_slice(slice);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.extend_from_slice(slice),
        }
    }

    /// Returns the octets, or `None` if there are none.
    #[must_use]
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Empty => None,
            Self::One(slice) => Some(Bytes::copy_from_slice(slice)),
            Self::Many(all) => Some(Bytes::from(all)),
        }
    }
}

/// Position of the next octet within a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// At the start of a line.
    LineStart,
    /// After a bare line end turned into CRLF: a leading dot is dropped, but never ends the message.
    AfterBareNewline,
    /// After a dot at the start of a line; the dot is dropped or ends the message.
    Dot,
    /// After dot and CR at the start of a line.
    DotCr,
    /// Within the text of a line.
    Text,
    /// After a CR not yet emitted.
    Cr,
}

/// Reads one message after DATA. Holds no octets.
#[derive(Debug)]
pub struct DataReader {
    line_state: LineState,
    bare_newline: BareNewline,
    refusal: Option<DataRefusal>,
    /// Octets emitted so far.
    octets: u64,
    octets_max: u64,
    /// Octets of input consumed, dots and end of data included.
    consumed: u64,
    consumed_max: u64,
}

impl DataReader {
    /// Creates a reader. `octets_max` bounds the message; of a refused message `octets_max + refused_bytes_max` octets
    /// of input are read.
    #[must_use]
    pub fn new(octets_max: u64, refused_bytes_max: u64) -> Self {
        let taken_max = octets_max.saturating_add(refused_bytes_max);
        let bare_newline = BareNewline::Reject;
        Self {
            line_state: LineState::LineStart,
            bare_newline,
            refusal: None,
            octets: 0,
            octets_max,
            consumed: 0,
            consumed_max: taken_max,
        }
    }

    /// Sets the handling of bare CR and LF; the default is [`BareNewline::Reject`].
    #[must_use]
    pub fn with_bare_newline(self, bare_newline: BareNewline) -> Self {
        Self { bare_newline, ..self }
    }

    /// Consumes octets from the front of `input` and adds the octets of the message to `slices`.
    pub fn read<'i>(&mut self, input: &mut &'i [u8], slices: &mut BodySlices<'i>) -> DataEvent {
        let all = *input;
        let refused_before = self.refusal;
        let (taken, ended) = self.scan(all, slices);
        *input = all.get(taken..).unwrap_or_default();
        self.consumed = self.consumed.saturating_add(taken as u64);
        match self.refusal {
            // The position of the refusal must not depend on the chunking of the input, so the refusal precedes any
            // check of the octets consumed.
            Some(refusal) if refused_before.is_none() => DataEvent::Refused(refusal),
            Some(_) if self.exceeds_skip_limit() => DataEvent::SkipLimitExceeded,
            Some(_) | None if ended => DataEvent::End(self.refusal),
            Some(_) | None => DataEvent::More,
        }
    }

    /// Returns whether a refused message is too long to be read to the end. To be checked after [`DataEvent::Refused`]:
    /// one input may pass both limits, and the refusal is reported first.
    #[must_use]
    pub fn exceeds_skip_limit(&self) -> bool {
        self.refusal.is_some() && self.consumed > self.consumed_max
    }

    /// Returns the number of octets consumed, and whether the message ended there.
    fn scan<'i>(&mut self, input: &'i [u8], slices: &mut BodySlices<'i>) -> (usize, bool) {
        let refused_before = self.refusal;
        // `start..pos` is text scanned and not yet emitted.
        let (mut start, mut pos) = (0, 0);
        while let Some(&byte) = input.get(pos) {
            match (self.line_state, byte) {
                (LineState::LineStart, b'.') => {
                    self.emit(input, start..pos, slices);
                    self.line_state = LineState::Dot;
                    pos += 1;
                    start = pos;
                }
                (LineState::Dot, b'\r') => {
                    self.line_state = LineState::DotCr;
                    pos += 1;
                    start = pos;
                }
                (LineState::DotCr, b'\n') => return (pos + 1, true),
                (LineState::Cr, b'\n') => {
                    // The CR was the last octet of an earlier input.
                    self.emit(b"\r\n", 0..2, slices);
                    self.line_state = LineState::LineStart;
                    pos += 1;
                    start = pos;
                }
                (LineState::AfterBareNewline, b'.') => {
                    self.emit(input, start..pos, slices);
                    self.line_state = LineState::Text;
                    pos += 1;
                    start = pos;
                }
                (LineState::Cr | LineState::DotCr, _) => self.bare_line_end(b"\r", slices),
                (LineState::LineStart | LineState::AfterBareNewline | LineState::Dot | LineState::Text, _) => {
                    pos = self.scan_text(input, &mut start, pos, slices)
                }
            }
            if self.refusal != refused_before {
                return (pos, false);
            }
        }
        self.emit(input, start..pos, slices);
        (pos, false)
    }

    /// Scans from `pos` within a line to the next line, a bare CR or LF, or the end of the input.
    fn scan_text<'i>(&mut self, input: &'i [u8], start: &mut usize, pos: usize, slices: &mut BodySlices<'i>) -> usize {
        let rest = input.get(pos..).unwrap_or_default();
        self.line_state = LineState::Text;
        let Some(end) = memchr2(b'\r', b'\n', rest).map(|n| pos + n) else { return input.len() };
        match (input.get(end), input.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {
                self.line_state = LineState::LineStart;
                end + 2
            }
            (Some(b'\r'), None) => {
                self.emit(input, *start..end, slices);
                self.line_state = LineState::Cr;
                *start = end + 1;
                end + 1
            }
            (Some(b'\r'), _) => {
                self.emit(input, *start..end, slices);
                self.bare_line_end(b"\r", slices);
                *start = end + 1;
                end + 1
            }
            (_, _) => {
                self.emit(input, *start..end, slices);
                self.bare_line_end(b"\n", slices);
                *start = end + 1;
                end + 1
            }
        }
    }

    /// Handles a bare CR or LF.
    fn bare_line_end(&mut self, octet: &'static [u8], slices: &mut BodySlices<'_>) {
        self.line_state = LineState::Text;
        match self.bare_newline {
            BareNewline::Reject => self.refuse(DataRefusal::BareNewline),
            BareNewline::No => self.emit(octet, 0..octet.len(), slices),
            BareNewline::Normalize => {
                self.emit(b"\r\n", 0..2, slices);
                self.line_state = LineState::AfterBareNewline;
            }
        }
    }

    fn emit<'i>(&mut self, input: &'i [u8], range: std::ops::Range<usize>, slices: &mut BodySlices<'i>) {
        let more_max = input.len().saturating_sub(range.end);
        let slice = input.get(range).unwrap_or_default();
        if self.refusal.is_some() || slice.is_empty() {
            return;
        }
        let remaining = self.octets_max.saturating_sub(self.octets);
        let slice = match usize::try_from(remaining) {
            Ok(remaining) if remaining < slice.len() => {
                self.refuse(DataRefusal::TooLarge);
                slice.get(..remaining).unwrap_or_default()
            }
            Ok(_) | Err(_) => slice,
        };
        self.octets += slice.len() as u64;
        if !slice.is_empty() {
            slices.push(slice, more_max);
        }
    }

    /// Records a refusal; an earlier refusal wins.
    fn refuse(&mut self, refusal: DataRefusal) {
        self.refusal.get_or_insert(refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read in chunks of `size`: octets, and the end with the octets left, or what stopped it.
    fn read(wire: &[u8], size: usize, octets_max: u64, mode: BareNewline) -> (Vec<u8>, Vec<DataEvent>, usize) {
        let mut reader = DataReader::new(octets_max, 10).with_bare_newline(mode);
        let (mut octets, mut events, mut left) = (Vec::new(), Vec::new(), wire.len());
        for chunk in wire.chunks(size) {
            let mut input = chunk;
            while !input.is_empty() {
                let mut runs = BodySlices::default();
                let before = input.len();
                let event = reader.read(&mut input, &mut runs);
                left -= before - input.len();
                octets.extend_from_slice(&runs.into_bytes().unwrap_or_default());
                match event {
                    DataEvent::More => {}
                    DataEvent::Refused(_) => {
                        events.push(event);
                        if reader.exceeds_skip_limit() {
                            events.push(DataEvent::SkipLimitExceeded);
                            return (octets, events, 0);
                        }
                    }
                    DataEvent::End(_) => {
                        events.push(event);
                        return (octets, events, left);
                    }
                    DataEvent::SkipLimitExceeded => {
                        // Where it is noticed depends on the input's size, that it is does not.
                        events.push(event);
                        return (octets, events, 0);
                    }
                }
            }
        }
        (octets, events, left)
    }

    #[test]
    fn any_chopping_gives_the_same() {
        let ok = DataEvent::End(None);
        let bare = DataEvent::Refused(DataRefusal::BareNewline);
        let bare_end = DataEvent::End(Some(DataRefusal::BareNewline));
        let large = DataEvent::Refused(DataRefusal::TooLarge);
        let large_end = DataEvent::End(Some(DataRefusal::TooLarge));
        let cases: &[(&str, &str, &[DataEvent], usize)] = &[
            (".\r\nQUIT", "", &[ok], 4),
            ("a\r\n.\r\n", "a\r\n", &[ok], 0),
            ("..\r\n.b\r\n...\r\n.\r\n", ".\r\nb\r\n..\r\n", &[ok], 0),
            ("a\n.\nb\r\n.\r\nX", "a", &[bare, bare_end], 1),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n", &[bare, bare_end], 0),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n", &[bare, bare_end], 0),
            ("a\n.\r\nb\r\n.\r\n", "a", &[bare, bare_end], 0),
            ("a\r.\rb\r\n.\r\n", "a", &[bare, bare_end], 0),
            ("a\r\r\n.\r\nX", "a", &[bare, bare_end], 1),
            ("\n.\r\nb\r\n.\r\n", "", &[bare, bare_end], 0),
            ("abcdefghijklmnop\r\n.\r\nX", "abcdefghijklmnop\r\n", &[ok], 1),
            ("abcdefghijklmnopq\r\n.\r\nX", "abcdefghijklmnopq\r", &[large, large_end], 1),
            ("abcdefghijklmnopqrstuvwxyzabcdefghijklmn", "abcdefghijklmnopqr", &[large, DataEvent::SkipLimitExceeded], 0),
            ("abcdefghijklmnopqrst\n\r\n.\r\nX", "abcdefghijklmnopqr", &[large, large_end], 1),
        ];
        for (wire, octets, events, left) in cases {
            for size in 1..=wire.len() {
                let found = read(wire.as_bytes(), size, 18, BareNewline::Reject);
                assert_eq!(found, (octets.as_bytes().to_vec(), events.to_vec(), *left), "{wire:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn bare_line_ends_end_nothing_in_any_mode() {
        use BareNewline::{No, Normalize};
        for (wire, mode, octets, left) in [
            ("a\nb\rc\r\n.\r\nX", Normalize, "a\r\nb\r\nc\r\n", 1),
            ("a\nb\rc\r\n.\r\nX", No, "a\nb\rc\r\n", 1),
            ("a\n.\r\nb\r\n.\r\n", Normalize, "a\r\n\r\nb\r\n", 0),
            ("a\n.\r\nb\r\n.\r\n", No, "a\n.\r\nb\r\n", 0),
            ("a\n..b\r\n.\r\n", Normalize, "a\r\n.b\r\n", 0),
            ("a\r\n.\nb\r\n.\r\n", Normalize, "a\r\n\r\nb\r\n", 0),
            ("a\r\n.\nb\r\n.\r\n", No, "a\r\n\nb\r\n", 0),
            ("a\r\n.\rb\r\n.\r\n", Normalize, "a\r\n\r\nb\r\n", 0),
            ("a\r\n.\r\r\n.\r\n", Normalize, "a\r\n\r\n\r\n", 0),
            ("a\r.\r\nb\r\n.\r\n", Normalize, "a\r\n\r\nb\r\n", 0),
            ("a\r.\r\nb\r\n.\r\n", No, "a\r.\r\nb\r\n", 0),
            ("a\r\r\n.\r\n", Normalize, "a\r\n\r\n", 0),
            ("\n\n.\n.\r\n\r\n.\r\n", Normalize, "\r\n\r\n\r\n\r\n\r\n", 0),
        ] {
            for size in 1..=wire.len() {
                let found = read(wire.as_bytes(), size, 18, mode);
                let wanted = (octets.as_bytes().to_vec(), vec![DataEvent::End(None)], left);
                assert_eq!(found, wanted, "{wire:?} in chunks of {size}, {mode:?}");
            }
        }
    }
}
