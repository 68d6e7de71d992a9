//! The octets of a message on their way in: where they end, and dot-stuffing undone (RFC 5321 §4.5.2).
//!
//! Only CR LF . CR LF ends a message. A CR or LF that stands alone refuses it, since servers differ on what such a line end
//! means, and an end that only one of two servers sees smuggles mail past the other. Where the operator wants such messages
//! ([`BareNewline`]), it is no end all the same.

use bytes::Bytes;
use memchr::memchr2;

use crate::server::BareNewline;

/// Why a message is refused while it comes in. It is read to its end all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than allowed.
    TooLarge,
    /// A bare CR or LF.
    BareLineEnd,
}

/// What a call of [`DataReader::read`] met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEvent {
    /// All input is taken; the message goes on.
    More,
    /// The message is refused from here on; input may be left. Said once.
    Refused(Refusal),
    /// The message is over; input may be left.
    End(Option<Refusal>),
    /// A refused message goes on beyond what is read of such a one.
    Runaway,
}

/// The octets that one call gave: one slice of the input where possible, else one copy.
#[derive(Debug, Default)]
pub enum Runs<'i> {
    /// None yet.
    #[default]
    Empty,
    /// One stretch of the input.
    One(&'i [u8]),
    /// Several, put together.
    Many(Vec<u8>),
}

impl<'i> Runs<'i> {
    /// Adds a stretch; `more_max` bounds what may still come, for one allocation.
    pub(crate) fn push(&mut self, run: &'i [u8], more_max: usize) {
        match self {
            Self::Empty => *self = Self::One(run),
            Self::One(first) => {
                let mut all = Vec::with_capacity(first.len() + run.len() + more_max);
                all.extend_from_slice(first);
                all.extend_from_slice(run);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.extend_from_slice(run),
        }
    }

    /// The octets, if there are any.
    #[must_use]
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Empty => None,
            Self::One(run) => Some(Bytes::copy_from_slice(run)),
            Self::Many(all) => Some(Bytes::from(all)),
        }
    }
}

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At its beginning.
    LineStart,
    /// At its beginning, behind a line end that was none: a dot is dropped, but ends nothing.
    BareStart,
    /// Behind a dot at its beginning, which is dropped or ends the message.
    Dot,
    /// Behind dot and CR at its beginning.
    DotCr,
    /// Within it.
    Text,
    /// Behind a CR that is held back.
    Cr,
}

/// Reads one message. Holds no octets.
#[derive(Debug)]
pub struct DataReader {
    at: At,
    bare_newline: BareNewline,
    refused: Option<Refusal>,
    /// Octets given out.
    octets: u64,
    octets_max: u64,
    /// Octets of input taken, dots and end included.
    taken: u64,
    taken_max: u64,
}

impl DataReader {
    /// `octets_max` bounds the message; of a refused one `octets_max + refused_bytes_max` octets of input are read.
    #[must_use]
    pub fn new(octets_max: u64, refused_bytes_max: u64) -> Self {
        let taken_max = octets_max.saturating_add(refused_bytes_max);
        let bare_newline = BareNewline::Reject;
        Self { at: At::LineStart, bare_newline, refused: None, octets: 0, octets_max, taken: 0, taken_max }
    }

    /// What becomes of bare CR and LF, in place of [`BareNewline::Reject`].
    #[must_use]
    pub fn with_bare_newline(self, bare_newline: BareNewline) -> Self {
        Self { bare_newline, ..self }
    }

