//! Committer thread, the single writer: merges all pending batches, writes them as a synced batch, and completes each
//! waiter.
//!
//! The committer never delays a commit to collect more batches: while a commit is being synced, further batches queue up
//! anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, watch};

use crate::batch::Batch;
use crate::completion::{CommitResult, CompletionQueue, Waiter};
use crate::crash::crash_point;
use crate::engine::{Durability, Engine, Op};
use crate::error::StoreError;
use crate::options::{PERMIT_BYTES, StoreOptions, Urgency};

/// Number of watchdog checks within the stuck-commit timeout.
const WATCHDOG_CHECKS: u32 = 4;

/// Batch in the queue. Without a waiter no sync was requested.
pub(crate) struct PendingBatch {
    pub(crate) batch: Batch,
    pub(crate) waiter: Option<Waiter>,
    pub(crate) permits: u32,
}

/// Idle state of the committer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdleState {
    /// Awake and writing.
    Awake,
    /// Waiting with a timeout of `lazy_delay`; lazy writes need no wake-up.
    TimedWait,
    /// Waiting without a timeout until a batch arrives.
    Sleeping,
}

struct CommitQueue {
    pending: Vec<PendingBatch>,
    urgent: usize,
    idle_state: IdleState,
    closing: bool,
}

/// State shared by committer, watchdog and writers.
pub(crate) struct CommitterState {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) completions: CompletionQueue,
    /// Free queue space, in units of [`PERMIT_BYTES`].
    pub(crate) queue_permits: Arc<Semaphore>,
    pub(crate) poison: watch::Sender<Option<Arc<str>>>,
    pub(crate) counters: StoreCounters,
    /// Total of `queue_permits`.
    pub(crate) permits_max: u32,
    queue: Mutex<CommitQueue>,
    wake: Condvar,
    /// Waiters of the commit in progress; the watchdog completes them if the commit is stuck.
    inflight: Mutex<Vec<Waiter>>,
    /// Commit sequence, incremented at the start and at the end of each commit; even while no commit is in progress.
    commit_sequence: AtomicU64,
    stop_watchdog: (Mutex<bool>, Condvar),
    lazy_delay: Duration,
    merged_bytes_max: usize,
    commit_stuck: Duration,
    ack_before_sync: bool,
}

