//! In-memory summary of the due index: the low-water cursor, tracked units, and counts.
//!
//! A scan from the start of the index walks over all removed keys, about a second per million. Each scan therefore starts
//! at the low-water cursor, the lesser of two bounds: the least *tracked* key (keys inserted by this process are tracked
//! individually) and `untracked_low`, a lower bound of all other keys. Excess tracked keys are evicted to `untracked_low`;
//! scans raise `untracked_low` again.
//!
//! All changes happen under a single lock together with the submission of their batch, so that batches and changes have the
//! same order, and a crash always leaves the state after a complete change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use waxwing_spool::{DueKey, Unit};
use waxwing_store::{Batch, Keyspace};
use waxwing_types::{Monotonic, QueueId, Timestamp};

use crate::record::{StateRecord, encode_state};

/// Maximum number of tracked keys; beyond, the later half is evicted.
const TRACKED_KEYS_MAX: usize = 64 << 10;
/// Interval at which the cursor is stored, piggybacked on other writes.
const CURSOR_INTERVAL: Duration = Duration::from_secs(5);
/// Lag of the stored cursor behind the clock, so that new keys are seldom below the cursor.
const CURSOR_LAG: Duration = Duration::from_secs(60);

/// Key of the state record in the keyspace `meta`.
pub(crate) const STATE_KEY: &[u8] = b"state";

/// Greatest possible key.
const DUE_KEY_MAX: DueKey =
    DueKey { next_at: Timestamp::from_millis(u64::MAX), id: QueueId::from_u64(u64::MAX), number: u16::MAX };

/// Number of units by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitCounts {
    pub(crate) incoming: u64,
    pub(crate) deferred: u64,
    pub(crate) hold: u64,
    pub(crate) corrupt: u64,
}

impl UnitCounts {
    /// Returns the counter of due units with the given number of attempts.
    pub(crate) fn due_mut(&mut self, attempts: u32) -> &mut u64 {
        if attempts == 0 { &mut self.incoming } else { &mut self.deferred }
    }
}

/// Queue id, number and version of a unit; version 0 stands for a record that cannot be read.
pub(crate) type UnitVersion = (QueueId, u16, u64);

pub(crate) struct Schedule {
    /// Tracked keys with their versions: inserted by this process, being written or due.
    tracked: BTreeMap<DueKey, u64>,
    /// Lower bound of all untracked keys.
    untracked_low: DueKey,
    /// Number of evictions: a scan started before an eviction must not raise `untracked_low`.
    evictions: u64,
    /// Cursor as stored, or as submitted for storage.
    stored_cursor: DueKey,
    stored_at: Monotonic,
    last_id: QueueId,
    /// Number of open units of messages with several units.
    open_units: HashMap<QueueId, u16>,
    /// Units being settled. The new version of a unit may be in the index before the settlement that wrote the version
    /// returns.
    settling: HashSet<UnitVersion>,
    pub(crate) counts: UnitCounts,
    pub(crate) enqueued: u64,
    pub(crate) settled: u64,
}

impl Schedule {
    /// Creates the schedule from the stored state.
    pub(crate) fn new(state: StateRecord) -> Self {
        Self {
            tracked: BTreeMap::new(),
            untracked_low: state.low,
            evictions: 0,
            stored_cursor: state.low,
            stored_at: Monotonic::default(),
            last_id: state.last_id,
            open_units: HashMap::new(),
            settling: HashSet::new(),
            counts: UnitCounts::default(),
            enqueued: 0,
            settled: 0,
        }
    }

    /// Records a unit found at start.
    pub(crate) fn add_recovered(&mut self, unit: &Unit) {
        if unit.unit_count > 1 {
            *self.open_units.entry(unit.id).or_default() += 1;
        }
    }

    /// Records an unreadable unit found at start; the unit keeps its message in the queue.
    pub(crate) fn add_unreadable(&mut self, id: QueueId) {
        *self.open_units.entry(id).or_default() += 1;
    }

