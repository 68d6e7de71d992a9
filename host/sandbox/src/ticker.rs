//! The clock of guests: one thread that moves the engine's epoch on each millisecond while a call runs.
//!
//! Nearly all calls begin and end between two ticks. So the thread rests longer while it finds none under way when it wakes: the first tick of a
//! call may come [`REST_TICKS_MAX`] milliseconds late, those after it come on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

use crate::LoadError;

/// One tick: the grain of CPU limits.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// How long the thread rests at most when no call was under way, while calls come.
const REST_TICKS_MAX: u32 = 4;
/// Rests without a call after which the thread sleeps until there is one. Waking it costs a system call, so it stays awake between
/// calls that come often.
const IDLE_RESTS: u32 = 125;

/// Counts running calls, so that an idle server's thread sleeps.
#[derive(Debug)]
pub(crate) struct Ticker {
    running: AtomicU32,
    begun: AtomicU64,
    asleep: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    /// Starts the thread; it ends with the engine.
    pub(crate) fn start(engine: &Engine) -> Result<Arc<Self>, LoadError> {
        let ticker = Arc::new(Self {
            running: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let (weak, theirs) = (engine.weak(), Arc::downgrade(&ticker));
        let body = move || {
            let (mut idle, mut rest, mut seen) = (0, 1, 0);
            while let (Some(engine), Some(ticker)) = (weak.upgrade(), theirs.upgrade()) {
                engine.increment_epoch();
                drop(engine);
                rest = if ticker.runs() { 1 } else { REST_TICKS_MAX.min(rest * 2) };
                idle = if ticker.is_busy(&mut seen) { 0 } else { idle + 1 };
                if idle < IDLE_RESTS {
                    drop(ticker);
                    thread::sleep(TICK * rest);
                } else {
                    ticker.sleep(&mut seen);
                    idle = 0;
                }
            }
        };
        let handle = thread::Builder::new().name("epoch".to_owned()).spawn(body);
        let handle = handle.map_err(|e| LoadError::Engine(e.to_string()))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    /// A call begins; it ends when the guard is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(Arc::clone(self))
    }

    fn is_busy(&self, seen: &mut u64) -> bool {
        let begun = self.begun.load(Ordering::SeqCst);
        let news = begun != *seen;
        *seen = begun;
        news || self.runs()
    }

    /// A call is under way.
    fn runs(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0
    }

    /// Says that it sleeps before it looks once more: a call that begins in between sees one or is seen.
    fn sleep(&self, seen: &mut u64) {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.is_busy(seen) {
            // Wakes now and then to see whether the engine is gone.
            thread::park_timeout(Duration::from_secs(5));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Running(Arc<Ticker>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
