//! Trace store in a separate keyspace: written without sync or wait, found by queue id, bounded by octets and age.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_config::TraceConfig;
use waxwing_pipeline::{Trace, TraceRecord};
use waxwing_store::{Batch, Keyspace, Store, StoreError};
use waxwing_types::{QueueId, Timestamp};

use crate::trace_codec::{decode, encode};

/// Name of the required keyspace of the store.
pub const TRACE_KEYSPACE: &str = "trace";
/// Number of transaction ids remembered for [`TraceStore::last`].
pub const LAST_TRANSACTIONS_MAX: usize = 100;

/// Octets of a key: queue id, time of the record, and a number to separate records of one millisecond.
const KEY_BYTES: usize = 20;
/// Rows read or removed at once by a sweep.
const SWEEP_ROWS: usize = 512;
/// Maximum number of records returned for one transaction.
const QUERY_RECORDS_MAX: usize = 1000;

/// Error of reading or sweeping traces.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TraceError {
    /// Failure of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Shutdown of the runtime during a read.
    #[error("the server is shutting down")]
    Stopped,
}

/// Result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepResult {
    /// Number of records removed.
    pub records: u64,
    /// Octets removed from the store.
    pub bytes: u64,
}

/// Result of a trace query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceQueryResult {
    /// Trace records in order of time.
    pub records: Vec<TraceRecord>,
    /// Number of unreadable records: of another version, or damaged.
    pub unreadable: u64,
}

/// Traces of all transactions, rejected ones included.
pub struct TraceStore {
    store: Store,
    rows: Keyspace,
    limits: TraceConfig,
    /// Counter to separate records of one millisecond.
    record_number: AtomicU32,
    /// True after counting the octets of earlier runs.
    is_counted: AtomicBool,
    /// Octets stored, as far as counted.
    bytes: AtomicU64,
    /// Lower bound of all queue ids. Removed keys slow a scan, so the sweep starts here.
    lowest_id: AtomicU64,
    /// Latest transactions of the current run, oldest first.
    latest_ids: Mutex<VecDeque<QueueId>>,
}

impl TraceStore {
    /// Opens the traces of a store with [`TRACE_KEYSPACE`]. Reads nothing: the first sweep counts. Errors if the keyspace is
    /// missing.
    pub fn open(store: &Store, limits: TraceConfig) -> Result<Self, TraceError> {
        Ok(Self {
            rows: store.keyspace(TRACE_KEYSPACE)?,
            store: store.clone(),
            limits,
            record_number: AtomicU32::new(0),
            is_counted: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            lowest_id: AtomicU64::new(0),
            latest_ids: Mutex::default(),
        })
    }

    /// Waits until earlier records are readable: trace writes wait for another commit. Errors if the store fails.
    pub async fn flush(&self) -> Result<(), TraceError> {
        Ok(self.store.commit(Batch::default()).await?)
    }

