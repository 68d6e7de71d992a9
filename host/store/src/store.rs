//! Store handle: commits and statistics.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use crate::batch::Batch;
use crate::committer::{Committer, CommitterState, PendingBatch};
use crate::completion::{Completion, CompletionDispatcher};
use crate::engine::{Engine, KeyspaceId};
use crate::error::StoreError;
use crate::fjall_engine::FjallEngine;
use crate::keyspace::Keyspace;
use crate::options::{PERMIT_BYTES, StoreOptions, Urgency};

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
