//! Executor of plugin calls: on the calling thread while a call is short, otherwise on a separate thread pool.
//!
//! Nearly every call ends within microseconds, and moving such a call to another thread would cost more than the call. But the
//! calling thread also serves all sessions: a guest yields to the sessions at each tick, and a guest that still computes after
//! a few ticks moves to the pool. Sessions see delays of one tick at most, however many guests loop. After a move, the next
//! calls of the same hook start on the pool: a few ticks of each call would take most of the sessions' time if many clients
//! caused such calls.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::PluginLoadError;
use crate::state::CallMonitor;

/// Nice value of the pool's threads: guests that compute use spare processor time, not the sessions' share.
const NICE: i32 = 5;

/// Maximum number of ticks of a call on the calling thread. The first tick says little, since each call that happens to run at
/// a tick sees one: such a call is nearly finished and should not queue behind looping calls.
const QUICK_TICKS: u32 = 2;

/// Number of consecutive quick calls on the pool after which a hook is tried on the calling thread again.
const QUICK_CALLS: u8 = 4;

/// Recent call durations of one hook, which determine the thread of the next call. Shared by all instances of a version.
#[derive(Debug, Default)]
pub(crate) struct CallHistory(AtomicU8);

impl CallHistory {
    fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Records a call that ended after the given number of ticks. Concurrent calls may miss each other's update, which is
    /// harmless.
    fn record(&self, ticks: u32) {
        let quick_calls_to_go = self.0.load(Ordering::Relaxed);
        let now = if ticks > QUICK_TICKS { QUICK_CALLS } else { quick_calls_to_go.saturating_sub(1) };
        if now != quick_calls_to_go {
            self.0.store(now, Ordering::Relaxed);
        }
    }
}

/// Thread pool that runs only guests.
pub(crate) struct SlowCallPool {
    runtime: Option<Runtime>,
    handle: Handle,
}

/// Future of a call that owns all data of the call.
pub(crate) type CallFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl SlowCallPool {
    pub(crate) fn start(threads: usize) -> Result<Self, PluginLoadError> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads.max(1)).max_blocking_threads(threads.max(1)).thread_name("guests").enable_all();
        builder.on_thread_start(lower_priority);
        let runtime = builder.build().map_err(|e| PluginLoadError::Engine(e.to_string()))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }
}

/// Lowers the priority of the current thread. Linux keeps the priority by thread, and lowering needs no privilege. On failure
/// the pool runs at normal priority.
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(target: "plugins", %error, "cannot lower the priority of a plugin thread");
    }
}

impl Drop for SlowCallPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Aborts a call on the pool when the caller is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reason for an aborted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallAborted {
    /// Wall-time limit exceeded.
    TimedOut,
    /// Panic of the host during the call, or shutdown of the pool.
    HostFailed,
}

/// Runs a call, at most for `wall`. `monitor` observes the call; `history` belongs to the hook.
pub(crate) async fn run<T: Send + 'static>(
    pool: &SlowCallPool,
    history: &CallHistory,
    wall: Duration,
    monitor: &CallMonitor,
    job: CallFuture<T>,
) -> Result<T, CallAborted> {
    let result = if history.is_slow() { run_on_pool(pool, wall, job).await } else { run_inline(pool, wall, monitor, job).await };
    match result {
        // A call aborted within the first ticks says nothing about the speed of the hook.
        Err(CallAborted::TimedOut) if monitor.ticks() <= QUICK_TICKS => {}
        _ => history.record(monitor.ticks()),
    }
    result
}

/// Runs the call on the calling thread until too many ticks have passed.
async fn run_inline<T: Send + 'static>(
    pool: &SlowCallPool,
    wall: Duration,
    monitor: &CallMonitor,
    mut job: CallFuture<T>,
) -> Result<T, CallAborted> {
    // Most calls end at the first poll and need no timer.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx))).await {
        return Ok(result);
    }
    let mut timer = Box::pin(tokio::time::sleep(wall));
    let waited = poll_fn(|cx| {
        if monitor.ticks() > QUICK_TICKS {
            return Poll::Ready(InlineResult::StillComputing);
        }
        match (job.as_mut().poll(cx), timer.as_mut().poll(cx)) {
            (Poll::Ready(result), _) => Poll::Ready(InlineResult::Done(result)),
            (Poll::Pending, Poll::Ready(())) => Poll::Ready(InlineResult::TimedOut),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    });
    match waited.await {
        InlineResult::Done(result) => Ok(result),
        InlineResult::TimedOut => Err(CallAborted::TimedOut),
        InlineResult::StillComputing => {
            let left = timer.deadline().saturating_duration_since(tokio::time::Instant::now());
            run_on_pool(pool, left, job).await
        }
    }
}

/// Runs the call on the pool.
async fn run_on_pool<T: Send + 'static>(pool: &SlowCallPool, wall: Duration, job: CallFuture<T>) -> Result<T, CallAborted> {
    let mut bounded = AbortOnDrop(pool.handle.spawn(tokio::time::timeout(wall, job)));
    (&mut bounded.0).await.map_err(|_| CallAborted::HostFailed)?.map_err(|_| CallAborted::TimedOut)
}

/// Result of a call on the calling thread.
enum InlineResult<T> {
    Done(T),
    StillComputing,
    TimedOut,
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    /// Where a call ends that computes for so many ticks.
    async fn ends_on(slow_calls: &SlowCallPool, calls: &CallHistory, ticks: u32) -> ThreadId {
        let watch = CallMonitor::default();
        let seen = watch.clone();
        let job = async move {
            for _ in 0..ticks {
                seen.tick();
                tokio::task::yield_now().await;
            }
            thread::current().id()
        };
        run(slow_calls, calls, Duration::from_secs(60), &watch, Box::pin(job)).await.unwrap()
    }

    #[tokio::test]
    async fn only_a_call_that_goes_on_computing_changes_its_thread() {
        let (slow_calls, here) = (SlowCallPool::start(1).unwrap(), thread::current().id());
        assert_eq!(ends_on(&slow_calls, &CallHistory::default(), 0).await, here);
        assert_eq!(ends_on(&slow_calls, &CallHistory::default(), QUICK_TICKS).await, here);
        assert_ne!(ends_on(&slow_calls, &CallHistory::default(), QUICK_TICKS + 1).await, here);
    }

    #[tokio::test]
    async fn a_hook_that_computed_begins_on_the_slow_lane_until_it_is_quick_again() {
        let (slow_calls, calls, here) = (SlowCallPool::start(1).unwrap(), CallHistory::default(), thread::current().id());
        assert_ne!(ends_on(&slow_calls, &calls, QUICK_TICKS + 1).await, here);
        for _ in 0..QUICK_CALLS {
            assert_ne!(ends_on(&slow_calls, &calls, 0).await, here);
        }
        assert_eq!(ends_on(&slow_calls, &calls, 0).await, here);
    }

    #[tokio::test]
    async fn a_call_that_had_no_turn_is_not_a_quick_one() {
        let (slow_calls, calls, watch) = (SlowCallPool::start(1).unwrap(), CallHistory::default(), CallMonitor::default());
        calls.record(QUICK_TICKS + 1);
        for _ in 0..=QUICK_CALLS {
            let cut = run(&slow_calls, &calls, Duration::from_millis(1), &watch, Box::pin(std::future::pending::<()>())).await;
            assert_eq!(cut, Err(CallAborted::TimedOut));
        }
        assert!(calls.is_slow());
    }
}
