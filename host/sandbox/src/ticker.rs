//! Ticker: a thread that increments the engine's epoch each millisecond while a call runs.
//!
//! Nearly all calls start and end between two ticks. So the thread sleeps longer while no call is running at a wake-up: the
//! first tick of a call may come [`SLEEP_TICKS_MAX`] milliseconds late, later ticks come on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

use crate::PluginLoadError;

/// Duration of one tick: the granularity of CPU limits.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Maximum sleep in ticks when no call was running, while calls come.
const SLEEP_TICKS_MAX: u32 = 4;
/// Number of sleeps without a call after which the thread parks until the next call. Waking a parked thread costs a system
/// call, so the thread stays awake between frequent calls.
const IDLE_SLEEPS_MAX: u32 = 125;

/// Counter of running calls, so that the thread of an idle server sleeps.
#[derive(Debug)]
pub(crate) struct Ticker {
    running: AtomicU32,
    started: AtomicU64,
    asleep: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    /// Starts the thread, which ends with the engine.
    pub(crate) fn start(engine: &Engine) -> Result<Arc<Self>, PluginLoadError> {
        let ticker = Arc::new(Self {
            running: AtomicU32::new(0),
            started: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let (weak_engine, weak_ticker) = (engine.weak(), Arc::downgrade(&ticker));
        let body = move || {
            let (mut idle, mut rest, mut seen) = (0, 1, 0);
            while let (Some(engine), Some(ticker)) = (weak_engine.upgrade(), weak_ticker.upgrade()) {
                engine.increment_epoch();
                drop(engine);
                rest = if ticker.is_running() { 1 } else { SLEEP_TICKS_MAX.min(rest * 2) };
                idle = if ticker.is_busy(&mut seen) { 0 } else { idle + 1 };
                if idle < IDLE_SLEEPS_MAX {
                    drop(ticker);
                    thread::sleep(TICK * rest);
                } else {
                    ticker.sleep(&mut seen);
                    idle = 0;
                }
            }
        };
        let handle = thread::Builder::new().name("epoch".to_owned()).spawn(body);
        let handle = handle.map_err(|e| PluginLoadError::Engine(e.to_string()))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    /// Registers a call; dropping the guard ends the call.
    pub(crate) fn begin_call(self: &Arc<Self>) -> RunningCall {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.started.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        RunningCall(Arc::clone(self))
    }

    fn is_busy(&self, seen: &mut u64) -> bool {
        let started = self.started.load(Ordering::SeqCst);
        let news = started != *seen;
        *seen = started;
        news || self.is_running()
    }

    /// Checks whether a call is running.
    fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0
    }

    /// Parks the thread. The flag `asleep` is set before the second check: a call that starts in between sees the flag or is
    /// seen.
    fn sleep(&self, seen: &mut u64) {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.is_busy(seen) {
            // The thread wakes periodically to check whether the engine is gone.
            thread::park_timeout(Duration::from_secs(5));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// Guard of a running call.
#[derive(Debug)]
pub(crate) struct RunningCall(Arc<Ticker>);

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
