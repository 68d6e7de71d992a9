//! Store handle, keyspaces and options.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::batch::Batch;
use crate::committer::{Committer, CommitterState, PendingBatch};
use crate::completion::{Completion, CompletionDispatcher};
use crate::engine::{Engine, KeyspaceId, Row};
use crate::error::StoreError;
use crate::fjall_engine::FjallEngine;

/// Octets per permit of the committer's queue.
pub(crate) const PERMIT_BYTES: usize = 256;

/// Options for opening a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Names of the keyspaces; missing keyspaces are created.
    pub keyspaces: Vec<&'static str>,
    /// Maximum octets of all journals, at least 64 MiB.
    pub journal_bytes_max: u64,
    /// Octets of a keyspace's memtable before a flush.
    pub memtable_bytes: u64,
    /// Octets of the block cache.
    pub cache_bytes: u64,
    /// Maximum octets queued for the committer; further writers wait.
    pub queue_bytes_max: usize,
    /// Maximum octets of a merged batch.
    pub merged_bytes_max: usize,
    /// Maximum time that a lazy write waits for another commit.
    pub lazy_delay: Duration,
    /// Commit time after which the store counts as stuck and is poisoned.
    pub commit_stuck: Duration,
    /// Acknowledges writes before the sync: the defect that crash tests must detect. Never set otherwise; no effect without
    /// `test-engine`.
    #[doc(hidden)]
    pub ack_before_sync: bool,
}

impl StoreOptions {
    /// Returns the default options for the given keyspaces.
    #[must_use]
    pub fn new(keyspaces: &[&'static str]) -> Self {
        Self {
            keyspaces: keyspaces.to_vec(),
            journal_bytes_max: 64 << 20,
            memtable_bytes: 16 << 20,
            cache_bytes: 8 << 20,
            queue_bytes_max: 64 << 20,
            merged_bytes_max: 8 << 20,
            lazy_delay: Duration::from_millis(50),
            commit_stuck: Duration::from_secs(30),
            ack_before_sync: false,
        }
    }
}

/// Urgency of a write: whether the committer is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Written as soon as the committer is free.
    Now,
    /// Written with the next urgent commit, or after `lazy_delay`.
    Lazy,
}

/// Counters since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Number of submitted batches written.
    pub batches: u64,
    /// Number of merged batches written.
    pub commits: u64,
    /// Number of merged batches synced.
    pub synced_commits: u64,
    /// Octets of keys and values, with overhead.
    pub bytes: u64,
    /// Unsynced batches dropped because the queue was full.
    pub dropped: u64,
}

/// Space for a single batch in the committer's queue.
#[derive(Debug)]
pub struct QueuePermit(OwnedSemaphorePermit);

struct StoreInner {
    keyspaces: Vec<&'static str>,
    shared: Arc<CommitterState>,
    _committer: Committer,
}

/// Handle of a database and its committer. Cheap to clone; dropping the last handle writes pending batches and closes the
/// database.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

