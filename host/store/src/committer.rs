//! The one thread that writes: it takes what waits, writes it as one synced batch, and answers each waiter.
//!
//! It never waits to gather more: while one batch is being synced, the next one gathers by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, watch};

use crate::batch::Batch;
use crate::completion::{Completions, Outcome, Waiter};
use crate::crash::crash_point;
use crate::engine::{Durability, Engine, Op};
use crate::store::{PERMIT_BYTES, Urgency};
use crate::{StoreError, StoreOptions};

/// Times that the watchdog looks within the time after which a commit counts as stuck.
const WATCHDOG_LOOKS: u32 = 4;

/// One batch in the queue. Without a waiter nobody asked for its sync.
pub(crate) struct Waiting {
    pub(crate) batch: Batch,
    pub(crate) waiter: Option<Waiter>,
    pub(crate) permits: u32,
}

/// What the committer does when it has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Not resting.
    Awake,
    /// Wakes by itself after the ride delay: what rides need not wake it.
    Dozing,
    /// Sleeps until something comes.
    Asleep,
}

struct Queue {
    waiting: Vec<Waiting>,
    urgent: usize,
    rest: Rest,
    closing: bool,
}

/// What the committer, the watchdog and the writers share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) completions: Completions,
    /// Room in the queue, in units of [`PERMIT_BYTES`].
    pub(crate) room: Arc<Semaphore>,
    pub(crate) poison: watch::Sender<Option<Arc<str>>>,
    pub(crate) counters: Counters,
    /// All of `room`.
    pub(crate) permits_max: u32,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Waiters of the batch that is being written: the watchdog can answer them if it gets stuck.
    inflight: Mutex<Vec<Waiter>>,
    /// Even: no commit under way. Grows by one at each begin and end.
    turn: AtomicU64,
    stop_watchdog: (Mutex<bool>, Condvar),
    ride_delay: Duration,
    merged_bytes_max: usize,
    commit_stuck: Duration,
    ack_before_sync: bool,
}

