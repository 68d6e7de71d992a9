//! Target `data_reader`: a line of sizes, then the octets behind 354.

use bytes::Bytes;
use waxwing_smtp::server::BareNewline;
use waxwing_smtp::{BodySlices, DataEvent, DataReader, DataRefusal, DotStuffer};

use crate::layout::{bare_newline, bounded, chop, split_line};

const OCTETS_MAX: u64 = 300;
const REFUSED_MAX: u64 = 200;

/// Result of one message.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    octets: Vec<u8>,
    refused: Option<DataRefusal>,
    /// Offset in the input at which the message ended.
    end: Option<usize>,
    runaway: bool,
}

/// Law of the target. An `N` or `O` in the line of sizes takes bare line ends as CR LF, or as they are.
///
/// Any division of the input gives the same; CR LF . CR LF is the only end; an accepted message agrees with a plain second implementation of
/// RFC 5321 §4.5.2, and the client's dot-stuffing of it gives the same octets.
pub fn data_reader(input: &[u8]) {
    let (sizes, wire) = split_line(bounded(input));
    let bare = bare_newline(sizes);
    let whole = read(&[wire], bare);
    assert_eq!(read(&chop(wire, sizes), bare), whole, "cut by {sizes:?}");
    assert_eq!(read(&chop(wire, b""), bare), whole, "octet by octet");
    if let Some(end) = whole.end {
        assert!(
            wire.get(..end).is_some_and(|read| read == b".\r\n" || read.ends_with(b"\r\n.\r\n")),
            "another end of the message"
        );
    }
    if bare == BareNewline::Reject
        && let (Some(end), None) = (whole.end, whole.refused)
    {
        let message = wire.get(..end).unwrap_or_default();
        assert_eq!(plain_reading(message).as_deref(), Some(whole.octets.as_slice()));
        let mut stuffer = DotStuffer::new();
        let mut sent = stuffer.stuff(Bytes::copy_from_slice(&whole.octets)).to_vec();
        sent.extend_from_slice(&stuffer.finish());
        assert_eq!(read(&[&sent], bare).octets, whole.octets, "sent on");
    }
}

fn read(pieces: &[&[u8]], bare: BareNewline) -> Read {
    let mut reader = DataReader::new(OCTETS_MAX, REFUSED_MAX).with_bare_newline(bare);
    let mut found = Read { octets: Vec::new(), refused: None, end: None, runaway: false };
    let mut before = 0;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && found.end.is_none() && !found.runaway {
            let mut runs = BodySlices::default();
            let event = reader.read(&mut rest, &mut runs);
            found.octets.extend_from_slice(&runs.into_bytes().unwrap_or_default());
            match event {
                DataEvent::More => {}
                DataEvent::Refused(refusal) => {
                    assert!(found.refused.is_none(), "refused twice");
                    found.refused = Some(refusal);
                    found.runaway = reader.exceeds_skip_limit();
                }
                DataEvent::End(refusal) => {
                    assert_eq!(refusal, found.refused);
                    found.end = Some(before + piece.len() - rest.len());
                }
                DataEvent::SkipLimitExceeded => found.runaway = true,
            }
        }
        before += piece.len();
    }
    assert!(found.octets.len() as u64 <= OCTETS_MAX, "{} octets given out", found.octets.len());
    // The position of a runaway message depends on the division of the input; it has no effect, since the connection closes.
    found
}

/// Message up to the first CR LF . CR LF by the text of the RFC; `None` for a bare CR or LF.
fn plain_reading(wire: &[u8]) -> Option<Vec<u8>> {
    let body = wire.strip_suffix(b".\r\n")?;
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, left) = rest.split_at(end + 2);
        let text = line.strip_suffix(b"\r\n")?;
        if text.contains(&b'\r') || text.contains(&b'\n') || text == b"." {
            return None;
        }
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = left;
    }
    Some(out)
}