/// Counters since the store was opened.
#[derive(Default)]
pub(crate) struct StoreCounters {
    pub(crate) batches: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) synced_commits: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl CommitterState {
    pub(crate) fn new(engine: Arc<dyn Engine>, options: &StoreOptions) -> Self {
        let permits_max = u32::try_from(options.queue_bytes_max / PERMIT_BYTES).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        Self {
            engine,
            completions: CompletionQueue::default(),
            queue_permits: Arc::new(Semaphore::new(permits_max as usize)),
            poison: watch::Sender::new(None),
            counters: StoreCounters::default(),
            permits_max,
            queue: Mutex::new(CommitQueue { pending: Vec::new(), urgent: 0, idle_state: IdleState::Awake, closing: false }),
            wake: Condvar::new(),
            inflight: Mutex::new(Vec::new()),
            commit_sequence: AtomicU64::new(0),
            stop_watchdog: (Mutex::new(false), Condvar::new()),
            lazy_delay: options.lazy_delay,
            merged_bytes_max: options.merged_bytes_max,
            commit_stuck: options.commit_stuck,
            ack_before_sync: cfg!(feature = "test-engine") && options.ack_before_sync,
        }
    }

    /// Appends to the queue. Writes happen in the order of calls.
    pub(crate) fn push(&self, waiting: PendingBatch, urgency: Urgency) -> Result<(), PendingBatch> {
        let mut queue = self.queue.lock();
        if queue.closing || self.poison.borrow().is_some() {
            return Err(waiting);
        }
        queue.pending.push(waiting);
        let wake = match urgency {
            Urgency::Now => {
                queue.urgent += 1;
                queue.idle_state != IdleState::Awake
            }
            Urgency::Lazy => queue.idle_state == IdleState::Sleeping,
        };
        if wake {
            queue.idle_state = IdleState::Awake;
            drop(queue);
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(crate) fn error(&self) -> StoreError {
        self.poison.borrow().as_ref().map_or(StoreError::Closed, |reason| StoreError::Poisoned(reason.clone()))
    }

    /// Waits for work; returns `false` once the store is closing and everything is written.
    fn next_batches(&self, taken: &mut Vec<PendingBatch>) -> bool {
        let mut queue = self.queue.lock();
        let mut idle = false;
        loop {
            if queue.urgent > 0 || (queue.closing && !queue.pending.is_empty()) {
                break;
            }
            if queue.closing {
                return false;
            }
            if idle && queue.pending.is_empty() {
                queue.idle_state = IdleState::Sleeping;
                self.wake.wait(&mut queue);
                idle = false;
            } else {
                queue.idle_state = IdleState::TimedWait;
                idle = self.wake.wait_for(&mut queue, self.lazy_delay).timed_out();
                if idle && !queue.pending.is_empty() {
                    break;
                }
            }
        }
        queue.idle_state = IdleState::Awake;
        let mut bytes = 0;
        let fits = |waiting: &&PendingBatch| {
            bytes += waiting.batch.bytes();
            bytes <= self.merged_bytes_max
        };
        let count = queue.pending.iter().take_while(fits).count().max(1);
        if count == queue.pending.len() {
            std::mem::swap(&mut queue.pending, taken);
            queue.urgent = 0;
        } else {
            taken.extend(queue.pending.drain(..count));
            // The remaining batches may all be lazy; an extra commit does no harm.
            queue.urgent = queue.pending.len();
        }
        true
    }

    fn run_committer(&self) {
        let mut taken = Vec::new();
        let mut ops: Vec<Op> = Vec::new();
        while self.next_batches(&mut taken) {
            let mut permits = 0;
            let mut durability = Durability::Buffered;
            {
                let mut inflight = self.inflight.lock();
                self.count(&taken);
                for waiting in taken.drain(..) {
                    permits += waiting.permits;
                    ops.extend(waiting.batch.ops);
                    if let Some(waiter) = waiting.waiter {
                        durability = Durability::Synced;
                        inflight.push(waiter);
                    }
                }
            }
            if self.ack_before_sync {
                self.complete_waiters(&Ok(()));
            }
            self.commit_sequence.fetch_add(1, Ordering::Relaxed);
            crash_point("store.before_sync");
            let written = self.engine.apply(&mut ops, durability);
            crash_point("store.after_sync");
            self.commit_sequence.fetch_add(1, Ordering::Relaxed);
            self.queue_permits.add_permits(permits as usize);
            match written {
                Ok(()) if self.poison.borrow().is_some() => return,
                Ok(()) => self.complete_waiters(&Ok(())),
                Err(reason) => return self.poison(&format!("a commit failed: {reason}")),
            }
            if durability == Durability::Synced {
                self.counters.synced_commits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count(&self, taken: &[PendingBatch]) {
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.batches.fetch_add(taken.len() as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(taken.iter().map(|w| w.batch.bytes() as u64).sum(), Ordering::Relaxed);
    }

    fn complete_waiters(&self, outcome: &CommitResult) {
        let mut inflight = self.inflight.lock();
        self.completions.finish(inflight.drain(..), outcome);
    }

    /// Stops all writes: every waiter gets an error, since durability is unknown.
    fn poison(&self, reason: &str) {
        let reason: Arc<str> = reason.into();
        let waiting = {
            let mut queue = self.queue.lock();
            self.poison.send_if_modified(|poison| poison.replace(reason.clone()).is_none());
            queue.urgent = 0;
            std::mem::take(&mut queue.pending)
        };
        self.queue_permits.close();
        let outcome = Err(StoreError::Poisoned(reason));
        self.complete_waiters(&outcome);
        self.completions.finish(waiting.into_iter().filter_map(|waiting| waiting.waiter), &outcome);
    }

    fn run_watchdog(&self) {
        let (stop, changed) = &self.stop_watchdog;
        let mut stop = stop.lock();
        let (mut last_sequence, mut stuck_checks) = (0, 0);
        while !*stop {
            changed.wait_for(&mut stop, self.commit_stuck / WATCHDOG_CHECKS);
            let sequence = self.commit_sequence.load(Ordering::Relaxed);
            let stuck = sequence == last_sequence && sequence % 2 == 1;
            stuck_checks = if stuck { stuck_checks + 1 } else { 0 };
            last_sequence = sequence;
            if stuck_checks == WATCHDOG_CHECKS {
                self.poison(&format!("a commit takes longer than {} s", self.commit_stuck.as_secs_f32()));
                return;
            }
        }
    }

    fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }
}

/// Running threads of the store. Dropping writes pending batches and ends the threads.
pub(crate) struct Committer {
    shared: Arc<CommitterState>,
    threads: Vec<JoinHandle<()>>,
}

impl Committer {
    pub(crate) fn start(shared: &Arc<CommitterState>) -> std::io::Result<Self> {
        let mut committer = Self { shared: shared.clone(), threads: Vec::with_capacity(2) };
        let (run, watch) = (shared.clone(), shared.clone());
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        committer.threads.push(named("store-commit").spawn(move || run.run_committer())?);
        committer.threads.push(named("store-watchdog").spawn(move || watch.run_watchdog())?);
        Ok(committer)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.close();
        let stuck = self.shared.commit_sequence.load(Ordering::Relaxed) % 2 == 1 && self.shared.poison.borrow().is_some();
        for (nth, thread) in self.threads.drain(..).enumerate() {
            if nth == 1 {
                *self.shared.stop_watchdog.0.lock() = true;
                self.shared.stop_watchdog.1.notify_one();
            }
            // A thread hanging in a stuck commit is not joined: the process is about to end.
            if !stuck || nth == 1 {
                drop(thread.join());
            }
        }
        self.shared.queue_permits.close();
        self.shared.completions.close();
    }
}