    /// Takes octets from the front of `input` and adds to `runs` what belongs to the message.
    pub fn read<'i>(&mut self, input: &mut &'i [u8], runs: &mut Runs<'i>) -> DataEvent {
        let all = *input;
        let refused_before = self.refused;
        let (taken, ended) = self.scan(all, runs);
        *input = all.get(taken..).unwrap_or_default();
        self.taken = self.taken.saturating_add(taken as u64);
        match self.refused {
            // The position of this event must not depend on how the input was cut: it comes before any check of `taken`.
            Some(refusal) if refused_before.is_none() => DataEvent::Refused(refusal),
            Some(_) if self.is_runaway() => DataEvent::Runaway,
            Some(_) | None if ended => DataEvent::End(self.refused),
            Some(_) | None => DataEvent::More,
        }
    }

    /// A refused message that is too long to be read to its end. To be asked behind [`DataEvent::Refused`], which comes first
    /// also where one input passed both limits.
    #[must_use]
    pub fn is_runaway(&self) -> bool {
        self.refused.is_some() && self.taken > self.taken_max
    }

    /// Returns the octets taken, and whether the message ended there.
    fn scan<'i>(&mut self, input: &'i [u8], runs: &mut Runs<'i>) -> (usize, bool) {
        let refused_before = self.refused;
        // `start..pos` is text seen and not given out.
        let (mut start, mut pos) = (0, 0);
        while let Some(&byte) = input.get(pos) {
            match (self.at, byte) {
                (At::LineStart, b'.') => {
                    self.give(input, start..pos, runs);
                    self.at = At::Dot;
                    pos += 1;
                    start = pos;
                }
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    pos += 1;
                    start = pos;
                }
                (At::DotCr, b'\n') => return (pos + 1, true),
                (At::Cr, b'\n') => {
                    // Its CR was the last octet of an earlier input.
                    self.give(b"\r\n", 0..2, runs);
                    self.at = At::LineStart;
                    pos += 1;
                    start = pos;
                }
                (At::BareStart, b'.') => {
                    self.give(input, start..pos, runs);
                    self.at = At::Text;
                    pos += 1;
                    start = pos;
                }
                (At::Cr | At::DotCr, _) => self.bare(b"\r", runs),
                (At::LineStart | At::BareStart | At::Dot | At::Text, _) => pos = self.text(input, &mut start, pos, runs),
            }
            if self.refused != refused_before {
                return (pos, false);
            }
        }
        self.give(input, start..pos, runs);
        (pos, false)
    }

    /// Goes from `pos` within a line to the next line, a lone CR or LF, or the end of the input.
    fn text<'i>(&mut self, input: &'i [u8], start: &mut usize, pos: usize, runs: &mut Runs<'i>) -> usize {
        let rest = input.get(pos..).unwrap_or_default();
        self.at = At::Text;
        let Some(end) = memchr2(b'\r', b'\n', rest).map(|n| pos + n) else { return input.len() };
        match (input.get(end), input.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {
                self.at = At::LineStart;
                end + 2
            }
            (Some(b'\r'), None) => {
                self.give(input, *start..end, runs);
                self.at = At::Cr;
                *start = end + 1;
                end + 1
            }
            (Some(b'\r'), _) => {
                self.give(input, *start..end, runs);
                self.bare(b"\r", runs);
                *start = end + 1;
                end + 1
            }
            (_, _) => {
                self.give(input, *start..end, runs);
                self.bare(b"\n", runs);
                *start = end + 1;
                end + 1
            }
        }
    }

    /// A CR or LF that stands alone.
    fn bare(&mut self, octet: &'static [u8], runs: &mut Runs<'_>) {
        self.at = At::Text;
        match self.bare_newline {
            BareNewline::Reject => self.refuse(Refusal::BareLineEnd),
            BareNewline::No => self.give(octet, 0..octet.len(), runs),
            BareNewline::Normalize => {
                self.give(b"\r\n", 0..2, runs);
                self.at = At::BareStart;
            }
        }
    }

    fn give<'i>(&mut self, input: &'i [u8], range: std::ops::Range<usize>, runs: &mut Runs<'i>) {
        let more_max = input.len().saturating_sub(range.end);
        let run = input.get(range).unwrap_or_default();
        if self.refused.is_some() || run.is_empty() {
            return;
        }
        let room = self.octets_max.saturating_sub(self.octets);
        let run = match usize::try_from(room) {
            Ok(room) if room < run.len() => {
                self.refuse(Refusal::TooLarge);
                run.get(..room).unwrap_or_default()
            }
            Ok(_) | Err(_) => run,
        };
        self.octets += run.len() as u64;
        if !run.is_empty() {
            runs.push(run, more_max);
        }
    }

    /// The first reason stands.
    fn refuse(&mut self, refusal: Refusal) {
        self.refused.get_or_insert(refusal);
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
                let mut runs = Runs::default();
                let before = input.len();
                let event = reader.read(&mut input, &mut runs);
                left -= before - input.len();
                octets.extend_from_slice(&runs.into_bytes().unwrap_or_default());
                match event {
                    DataEvent::More => {}
                    DataEvent::Refused(_) => {
                        events.push(event);
                        if reader.is_runaway() {
                            events.push(DataEvent::Runaway);
                            return (octets, events, 0);
                        }
                    }
                    DataEvent::End(_) => {
                        events.push(event);
                        return (octets, events, left);
                    }
                    DataEvent::Runaway => {
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
        let bare = DataEvent::Refused(Refusal::BareLineEnd);
        let bare_end = DataEvent::End(Some(Refusal::BareLineEnd));
        let large = DataEvent::Refused(Refusal::TooLarge);
        let large_end = DataEvent::End(Some(Refusal::TooLarge));
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
            ("abcdefghijklmnopqrstuvwxyzabcdefghijklmn", "abcdefghijklmnopqr", &[large, DataEvent::Runaway], 0),
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