/// Counters since the store was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) merged: AtomicU64,
    pub(crate) synced: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(engine: Arc<dyn Engine>, options: &StoreOptions) -> Self {
        let permits_max = u32::try_from(options.queue_bytes_max / PERMIT_BYTES).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        Self {
            engine,
            completions: Completions::default(),
            room: Arc::new(Semaphore::new(permits_max as usize)),
            poison: watch::Sender::new(None),
            counters: Counters::default(),
            permits_max,
            queue: Mutex::new(Queue { waiting: Vec::new(), urgent: 0, rest: Rest::Awake, closing: false }),
            wake: Condvar::new(),
            inflight: Mutex::new(Vec::new()),
            turn: AtomicU64::new(0),
            stop_watchdog: (Mutex::new(false), Condvar::new()),
            ride_delay: options.ride_delay,
            merged_bytes_max: options.merged_bytes_max,
            commit_stuck: options.commit_stuck,
            ack_before_sync: cfg!(feature = "test-engine") && options.ack_before_sync,
        }
    }

    /// Appends to the queue. The order of calls is the order of writes.
    pub(crate) fn push(&self, waiting: Waiting, urgency: Urgency) -> Result<(), Waiting> {
        let mut queue = self.queue.lock();
        if queue.closing || self.poison.borrow().is_some() {
            return Err(waiting);
        }
        queue.waiting.push(waiting);
        let wake = match urgency {
            Urgency::Now => {
                queue.urgent += 1;
                queue.rest != Rest::Awake
            }
            Urgency::Ride => queue.rest == Rest::Asleep,
        };
        if wake {
            queue.rest = Rest::Awake;
            drop(queue);
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(crate) fn error(&self) -> StoreError {
        self.poison.borrow().as_ref().map_or(StoreError::Closed, |reason| StoreError::Poisoned(reason.clone()))
    }

    /// Waits for work; `false` when the store closes and everything is written.
    fn next(&self, taken: &mut Vec<Waiting>) -> bool {
        let mut queue = self.queue.lock();
        let mut idle = false;
        loop {
            if queue.urgent > 0 || (queue.closing && !queue.waiting.is_empty()) {
                break;
            }
            if queue.closing {
                return false;
            }
            if idle && queue.waiting.is_empty() {
                queue.rest = Rest::Asleep;
                self.wake.wait(&mut queue);
                idle = false;
            } else {
                queue.rest = Rest::Dozing;
                idle = self.wake.wait_for(&mut queue, self.ride_delay).timed_out();
                if idle && !queue.waiting.is_empty() {
                    break;
                }
            }
        }
        queue.rest = Rest::Awake;
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.batch.bytes();
            bytes <= self.merged_bytes_max
        };
        let count = queue.waiting.iter().take_while(fits).count().max(1);
        if count == queue.waiting.len() {
            std::mem::swap(&mut queue.waiting, taken);
            queue.urgent = 0;
        } else {
            taken.extend(queue.waiting.drain(..count));
            // Perhaps the rest only rides; a commit more than needed does no harm.
            queue.urgent = queue.waiting.len();
        }
        true
    }

    fn run(&self) {
        let mut taken = Vec::new();
        let mut ops: Vec<Op> = Vec::new();
        while self.next(&mut taken) {
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
                self.answer(&Ok(()));
            }
            self.turn.fetch_add(1, Ordering::Relaxed);
            crash_point("store.before_sync");
            let written = self.engine.apply(&mut ops, durability);
            crash_point("store.after_sync");
            self.turn.fetch_add(1, Ordering::Relaxed);
            self.room.add_permits(permits as usize);
            match written {
                Ok(()) if self.poison.borrow().is_some() => return,
                Ok(()) => self.answer(&Ok(())),
                Err(reason) => return self.poison(&format!("a commit failed: {reason}")),
            }
            if durability == Durability::Synced {
                self.counters.synced.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count(&self, taken: &[Waiting]) {
        self.counters.merged.fetch_add(1, Ordering::Relaxed);
        self.counters.batches.fetch_add(taken.len() as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(taken.iter().map(|w| w.batch.bytes() as u64).sum(), Ordering::Relaxed);
    }

    fn answer(&self, outcome: &Outcome) {
        let mut inflight = self.inflight.lock();
        self.completions.finish(inflight.drain(..), outcome);
    }

    /// Ends all writing: whoever waits gets an error, since nobody knows any more what is durable.
    fn poison(&self, reason: &str) {
        let reason: Arc<str> = reason.into();
        let waiting = {
            let mut queue = self.queue.lock();
            self.poison.send_if_modified(|poison| poison.replace(reason.clone()).is_none());
            queue.urgent = 0;
            std::mem::take(&mut queue.waiting)
        };
        self.room.close();
        let outcome = Err(StoreError::Poisoned(reason));
        self.answer(&outcome);
        self.completions.finish(waiting.into_iter().filter_map(|waiting| waiting.waiter), &outcome);
    }

    fn watch(&self) {
        let (stop, changed) = &self.stop_watchdog;
        let mut stop = stop.lock();
        let (mut seen, mut looks) = (0, 0);
        while !*stop {
            changed.wait_for(&mut stop, self.commit_stuck / WATCHDOG_LOOKS);
            let turn = self.turn.load(Ordering::Relaxed);
            let stuck = turn == seen && turn % 2 == 1;
            looks = if stuck { looks + 1 } else { 0 };
            seen = turn;
            if looks == WATCHDOG_LOOKS {
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

/// The running threads. To drop it writes what waits and ends them.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Committer {
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let mut committer = Self { shared: shared.clone(), threads: Vec::with_capacity(2) };
        let (run, watch) = (shared.clone(), shared.clone());
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        committer.threads.push(named("store-commit").spawn(move || run.run())?);
        committer.threads.push(named("store-watchdog").spawn(move || watch.watch())?);
        Ok(committer)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.close();
        let stuck = self.shared.turn.load(Ordering::Relaxed) % 2 == 1 && self.shared.poison.borrow().is_some();
        for (nth, thread) in self.threads.drain(..).enumerate() {
            if nth == 1 {
                *self.shared.stop_watchdog.0.lock() = true;
                self.shared.stop_watchdog.1.notify_one();
            }
            // A thread that hangs in a stuck commit is left behind: the process is about to end.
            if !stuck || nth == 1 {
                drop(thread.join());
            }
        }
        self.shared.room.close();
        self.shared.completions.close();
    }
}
