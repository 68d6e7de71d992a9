//! Queue ids: names of messages, sortable by time and unique in a queue.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Digits that sort like their values, without look-alikes.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Number of printed digits: 13 × 5 bits hold 64 bits.
const PRINTED_DIGITS: usize = 13;
/// Low bits that count messages within a millisecond.
const COUNTER_BITS: u32 = 20;

/// Queue id of 64 bits: milliseconds since 1970 in the high bits, a counter in the low bits. Printed in 13 base-32 digits
/// with the same sort order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueId(u64);

impl QueueId {
    /// Creates an id from the stored form.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// Returns the stored form.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the store key: big-endian, so that keys sort by time.
    #[must_use]
    pub const fn to_key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Returns the creation time. Later ids of a busy millisecond, or after a backward clock step, may be slightly ahead of
    /// the clock.
    #[must_use]
    pub const fn created_at(self) -> Timestamp {
        Timestamp::from_millis(self.0 >> COUNTER_BITS)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; PRINTED_DIGITS];
        let mut rest = self.0;
        for digit in text.iter_mut().rev() {
            *digit = DIGITS.get((rest & 31) as usize).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Error for a text that is not a queue id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a queue id has 13 digits and letters, without i, l, o and u")]
pub struct ParseQueueIdError;

impl FromStr for QueueId {
    type Err = ParseQueueIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != PRINTED_DIGITS {
            return Err(ParseQueueIdError);
        }
        let mut value: u128 = 0;
        for c in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == c.to_ascii_lowercase()).ok_or(ParseQueueIdError)?;
            value = value << 5 | digit as u128;
        }
        u64::try_from(value).map(Self).map_err(|_| ParseQueueIdError)
    }
}

/// Generates strictly increasing queue ids, even after a backward clock step.
#[derive(Debug, Default)]
pub struct QueueIdGenerator {
    last: AtomicU64,
}

impl QueueIdGenerator {
    /// Creates a generator that starts above `last`, the greatest id in the store.
    #[must_use]
    pub fn starting_after(last: QueueId) -> Self {
        Self { last: AtomicU64::new(last.0) }
    }

    /// Returns the next id.
    pub fn next(&self, now: Timestamp) -> QueueId {
        let base = now.as_millis() << COUNTER_BITS;
        let next = |last: u64| base.max(last.saturating_add(1));
        let mut last = self.last.load(Ordering::Relaxed);
        while let Err(current) = self.last.compare_exchange_weak(last, next(last), Ordering::Relaxed, Ordering::Relaxed) {
            last = current;
        }
        QueueId(next(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_time() {
        let (ids, now) = (QueueIdGenerator::default(), Timestamp::from_millis(1_800_000_000_123));
        assert_eq!((ids.next(now).created_at(), ids.next(now).created_at()), (now, now));
    }

    #[test]
    fn print_then_parse_is_identity_and_sorts() {
        let ids = QueueIdGenerator::default();
        let mut before = ids.next(Timestamp::from_millis(5));
        for now in [5, 5, 3, 6, 1_800_000_000_000] {
            let id = ids.next(Timestamp::from_millis(now));
            assert!(id > before && id.to_string() > before.to_string() && id.to_key() > before.to_key());
            assert_eq!(id.to_string().parse(), Ok(id));
            before = id;
        }
        assert!("zzzzzzzzzzzzz".parse::<QueueId>().is_err());
        assert!("0".parse::<QueueId>().is_err());
    }
}