    /// Returns all records of a transaction, up to 1000. Blocks for a read; errors if the store fails.
    pub fn get(&self, id: QueueId) -> Result<TraceQueryResult, TraceError> {
        let from = id.to_key();
        let to = id.as_u64().checked_add(1).map(|next| QueueId::from_u64(next).to_key());
        let end = to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(&to[..]));
        let mut result = TraceQueryResult::default();
        for (_, value) in self.rows.range(Bound::Included(&from), end, QUERY_RECORDS_MAX)? {
            match decode(&value) {
                Ok(record) => result.records.push(record),
                Err(_) => result.unreadable += 1,
            }
        }
        Ok(result)
    }

    /// Returns the records of the latest transactions, oldest first: at most [`LAST_TRANSACTIONS_MAX`] of the current run, or the
    /// last transaction of the run before. Blocks for reads; errors if the store fails.
    pub fn last(&self, transactions: usize) -> Result<TraceQueryResult, TraceError> {
        let mut ids: Vec<QueueId> = {
            let latest = self.latest_ids.lock();
            latest.iter().skip(latest.len().saturating_sub(transactions)).copied().collect()
        };
        if ids.is_empty() {
            ids.extend(self.rows.last()?.as_ref().and_then(|(key, _)| TraceKey::parse(key)).map(|key| key.id));
        }
        let mut all = TraceQueryResult::default();
        for id in ids {
            let result = self.get(id)?;
            all.records.extend(result.records);
            all.unreadable += result.unreadable;
        }
        Ok(all)
    }

    /// Octets stored, as far as counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Removes the oldest records until the limits hold. The first call counts the stored octets. For a single caller, every few
    /// seconds. Errors if the store fails.
    pub async fn sweep(self: &Arc<Self>, now: Timestamp) -> Result<SweepResult, TraceError> {
        let mut swept = SweepResult::default();
        loop {
            let this = Arc::clone(self);
            let step =
                tokio::task::spawn_blocking(move || this.next_sweep_step(now)).await.map_err(|_| TraceError::Stopped)??;
            let records = step.records;
            if records > 0 {
                self.store.commit_lazy(step.batch).await?;
                self.bytes.fetch_sub(step.bytes.min(self.bytes()), Ordering::Relaxed);
            }
            self.lowest_id.fetch_min(step.lowest_id, Ordering::Relaxed);
            swept.records += records;
            swept.bytes += step.bytes;
            if records < SWEEP_ROWS as u64 {
                return Ok(swept);
            }
        }
    }

    /// Selects the next rows for removal. Takes `lowest_id`, restored by the caller; a record added meanwhile lowers the value.
    fn next_sweep_step(&self, now: Timestamp) -> Result<SweepStep, TraceError> {
        if !self.is_counted.load(Ordering::Relaxed) {
            self.count_stored_bytes()?;
        }
        let low = self.lowest_id.swap(u64::MAX, Ordering::Relaxed);
        let from = QueueId::from_u64(low).to_key();
        let rows = match self.rows.range(Bound::Included(&from), Bound::Unbounded, SWEEP_ROWS) {
            Ok(rows) => rows,
            Err(error) => {
                self.lowest_id.fetch_min(low, Ordering::Relaxed);
                return Err(error.into());
            }
        };
        let mut step = SweepStep { batch: Batch::default(), records: 0, bytes: 0, lowest_id: low };
        let over = self.bytes().saturating_sub(self.limits.bytes_max);
        for (octets, value) in rows {
            let key = TraceKey::parse(&octets);
            let is_old = key.is_none_or(|key| now.since(key.at) > self.limits.age_max);
            if step.bytes >= over && !is_old {
                break;
            }
            step.bytes += row_bytes(value.len());
            step.records += 1;
            step.lowest_id = key.map_or(step.lowest_id, |key| key.id.as_u64());
            step.batch.delete(&self.rows, octets);
        }
        Ok(step)
    }

    /// Counts the octets of earlier runs.
    fn count_stored_bytes(&self) -> Result<(), TraceError> {
        let recorded = self.bytes();
        let mut bytes = 0;
        let mut from = Bytes::new();
        loop {
            let bound = if from.is_empty() { Bound::Unbounded } else { Bound::Excluded(&from[..]) };
            let rows = self.rows.range(bound, Bound::Unbounded, SWEEP_ROWS)?;
            bytes += rows.iter().map(|(_, value)| row_bytes(value.len())).sum::<u64>();
            match rows.last() {
                Some((key, _)) if rows.len() == SWEEP_ROWS => from = key.clone(),
                Some(_) | None => break,
            }
        }
        // Records made before the count are among the rows, except a few still waiting for their write.
        self.bytes.fetch_add(bytes.saturating_sub(recorded), Ordering::Relaxed);
        self.is_counted.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn note_latest(&self, id: QueueId) {
        let mut latest = self.latest_ids.lock();
        if latest.iter().rev().take(8).all(|other| *other != id) {
            if latest.len() == LAST_TRANSACTIONS_MAX {
                latest.pop_front();
            }
            latest.push_back(id);
        }
    }
}

