//! The handle that everyone holds.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::batch::Batch;
use crate::committer::{Committer, Shared, Waiting};
use crate::completion::{Completion, Pump};
use crate::engine::{Engine, KeyspaceId, Row};
use crate::error::StoreError;
use crate::fjall_engine::FjallEngine;

/// Room in the committer's queue is counted in units of so many octets.
pub(crate) const PERMIT_BYTES: usize = 256;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Names of the keyspaces; new ones are created.
    pub keyspaces: Vec<&'static str>,
    /// Octets of all journals, at least 64 MiB.
    pub journal_bytes_max: u64,
    /// Octets of a keyspace's memtable before it is flushed.
    pub memtable_bytes: u64,
    /// Octets of the block cache.
    pub cache_bytes: u64,
    /// Octets that may wait for the committer; whoever has more waits.
    pub queue_bytes_max: usize,
    /// Octets of one merged batch.
    pub merged_bytes_max: usize,
    /// How long a write that rides waits for a commit to ride with.
    pub ride_delay: Duration,
    /// A commit that takes longer is stuck and poisons the store.
    pub commit_stuck: Duration,
    /// The defect that the crash tests must notice. Never set it elsewhere; it has no effect without `test-engine`.
    #[doc(hidden)]
    pub ack_before_sync: bool,
}

impl StoreOptions {
    /// The defaults for these keyspaces.
    #[must_use]
    pub fn new(keyspaces: &[&'static str]) -> Self {
        Self {
            keyspaces: keyspaces.to_vec(),
            journal_bytes_max: 64 << 20,
            memtable_bytes: 16 << 20,
            cache_bytes: 8 << 20,
            queue_bytes_max: 64 << 20,
            merged_bytes_max: 8 << 20,
            ride_delay: Duration::from_millis(50),
            commit_stuck: Duration::from_secs(30),
            ack_before_sync: false,
        }
    }
}

/// Whether a write wakes the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It is written as soon as the committer is free.
    Now,
    /// It goes with the next one that is urgent, or after the ride delay.
    Ride,
}

/// Counters since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Batches that were handed in and written.
    pub batches: u64,
    /// Merged batches that were written.
    pub merged: u64,
    /// Merged batches that were synced.
    pub synced: u64,
    /// Octets of keys and values, with the bookkeeping.
    pub bytes: u64,
    /// Unsynced batches that were dropped because the queue was full.
    pub dropped: u64,
}

/// Room in the committer's queue for one batch.
#[derive(Debug)]
pub struct Permit(OwnedSemaphorePermit);

struct Inner {
    keyspaces: Vec<&'static str>,
    shared: Arc<Shared>,
    _committer: Committer,
}

