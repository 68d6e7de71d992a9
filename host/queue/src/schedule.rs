//! What is known of the due index without reading it: where it begins, which units are in it, how many there are.
//!
//! A scan of an index from its start walks over everything that was ever removed: a second for a million. So each scan
//! begins at the low-water cursor. It is the lesser of two: the least of the *young* keys, which were put by this process
//! and are tracked one by one, and `rest`, below which no other key is. Keys that become too many are handed to `rest`;
//! scans raise `rest` again.
//!
//! All changes happen under one lock together with the submission of their batch, so that the order of batches is the order
//! of changes, and what a crash leaves is always the state after one of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use waxwing_store::{Batch, Keyspace};
use waxwing_types::{Monotonic, QueueId, Timestamp};

use crate::record::{StateRecord, make_state};
use crate::unit::{DueKey, Unit};

/// Young keys that are tracked; of more, the later half is handed over.
const YOUNG_MAX: usize = 64 << 10;
/// The cursor is stored this often, riding along with other writes.
const STORE_EVERY: Duration = Duration::from_secs(5);
/// The stored cursor stays this far behind the clock, so that what comes in is seldom below it.
const STORE_BEHIND: Duration = Duration::from_secs(60);

/// Key of the state record in the keyspace `meta`.
pub(crate) const STATE_KEY: &[u8] = b"state";

/// Above all keys.
const TOP: DueKey = DueKey { next_at: Timestamp::from_millis(u64::MAX), id: QueueId::from_u64(u64::MAX), number: u16::MAX };

/// Counts of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) incoming: u64,
    pub(crate) deferred: u64,
    pub(crate) hold: u64,
    pub(crate) corrupt: u64,
}

impl Counts {
    /// The count of due units that have been tried so often.
    pub(crate) fn due(&mut self, attempts: u32) -> &mut u64 {
        if attempts == 0 { &mut self.incoming } else { &mut self.deferred }
    }
}

pub(crate) struct Schedule {
    /// Keys that this process put, with their version; being written, or due.
    young: BTreeMap<DueKey, u64>,
    /// No key but young ones is below.
    rest: DueKey,
    /// Counts the hand-overs: a scan that began before one must not raise `rest`.
    hand_overs: u64,
    /// The cursor as it is stored, or about to be.
    stored: DueKey,
    stored_at: Monotonic,
    last_id: QueueId,
    /// Units left of the messages that began with more than one.
    open_units: HashMap<QueueId, u16>,
    /// Units that are being settled: a later version may be in the index before the settling that made it has returned.
    settling: HashSet<(QueueId, u16, u64)>,
    pub(crate) counts: Counts,
    pub(crate) enqueued: u64,
    pub(crate) settled: u64,
}

impl Schedule {
    /// As the store was left.
    pub(crate) fn new(state: StateRecord) -> Self {
        Self {
            young: BTreeMap::new(),
            rest: state.low,
            hand_overs: 0,
            stored: state.low,
            stored_at: Monotonic::default(),
            last_id: state.last_id,
            open_units: HashMap::new(),
            settling: HashSet::new(),
            counts: Counts::default(),
            enqueued: 0,
            settled: 0,
        }
    }

    /// Notes a unit that was found at start.
    pub(crate) fn found(&mut self, unit: &Unit) {
        if unit.siblings > 1 {
            *self.open_units.entry(unit.id).or_default() += 1;
        }
    }

    /// Notes a unit that was found at start and cannot be read: with it, its message stays.
    pub(crate) fn found_unreadable(&mut self, id: QueueId) {
        *self.open_units.entry(id).or_default() += 1;
    }

    /// Nothing is due below.
    pub(crate) fn low(&self) -> DueKey {
        self.young.first_key_value().map_or(self.rest, |(first, _)| self.rest.min(*first))
    }

    /// A unit gets a place in the due index. `false`: it has that place already.
    pub(crate) fn put(&mut self, unit: &Unit) -> bool {
        let new = self.young.insert(unit.due_key(), unit.version).is_none();
        self.last_id = self.last_id.max(unit.id);
        if self.young.len() > YOUNG_MAX
            && let Some(middle) = self.young.keys().nth(YOUNG_MAX / 2).copied()
        {
            drop(self.young.split_off(&middle));
            self.rest = self.rest.min(middle);
            self.hand_overs += 1;
        }
        new
    }

    /// A unit loses its place.
    pub(crate) fn remove(&mut self, key: DueKey) {
        self.young.remove(&key);
    }

    /// The version of a unit at that place, if it is tracked.
    pub(crate) fn version(&self, key: DueKey) -> Option<u64> {
        self.young.get(&key).copied()
    }

    /// To be called before a scan from [`Schedule::low`]; its result goes to [`Schedule::scanned`].
    pub(crate) fn begin_scan(&self) -> (DueKey, u64) {
        (self.low(), self.hand_overs)
    }

    /// A scan found nothing between the low-water cursor and `first`.
    pub(crate) fn scanned(&mut self, hand_overs: u64, first: DueKey) {
        if hand_overs == self.hand_overs {
            self.rest = self.rest.max(first);
        }
    }

    /// A message with several units came in.
    pub(crate) fn open(&mut self, id: QueueId, units: u16) {
        if units > 1 {
            self.open_units.insert(id, units);
        }
    }

    /// A unit goes: whether it is the last of its message.
    pub(crate) fn close_unit(&mut self, unit: &Unit) -> bool {
        let Some(left) = self.open_units.get_mut(&unit.id) else { return true };
        *left -= 1;
        let last = *left == 0;
        if last {
            self.open_units.remove(&unit.id);
        }
        last
    }

    /// Whether the unit's going would take the message with it, as things are.
    pub(crate) fn may_be_last(&self, unit: &Unit) -> bool {
        self.open_units.get(&unit.id).is_none_or(|left| *left == 1)
    }

    /// A unit begins to be settled; `false` if it is being settled already.
    pub(crate) fn begin_settle(&mut self, unit: &Unit) -> bool {
        self.settling.insert((unit.id, unit.number, unit.version))
    }

    /// Its settling has ended.
    pub(crate) fn end_settle(&mut self, unit: &Unit) {
        self.settling.remove(&(unit.id, unit.number, unit.version));
    }

    /// Adds the state record to a batch that is about to be submitted, if something in it lies below the stored cursor or
    /// the time has come.
    pub(crate) fn ride(&mut self, batch: &mut Batch, meta: &Keyspace, now: Timestamp, monotonic: Monotonic) {
        let low = self.low();
        let behind = now.as_millis().saturating_sub(STORE_BEHIND.as_millis() as u64);
        let cursor = low.min(DueKey::first_at(Timestamp::from_millis(behind)));
        if low >= self.stored && monotonic.since(self.stored_at) < STORE_EVERY {
            return;
        }
        // A clock that was set back must not lower the cursor for ever: only what is due does.
        let cursor = if low >= self.stored { cursor.max(self.stored) } else { low };
        self.stored = cursor;
        self.stored_at = monotonic;
        batch.put(meta, STATE_KEY, make_state(STATE_KEY, StateRecord { low: cursor, last_id: self.last_id }));
    }
}

/// Where a scan that found nothing up to `until` ends.
pub(crate) fn behind(until: Timestamp) -> DueKey {
    until.as_millis().checked_add(1).map_or(TOP, |next| DueKey::first_at(Timestamp::from_millis(next)))
}