impl Trace for TraceStore {
    fn record(&self, record: TraceRecord) {
        // Without a queue id no query can find the record.
        let Ok(id) = record.id.parse::<QueueId>() else { return };
        let key = TraceKey { id, at: record.at, number: self.record_number.fetch_add(1, Ordering::Relaxed) };
        let value = encode(record);
        self.note_latest(id);
        self.bytes.fetch_add(row_bytes(value.len()), Ordering::Relaxed);
        self.lowest_id.fetch_min(id.as_u64(), Ordering::Relaxed);
        let mut batch = Batch::with_capacity(1);
        batch.put(&self.rows, Bytes::copy_from_slice(&key.to_bytes()), value);
        self.store.put_unsynced(batch);
    }
}

/// Batch of one sweep step.
struct SweepStep {
    batch: Batch,
    records: u64,
    bytes: u64,
    lowest_id: u64,
}

fn row_bytes(value: usize) -> u64 {
    (KEY_BYTES + value) as u64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TraceKey {
    id: QueueId,
    at: Timestamp,
    number: u32,
}

impl TraceKey {
    fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        let (id, rest) = key.split_at_mut(8);
        let (at, number) = rest.split_at_mut(8);
        id.copy_from_slice(&self.id.to_key());
        at.copy_from_slice(&self.at.as_millis().to_be_bytes());
        number.copy_from_slice(&self.number.to_be_bytes());
        key
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let (id, rest) = key.split_first_chunk::<8>()?;
        let (at, number) = rest.split_first_chunk::<8>()?;
        Some(Self {
            id: QueueId::from_u64(u64::from_be_bytes(*id)),
            at: Timestamp::from_millis(u64::from_be_bytes(*at)),
            number: u32::from_be_bytes(number.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use waxwing_store::StoreOptions;
    use waxwing_types::QueueIdGenerator;

    use super::*;

    const START: u64 = 1_800_000_000_000;

    struct Bench {
        traces: Arc<TraceStore>,
        store: Store,
        ids: QueueIdGenerator,
        dir: tempfile::TempDir,
    }

    fn open(dir: tempfile::TempDir, limits: TraceConfig) -> Bench {
        let store = Store::open(dir.path(), &StoreOptions::new(&[TRACE_KEYSPACE])).unwrap();
        let traces = Arc::new(TraceStore::open(&store, limits).unwrap());
        Bench { traces, store, ids: QueueIdGenerator::default(), dir }
    }

    const WIDE: TraceConfig = TraceConfig { bytes_max: u64::MAX, age_max: Duration::MAX };

    impl Bench {
        fn record(&self, id: QueueId, at: u64, result: &str) {
            self.traces.record(TraceRecord {
                id: id.to_string(),
                at: Timestamp::from_millis(at),
                part: "intake".into(),
                peer: "internal".into(),
                sender: String::new(),
                recipients: Vec::new(),
                size: 0,
                result: result.into(),
                entries: Vec::new(),
            });
        }

        fn begin(&self, at: u64) -> QueueId {
            let id = self.ids.next(Timestamp::from_millis(at));
            self.record(id, at, "ok");
            id
        }

        async fn flush(&self) {
            self.traces.flush().await.unwrap();
        }

        fn results(&self, id: QueueId) -> Vec<String> {
            self.traces.get(id).unwrap().records.into_iter().map(|r| r.result).collect()
        }
    }

    #[tokio::test]
    async fn finds_every_part_of_one_transaction_and_of_no_other() {
        let bench = open(tempfile::tempdir().unwrap(), WIDE);
        let (before, id, after) = (bench.begin(START), bench.begin(START), bench.begin(START));
        bench.record(id, START + 50, "deferred");
        bench.record(id, START + 50, "sent");
        bench.flush().await;
        assert_eq!(bench.results(id), ["ok", "deferred", "sent"]);
        assert_eq!([before, after].map(|id| bench.results(id).len()), [1, 1]);
        assert_eq!(bench.results(QueueId::from_u64(u64::MAX)), [""; 0]);
        let last: Vec<String> = bench.traces.last(2).unwrap().records.into_iter().map(|r| r.id).collect();
        let id = id.to_string();
        assert_eq!(last, [&id, &id, &id, &after.to_string()].map(Clone::clone));
    }

    #[tokio::test]
    async fn the_oldest_go_when_there_are_too_many_octets() {
        let bench = open(tempfile::tempdir().unwrap(), TraceConfig { bytes_max: 10_000, age_max: Duration::MAX });
        let ids: Vec<QueueId> = (0..2000).map(|n| bench.begin(START + n)).collect();
        bench.flush().await;
        let before = bench.traces.bytes();
        let swept = bench.traces.sweep(Timestamp::from_millis(START)).await.unwrap();
        assert_eq!(bench.traces.bytes(), before - swept.bytes);
        assert!(bench.traces.bytes() <= 10_000 && bench.traces.bytes() > 9_000, "{}", bench.traces.bytes());
        let kept: Vec<bool> = ids.iter().map(|id| !bench.results(*id).is_empty()).collect();
        let first = kept.iter().position(|k| *k).unwrap();
        assert_eq!(first as u64, swept.records);
        assert!(kept[first..].iter().all(|k| *k), "the newest are kept");
    }

    #[tokio::test]
    async fn old_ones_go_also_when_they_come_late() {
        let bench = open(tempfile::tempdir().unwrap(), TraceConfig { bytes_max: u64::MAX, age_max: Duration::from_secs(60) });
        let old = bench.begin(START);
        let young = bench.begin(START + 50_000);
        bench.flush().await;
        let now = |millis| Timestamp::from_millis(START + millis);
        assert_eq!(bench.traces.sweep(now(61_000)).await.unwrap().records, 1);
        assert_eq!([old, young].map(|id| bench.results(id).len()), [0, 1]);
        bench.record(old, START + 62_000, "sent at last");
        bench.flush().await;
        assert_eq!(bench.traces.sweep(now(63_000)).await.unwrap().records, 0);
        assert_eq!(bench.results(old), ["sent at last"], "the record is young though its message is old");
        assert_eq!(bench.traces.sweep(now(200_000)).await.unwrap().records, 2);
        assert_eq!(bench.results(old), [""; 0]);
    }

    #[tokio::test]
    async fn a_new_run_counts_what_is_there() {
        let bench = open(tempfile::tempdir().unwrap(), WIDE);
        let last = (0..1100).map(|n| bench.begin(START + n)).last().unwrap();
        bench.flush().await;
        let bytes = bench.traces.bytes();
        let Bench { traces, store, dir, .. } = bench;
        drop((traces, store));
        let bench = open(dir, TraceConfig { bytes_max: bytes / 2, age_max: Duration::MAX });
        assert_eq!(bench.traces.last(5).unwrap().records.len(), 1);
        bench.traces.sweep(Timestamp::from_millis(START)).await.unwrap();
        assert!(bench.traces.bytes() <= bytes / 2 && bench.traces.bytes() > bytes / 2 - 200);
        assert_eq!(bench.results(last), ["ok"]);
    }

    #[tokio::test]
    async fn damaged_records_are_counted_not_shown() {
        let bench = open(tempfile::tempdir().unwrap(), WIDE);
        let id = bench.begin(START);
        let key = TraceKey { id, at: Timestamp::from_millis(START + 1), number: 77 };
        let mut batch = Batch::default();
        batch.put(&bench.traces.rows, Bytes::copy_from_slice(&key.to_bytes()), Bytes::from_static(b"\x01junk"));
        bench.store.commit(batch).await.unwrap();
        let found = bench.traces.get(id).unwrap();
        assert_eq!((found.records.len(), found.unreadable), (1, 1));
    }
}