impl Store {
    /// Opens the database in the directory `path`; creates a missing database. Blocking.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let engine = FjallEngine::open(path, options).map_err(|e| StoreError::Open(format!("{}: {e}", path.display()).into()))?;
        Self::with_engine(Arc::new(engine), options)
    }

    /// Runs the committer over another engine; used by tests.
    pub fn with_engine(engine: Arc<dyn Engine>, options: &StoreOptions) -> Result<Self, StoreError> {
        let shared = Arc::new(CommitterState::new(engine, options));
        let committer = Committer::start(&shared).map_err(|e| StoreError::Open(e.to_string().into()))?;
        Ok(Self(Arc::new(StoreInner { keyspaces: options.keyspaces.clone(), shared, _committer: committer })))
    }

    /// Returns the keyspace with the given name; fails unless the store was opened with the name.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, StoreError> {
        let index = self.0.keyspaces.iter().position(|declared| *declared == name).and_then(|index| u16::try_from(index).ok());
        let index = index.ok_or_else(|| StoreError::Open(format!("keyspace {name} was not declared").into()))?;
        Ok(Keyspace { id: KeyspaceId(index), engine: self.0.shared.engine.clone() })
    }

    /// Writes the batch; resolves when durable. Dropping the future before the batch is queued writes nothing; dropping
    /// later does not cancel the write.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let permit = self.reserve(batch.bytes()).await?;
        self.submit(permit, batch, Urgency::Now).await
    }

    /// Writes the batch like [`Store::commit`] without waking the committer: the batch joins the next commit, or is written
    /// after `lazy_delay`. Durable when resolved.
    pub async fn commit_lazy(&self, batch: Batch) -> Result<(), StoreError> {
        let permit = self.reserve(batch.bytes()).await?;
        self.submit(permit, batch, Urgency::Lazy).await
    }

    /// Writes the batch later, without a durability guarantee; dropped, and counted, when the queue is full.
    pub fn put_unsynced(&self, batch: Batch) {
        let shared = &self.0.shared;
        let permits = permits_for(shared, batch.bytes());
        let queued = shared.queue_permits.try_acquire_many(permits).is_ok_and(|permit| {
            let pushed = shared.push(PendingBatch { batch, waiter: None, permits }, Urgency::Lazy).is_ok();
            if pushed {
                permit.forget();
            }
            pushed
        });
        if !queued {
            shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the committer's queue has space for `bytes` octets.
    pub async fn reserve(&self, bytes: usize) -> Result<QueuePermit, StoreError> {
        let shared = &self.0.shared;
        match shared.queue_permits.clone().acquire_many_owned(permits_for(shared, bytes)).await {
            Ok(permit) => Ok(QueuePermit(permit)),
            Err(_closed) => Err(shared.error()),
        }
    }

    /// Queues a batch immediately: writes happen in the order of calls, so that a caller can decide and submit under its
    /// own lock.
    pub fn submit(&self, permit: QueuePermit, batch: Batch, urgency: Urgency) -> Completion {
        let shared = &self.0.shared;
        let (waiter, completion) = Completion::new();
        let permits = u32::try_from(permit.0.num_permits()).unwrap_or(u32::MAX);
        permit.0.forget();
        if let Err(refused) = shared.push(PendingBatch { batch, waiter: Some(waiter), permits }, urgency) {
            let outcome = Err(shared.error());
            shared.completions.finish(refused.waiter.into_iter(), &outcome);
        }
        completion
    }

    /// Returns the task to spawn once on the runtime: see [`CompletionDispatcher`].
    #[must_use]
    pub fn completion_dispatcher(&self) -> CompletionDispatcher {
        self.0.shared.completions.dispatcher()
    }

    /// Resolves when the store is poisoned: the process should end and log the reason.
    pub async fn poisoned(&self) -> StoreError {
        let mut poison = self.0.shared.poison.subscribe();
        match poison.wait_for(Option::is_some).await {
            Ok(reason) => StoreError::Poisoned(reason.clone().unwrap_or_default()),
            Err(_closed) => StoreError::Closed,
        }
    }

    /// Returns whether the store is poisoned.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.shared.poison.borrow().is_some()
    }

    /// Returns the counters since the store was opened.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let counters = &self.0.shared.counters;
        StoreStats {
            batches: counters.batches.load(Ordering::Relaxed),
            commits: counters.commits.load(Ordering::Relaxed),
            synced_commits: counters.synced_commits.load(Ordering::Relaxed),
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

/// Number of permits for a batch. A batch larger than the whole queue takes all permits instead of waiting for ever.
fn permits_for(shared: &CommitterState, bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, shared.permits_max)
}

/// Named part of the database. All reads block, mostly for microseconds, sometimes for a disk access.
#[derive(Clone)]
pub struct Keyspace {
    id: KeyspaceId,
    engine: Arc<dyn Engine>,
}

impl Keyspace {
    pub(crate) fn id(&self) -> KeyspaceId {
        self.id
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.engine.get(self.id, key).map_err(read_error)
    }

    /// Returns whether the key exists.
    pub fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.engine.contains(self.id, key).map_err(read_error)
    }

    /// Returns at most `limit` rows in key order. A scan walks over removed keys too: start behind them.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.engine.range(self.id, from, to, limit).map_err(read_error)
    }

    /// Frees the space of removed rows by rewriting the remaining rows, so that equal free space is needed. Blocks for
    /// seconds.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.engine.compact(self.id).map_err(|reason| StoreError::Compact(reason.into()))
    }

    /// Returns the row with the greatest key.
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
