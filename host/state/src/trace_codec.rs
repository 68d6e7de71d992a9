//! Trace codec: trace records to octets and back.

use std::borrow::Cow;

use bytes::Bytes;
use waxwing_pipeline::{TraceEntry, TraceRecord};

use crate::redact;

/// First octet of a record. Any change of the format takes the next number; records of other versions are skipped, since a trace
/// is worth a week at most.
pub const TRACE_RECORD_VERSION: u8 = 2;
/// Maximum octets of one stored record; longer records lose their last steps.
pub const TRACE_RECORD_BYTES_MAX: usize = 64 * 1024;

/// Initial capacity in octets, enough for most records.
const TYPICAL_RECORD_BYTES: usize = 768;

/// Error of decoding a stored record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordDecodeError {
    /// Record of another version.
    #[error("the trace record has version {0}, this server reads {TRACE_RECORD_VERSION}")]
    Version(u8),
    /// Octets without a valid record.
    #[error("the trace record is damaged")]
    Damaged,
}

/// Encodes a redacted record, shortened to [`TRACE_RECORD_BYTES_MAX`].
pub(crate) fn encode(mut record: TraceRecord) -> Bytes {
    redact_in_place(&mut record.result);
    record.entries.iter_mut().for_each(redact_entry);
    loop {
        let octets = to_octets(&record);
        if octets.len() <= TRACE_RECORD_BYTES_MAX {
            return octets;
        }
        shorten(&mut record);
    }
}

fn to_octets(record: &TraceRecord) -> Bytes {
    // Serialising into memory fails only for types without a form in the encoding; records have none.
    let mut octets = Vec::with_capacity(TYPICAL_RECORD_BYTES);
    octets.push(TRACE_RECORD_VERSION);
    postcard::to_extend(record, octets).unwrap_or_default().into()
}

/// Halves the longest list, so that a few rounds suffice for any record.
fn shorten(record: &mut TraceRecord) {
    let steps = record.entries.len();
    let names = record.recipients.len();
    if steps > 1 && steps * 4 >= names {
        let at = record.at;
        record.entries.truncate(steps / 2);
        if let Some(last) = record.entries.last_mut() {
            *last = TraceEntry::server_step(at, "trace", "dropped", "", "trace too long: remaining steps dropped");
        }
    } else if names > 1 {
        record.recipients.truncate(names / 2);
    } else {
        // A single huge step or name: nothing can be kept in part.
        let TraceRecord { id, at, part, size, .. } = std::mem::replace(record, empty_record());
        *record = TraceRecord { id, at, part, size, result: "trace too long".to_owned(), ..empty_record() };
    }
}

fn empty_record() -> TraceRecord {
    TraceRecord {
        id: String::new(),
        at: waxwing_types::Timestamp::default(),
        part: "".into(),
        peer: String::new(),
        sender: String::new(),
        recipients: Vec::new(),
        size: 0,
        result: String::new(),
        entries: Vec::new(),
    }
}

pub(crate) fn redact_entry(entry: &mut TraceEntry) {
    redact_in_place(&mut entry.subject);
    if let Cow::Owned(result) = &mut entry.result {
        redact_in_place(result);
    }
    entry.log.iter_mut().for_each(redact_in_place);
    entry.edits.iter_mut().for_each(redact_in_place);
    entry.fault.iter_mut().for_each(redact_in_place);
}

pub(crate) fn redact_in_place(text: &mut String) {
    if let Cow::Owned(redacted) = redact(text) {
        *text = redacted;
    }
}

pub(crate) fn decode(octets: &[u8]) -> Result<TraceRecord, RecordDecodeError> {
    match octets.split_first() {
        Some((&TRACE_RECORD_VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((record, [])) => Ok(record),
            Ok(_) | Err(_) => Err(RecordDecodeError::Damaged),
        },
        Some((&other, _)) => Err(RecordDecodeError::Version(other)),
        None => Err(RecordDecodeError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::Timestamp;

    use super::*;

    fn record() -> TraceRecord {
        let at = Timestamp::from_millis(1_800_000_000_000);
        let mut entry = TraceEntry::server_step(at, "cleanup", "on-cleanup", "s", "next");
        entry.edits = vec!["+Date: x".into()];
        entry.micros = 300;
        entry.fault = Some("trap: x".into());
        entry.log = vec!["line".into()];
        TraceRecord {
            id: "1h0000000000q".into(),
            at,
            part: "intake".into(),
            peer: "192.0.2.1:25".into(),
            sender: "a@b.example".into(),
            recipients: vec!["c@d.example".into()],
            size: 4096,
            result: "250 2.0.0 Ok".into(),
            entries: vec![entry],
        }
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let octets = encode(record());
        assert_eq!(decode(&octets), Ok(record()));
        assert!(octets.len() < 160, "{} octets", octets.len());
        assert_eq!(decode(&[]), Err(RecordDecodeError::Damaged));
        assert_eq!(decode(&[9, 1, 2]), Err(RecordDecodeError::Version(9)));
        for length in 1..octets.len() {
            assert_eq!(decode(&octets[..length]), Err(RecordDecodeError::Damaged), "the first {length} octets");
        }
    }

    /// What version 1 looks like on disk. When this fails, the form has changed: raise [`TRACE_RECORD_VERSION`].
    #[test]
    fn version_2_is_what_it_was() {
        let hex: String = encode(record()).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, VERSION_2);
    }

    const VERSION_2: &str = concat!(
        "020d3168303030303030303030307180a0f1c2b13406696e74616b650c3139322e302e322e313a32350b6140622e6578616d",
        "706c65010b6340642e6578616d706c6580200c32353020322e302e30204f6b0180a0f1c2b13407636c65616e7570000a6f6e2d",
        "636c65616e75700173046e65787401082b446174653a2078ac02010107747261703a207801046c696e6500",
    );

    #[test]
    fn secrets_do_not_reach_the_disk() {
        let mut with_secret = record();
        with_secret.result = "500 AUTH PLAIN c2VjcmV0".into();
        with_secret.entries[0].log = vec!["AUTH LOGIN c2VjcmV0".into()];
        let octets = encode(with_secret);
        assert!(!octets.windows(8).any(|w| w == b"c2VjcmV0"));
    }

    #[test]
    fn any_record_fits() {
        let long = "x".repeat(1000);
        let steps = |n: usize, text: &str| vec![TraceEntry::server_step(Timestamp::default(), "p", "s", text, ""); n];
        let cases = [
            TraceRecord { entries: steps(1000, &long), ..record() },
            TraceRecord { recipients: vec![long.clone(); 1000], ..record() },
            TraceRecord { entries: steps(1, &long.repeat(100)), ..record() },
            TraceRecord { recipients: vec![long.repeat(100)], entries: Vec::new(), ..record() },
            TraceRecord { entries: steps(500, &long), recipients: vec![long.clone(); 500], ..record() },
        ];
        for case in cases {
            let octets = encode(case);
            assert!(octets.len() <= TRACE_RECORD_BYTES_MAX);
            assert_eq!(decode(&octets).unwrap().id, record().id);
        }
    }
}