/// A database and its committer. Cheap to clone; the last one that is dropped writes what waits and closes it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Opens the database in the directory `path`, or makes one. Blocks.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let engine = FjallEngine::open(path, options).map_err(|e| StoreError::Open(format!("{}: {e}", path.display()).into()))?;
        Self::with_engine(Arc::new(engine), options)
    }

    /// Runs the committer over another engine; tests use it.
    pub fn with_engine(engine: Arc<dyn Engine>, options: &StoreOptions) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::new(engine, options));
        let committer = Committer::start(&shared).map_err(|e| StoreError::Open(e.to_string().into()))?;
        Ok(Self(Arc::new(Inner { keyspaces: options.keyspaces.clone(), shared, _committer: committer })))
    }

    /// The keyspace of that name, which must be among those that the store was opened with.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, StoreError> {
        let index = self.0.keyspaces.iter().position(|known| *known == name).and_then(|index| u16::try_from(index).ok());
        let index = index.ok_or_else(|| StoreError::Open(format!("keyspace {name} was not declared").into()))?;
        Ok(Keyspace { id: KeyspaceId(index), engine: self.0.shared.engine.clone() })
    }

    /// Writes the batch; resolves when it is durable. Dropping the future before it was polled to the queue writes
    /// nothing, later it takes nothing back.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let permit = self.reserve(batch.bytes()).await?;
        self.submit(permit, batch, Urgency::Now).await
    }

    /// Like [`Store::commit`], but does not hurry the committer: the batch goes with the next commit, or after the ride
    /// delay. The promise is the same: durable when it resolves.
    pub async fn ride(&self, batch: Batch) -> Result<(), StoreError> {
        let permit = self.reserve(batch.bytes()).await?;
        self.submit(permit, batch, Urgency::Ride).await
    }

    /// Writes the batch some time, without a promise; dropped, and counted, when the queue is full.
    pub fn put_unsynced(&self, batch: Batch) {
        let shared = &self.0.shared;
        let permits = permits(shared, batch.bytes());
        let queued = shared.room.try_acquire_many(permits).is_ok_and(|permit| {
            let pushed = shared.push(Waiting { batch, waiter: None, permits }, Urgency::Ride).is_ok();
            if pushed {
                permit.forget();
            }
            pushed
        });
        if !queued {
            shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the committer's queue has room for that many octets.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, StoreError> {
        let shared = &self.0.shared;
        match shared.room.clone().acquire_many_owned(permits(shared, bytes)).await {
            Ok(permit) => Ok(Permit(permit)),
            Err(_closed) => Err(shared.error()),
        }
    }

    /// Puts a batch into the queue at once: the order of these calls is the order of writes, so that a caller can decide
    /// and submit under its own lock.
    pub fn submit(&self, permit: Permit, batch: Batch, urgency: Urgency) -> Completion {
        let shared = &self.0.shared;
        let (waiter, completion) = Completion::new();
        let permits = u32::try_from(permit.0.num_permits()).unwrap_or(u32::MAX);
        permit.0.forget();
        if let Err(refused) = shared.push(Waiting { batch, waiter: Some(waiter), permits }, urgency) {
            let outcome = Err(shared.error());
            shared.completions.finish(refused.waiter.into_iter(), &outcome);
        }
        completion
    }

    /// To be spawned once on the reactor: see [`Pump`].
    #[must_use]
    pub fn pump(&self) -> Pump {
        self.0.shared.completions.pump()
    }

    /// Resolves when the store takes no more writes: the process should end, with the reason in its log.
    pub async fn poisoned(&self) -> StoreError {
        let mut poison = self.0.shared.poison.subscribe();
        match poison.wait_for(Option::is_some).await {
            Ok(reason) => StoreError::Poisoned(reason.clone().unwrap_or_default()),
            Err(_closed) => StoreError::Closed,
        }
    }

    /// The store takes no more writes.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.shared.poison.borrow().is_some()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let counters = &self.0.shared.counters;
        StoreStats {
            batches: counters.batches.load(Ordering::Relaxed),
            merged: counters.merged.load(Ordering::Relaxed),
            synced: counters.synced.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("keyspaces", &self.0.keyspaces).field("stats", &self.stats()).finish()
    }
}

/// A batch larger than the whole queue takes all of it instead of waiting for ever.
fn permits(shared: &Shared, bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, shared.permits_max)
}

/// A named part of the database. All reads block, mostly for microseconds, sometimes for a disk's time.
#[derive(Clone)]
pub struct Keyspace {
    id: KeyspaceId,
    engine: Arc<dyn Engine>,
}

impl Keyspace {
    pub(crate) fn id(&self) -> KeyspaceId {
        self.id
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.engine.get(self.id, key).map_err(read_error)
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.engine.contains(self.id, key).map_err(read_error)
    }

    /// At most `limit` rows in the order of their keys. A scan walks over removed keys too: begin behind them.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.engine.range(self.id, from, to, limit).map_err(read_error)
    }

    /// Frees the space of removed rows. What is left is written anew meanwhile, so that much must be free. Blocks for seconds.
    pub fn reclaim(&self) -> Result<(), StoreError> {
        self.engine.reclaim(self.id).map_err(|reason| StoreError::Reclaim(reason.into()))
    }

    /// The row with the greatest key.
    pub fn last(&self) -> Result<Option<Row>, StoreError> {
        self.engine.last(self.id).map_err(read_error)
    }
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyspace").field(&self.id.0).finish()
    }
}

fn read_error(reason: String) -> StoreError {
    StoreError::Read(reason.into())
}
