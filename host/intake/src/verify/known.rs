//! An answer as it is kept.

use std::time::Duration;

use waxwing_types::Timestamp;

use super::{Finding, PROBE_PAUSE, VerifySettings};

/// Octets of what a server said that are kept.
pub(super) const WORDS_BYTES_MAX: usize = 300;
/// The form of a stored answer.
const VERSION: u8 = 1;

/// What was said of an address, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) finding: Finding,
    /// The finding is from then.
    pub(super) answered: Timestamp,
    /// The last probe, which may have found out nothing.
    pub(super) asked: Timestamp,
}

impl Known {
    /// How long it counts from now on.
    pub(super) fn left(&self, settings: &VerifySettings, now: Timestamp) -> Duration {
        let whole = match self.finding {
            Finding::Deliverable => settings.address_verify_positive_expire_time,
            Finding::Undeliverable(_) => settings.address_verify_negative_expire_time,
            Finding::Unknown(_) => PROBE_PAUSE,
        };
        whole.saturating_sub(now.since(self.answered))
    }

    /// It is old enough to be asked for again.
    pub(super) fn is_stale(&self, settings: &VerifySettings, now: Timestamp) -> bool {
        let fresh = match self.finding {
            Finding::Deliverable => settings.address_verify_positive_refresh_time,
            Finding::Undeliverable(_) => settings.address_verify_negative_refresh_time,
            Finding::Unknown(_) => PROBE_PAUSE,
        };
        now.since(self.answered) >= fresh && now.since(self.asked) >= PROBE_PAUSE
    }

    /// The version, `+`, `-` or `?`, two times in milliseconds since 1970, the words.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (sign, words) = match &self.finding {
            Finding::Deliverable => (b'+', ""),
            Finding::Undeliverable(words) => (b'-', words.as_str()),
            Finding::Unknown(words) => (b'?', words.as_str()),
        };
        let mut out = vec![VERSION, sign];
        out.extend_from_slice(&self.answered.as_millis().to_be_bytes());
        out.extend_from_slice(&self.asked.as_millis().to_be_bytes());
        out.extend_from_slice(words.as_bytes());
        out
    }

    /// None for what another version wrote: the address is asked about again.
    pub(super) fn decode(stored: &[u8]) -> Option<Self> {
        let (&[VERSION, sign], rest) = stored.split_first_chunk::<2>()? else { return None };
        let (answered, rest) = rest.split_first_chunk::<8>()?;
        let (asked, words) = rest.split_first_chunk::<8>()?;
        let time = |octets: &[u8; 8]| Timestamp::from_millis(u64::from_be_bytes(*octets));
        let words = || String::from_utf8_lossy(words).into_owned();
        let finding = match sign {
            b'+' => Finding::Deliverable,
            b'-' => Finding::Undeliverable(words()),
            b'?' => Finding::Unknown(words()),
            _ => return None,
        };
        Some(Self { finding, answered: time(answered), asked: time(asked) })
    }
}

/// The address behind a hash of it (FNV-1a), which spreads the rows.
pub(super) fn row_key(key: &str) -> Vec<u8> {
    let hash = key.bytes().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    let mut row = hash.to_be_bytes().to_vec();
    row.extend_from_slice(key.as_bytes());
    row
}
