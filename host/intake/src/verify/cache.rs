//! Storage format of cached probe results.

use std::time::Duration;

use waxwing_config::AddressVerifyConfig;
use waxwing_types::Timestamp;

/// Maximum bytes of stored reply text.
pub(super) const REPLY_TEXT_BYTES_MAX: usize = 300;
/// Version of the storage format.
const VERSION: u8 = 1;
/// Minimum time between probes of an address, whatever the result.
const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(60);

/// Result of an address probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProbeResult {
    /// Mail server accepts mail for the address.
    Deliverable,
    /// Mail server refuses mail for the address, with reply text.
    Undeliverable(String),
    /// No result at present, with reason.
    Unknown(String),
}

/// Cached result of an address probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CachedProbe {
    pub(super) result: ProbeResult,
    /// Time of the result.
    pub(super) answered_at: Timestamp,
    /// Time of the last probe, including failed probes.
    pub(super) probed_at: Timestamp,
}

impl CachedProbe {
    /// Remaining time until the entry expires.
    pub(super) fn remaining_ttl(&self, settings: &AddressVerifyConfig, now: Timestamp) -> Duration {
        let lifetime = match self.result {
            ProbeResult::Deliverable => settings.address_verify_positive_expire_time,
            ProbeResult::Undeliverable(_) => settings.address_verify_negative_expire_time,
            ProbeResult::Unknown(_) => PROBE_INTERVAL_MIN,
        };
        lifetime.saturating_sub(now.since(self.answered_at))
    }

    /// Returns whether the entry is due for a refresh.
    pub(super) fn is_stale(&self, settings: &AddressVerifyConfig, now: Timestamp) -> bool {
        let refresh_after = match self.result {
            ProbeResult::Deliverable => settings.address_verify_positive_refresh_time,
            ProbeResult::Undeliverable(_) => settings.address_verify_negative_refresh_time,
            ProbeResult::Unknown(_) => PROBE_INTERVAL_MIN,
        };
        now.since(self.answered_at) >= refresh_after && now.since(self.probed_at) >= PROBE_INTERVAL_MIN
    }

    /// Encodes version, `+`, `-` or `?`, two timestamps (milliseconds since 1970, big-endian), and the reply text.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (sign, text) = match &self.result {
            ProbeResult::Deliverable => (b'+', ""),
            ProbeResult::Undeliverable(text) => (b'-', text.as_str()),
            ProbeResult::Unknown(text) => (b'?', text.as_str()),
        };
        let mut out = vec![VERSION, sign];
        out.extend_from_slice(&self.answered_at.as_millis().to_be_bytes());
        out.extend_from_slice(&self.probed_at.as_millis().to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    }

    /// Decodes an entry; `None` for another format version, with the effect of a new probe.
    pub(super) fn decode(stored: &[u8]) -> Option<Self> {
        let (&[VERSION, sign], rest) = stored.split_first_chunk::<2>()? else { return None };
        let (answered, rest) = rest.split_first_chunk::<8>()?;
        let (asked, text) = rest.split_first_chunk::<8>()?;
        let time = |octets: &[u8; 8]| Timestamp::from_millis(u64::from_be_bytes(*octets));
        let text = || String::from_utf8_lossy(text).into_owned();
        let finding = match sign {
            b'+' => ProbeResult::Deliverable,
            b'-' => ProbeResult::Undeliverable(text()),
            b'?' => ProbeResult::Unknown(text()),
            _ => return None,
        };
        Some(Self { result: finding, answered_at: time(answered), probed_at: time(asked) })
    }
}

/// Storage key: FNV-1a hash, to spread the entries, followed by the address.
pub(super) fn row_key(key: &str) -> Vec<u8> {
    let hash = key.bytes().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    let mut row = hash.to_be_bytes().to_vec();
    row.extend_from_slice(key.as_bytes());
    row
}