    /// Low-water cursor: no unit is due below.
    pub(crate) fn low(&self) -> DueKey {
        self.tracked.first_key_value().map_or(self.untracked_low, |(first, _)| self.untracked_low.min(*first))
    }

    /// Inserts a unit into the due index. Returns `false` if the key is already present.
    pub(crate) fn insert(&mut self, unit: &Unit) -> bool {
        let new = self.tracked.insert(unit.due_key(), unit.version).is_none();
        self.last_id = self.last_id.max(unit.id);
        if self.tracked.len() > TRACKED_KEYS_MAX
            && let Some(middle) = self.tracked.keys().nth(TRACKED_KEYS_MAX / 2).copied()
        {
            drop(self.tracked.split_off(&middle));
            self.untracked_low = self.untracked_low.min(middle);
            self.evictions += 1;
        }
        new
    }

    /// Removes a key from the tracked keys.
    pub(crate) fn remove(&mut self, key: DueKey) {
        self.tracked.remove(&key);
    }

    /// Version of the unit with the given key, if tracked.
    pub(crate) fn tracked_version(&self, key: DueKey) -> Option<u64> {
        self.tracked.get(&key).copied()
    }

    /// Starts a scan from [`Schedule::low`]; pass the result to [`Schedule::finish_scan`].
    pub(crate) fn begin_scan(&self) -> (DueKey, u64) {
        (self.low(), self.evictions)
    }

    /// Finishes a scan that found no unit between the low-water cursor and `first`.
    pub(crate) fn finish_scan(&mut self, hand_overs: u64, first: DueKey) {
        if hand_overs == self.evictions {
            self.untracked_low = self.untracked_low.max(first);
        }
    }

    /// Records a new message with several units.
    pub(crate) fn open_message(&mut self, id: QueueId, units: u16) {
        if units > 1 {
            self.open_units.insert(id, units);
        }
    }

    /// Closes a unit; returns whether the unit was the last of its message.
    pub(crate) fn close_unit(&mut self, id: QueueId) -> bool {
        let Some(open) = self.open_units.get_mut(&id) else { return true };
        *open -= 1;
        let last = *open == 0;
        if last {
            self.open_units.remove(&id);
        }
        last
    }

    /// Starts the settlement of a unit; returns `false` if the unit is being settled already.
    pub(crate) fn begin_settle(&mut self, unit: UnitVersion) -> bool {
        self.settling.insert(unit)
    }

    /// Ends the settlement of a unit.
    pub(crate) fn end_settle(&mut self, unit: UnitVersion) {
        self.settling.remove(&unit);
    }

    /// Adds the state record to a batch about to be submitted, if a key lies below the stored cursor or the interval has
    /// passed.
    pub(crate) fn piggyback_state(&mut self, batch: &mut Batch, meta: &Keyspace, now: Timestamp, monotonic: Monotonic) {
        let low = self.low();
        let lagging = now.as_millis().saturating_sub(CURSOR_LAG.as_millis() as u64);
        let cursor = low.min(DueKey::first_at(Timestamp::from_millis(lagging)));
        if low >= self.stored_cursor && monotonic.since(self.stored_at) < CURSOR_INTERVAL {
            return;
        }
        // After a backward clock step the cursor stays; only a due key lowers the cursor.
        let cursor = if low >= self.stored_cursor { cursor.max(self.stored_cursor) } else { low };
        self.stored_cursor = cursor;
        self.stored_at = monotonic;
        batch.put(meta, STATE_KEY, encode_state(STATE_KEY, StateRecord { low: cursor, last_id: self.last_id }));
    }
}

/// Returns the end of a scan that found nothing up to `until`.
pub(crate) fn first_after(until: Timestamp) -> DueKey {
    until.as_millis().checked_add(1).map_or(DUE_KEY_MAX, |next| DueKey::first_at(Timestamp::from_millis(next)))
}
