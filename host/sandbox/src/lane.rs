//! Where a call runs: on the thread that asks, as long as it is quick; else on the slow lane.
//!
//! Nearly every call is over within microseconds, and moving it to another thread would cost more than the call. But the thread that
//! asks also serves all sessions: a guest lets them have their turn at each tick, and one that is still computing after a few goes to
//! threads of its own. The sessions see delays of one tick and no more, however many guests loop. A hook that went there goes there from
//! the start for its next calls: a few ticks of each call would be most of the sessions' time when many clients cause such calls.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::LoadError;
use crate::state::Watch;

/// How far the slow lane's threads stand back behind the others (nice): guests that compute take the processors' rest, not the
/// sessions' share.
const NICE: i32 = 5;

/// Ticks that a call may see on the thread that asks. The first says little, since each call that happens to run when the clock
/// ticks sees one: such a call is nearly over, and has no need to queue with those that loop.
const QUICK_TICKS: u32 = 2;

/// Quick calls in a row, on the slow lane, after which a hook is tried on the thread that asks again.
const QUICK_CALLS: u8 = 4;

/// Where the calls of one hook begin. Shared by all instances of a version.
#[derive(Debug, Default)]
pub(crate) struct Habit(AtomicU8);

impl Habit {
    fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// A call has ended after so many ticks. Calls at the same time may each miss what the other says, which does no harm.
    fn note(&self, ticks: u32) {
        let quick_calls_to_go = self.0.load(Ordering::Relaxed);
        let now = if ticks > QUICK_TICKS { QUICK_CALLS } else { quick_calls_to_go.saturating_sub(1) };
        if now != quick_calls_to_go {
            self.0.store(now, Ordering::Relaxed);
        }
    }
}

/// The slow lane: threads that run nothing but guests.
pub(crate) struct SlowLane {
    runtime: Option<Runtime>,
    handle: Handle,
}

/// A call that owns all it needs.
pub(crate) type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl SlowLane {
    pub(crate) fn start(threads: usize) -> Result<Self, LoadError> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads.max(1)).max_blocking_threads(threads.max(1)).thread_name("guests").enable_all();
        builder.on_thread_start(stand_back);
        let runtime = builder.build().map_err(|e| LoadError::Engine(e.to_string()))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }
}

/// Linux counts the priority by thread, and to lower it needs no right. Without it guests run all the same.
fn stand_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(target: "plugins", %error, "the priority of a thread for guests can't be lowered");
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime may not be waited for on a thread of another.
            runtime.shutdown_background();
        }
    }
}

/// Ends a call on the slow lane when nobody waits for it any more.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a job has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The wall-time limit.
    TooLong,
    /// The host panicked while it served the guest, or is going down.
    Lost,
}

/// The result of a job, unless it takes longer than `wall`. `watch` sees the job; `habit` is that of its hook.
pub(crate) async fn run<T: Send + 'static>(
    lane: &SlowLane,
    habit: &Habit,
    wall: Duration,
    watch: &Watch,
    job: Job<T>,
) -> Result<T, Cut> {
    let result = if habit.is_slow() { there(lane, wall, job).await } else { here(lane, wall, watch, job).await };
    match result {
        // It had no time to show what it is.
        Err(Cut::TooLong) if watch.ticks() <= QUICK_TICKS => {}
        _ => habit.note(watch.ticks()),
    }
    result
}

/// On the thread that asks, until it goes on computing.
async fn here<T: Send + 'static>(lane: &SlowLane, wall: Duration, watch: &Watch, mut job: Job<T>) -> Result<T, Cut> {
    // Most calls are over at their first poll and need no timer.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx))).await {
        return Ok(result);
    }
    let mut timer = Box::pin(tokio::time::sleep(wall));
    let waited = poll_fn(|cx| {
        if watch.ticks() > QUICK_TICKS {
            return Poll::Ready(Waited::Computing);
        }
        match (job.as_mut().poll(cx), timer.as_mut().poll(cx)) {
            (Poll::Ready(result), _) => Poll::Ready(Waited::Done(result)),
            (Poll::Pending, Poll::Ready(())) => Poll::Ready(Waited::TooLong),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    });
    match waited.await {
        Waited::Done(result) => Ok(result),
        Waited::TooLong => Err(Cut::TooLong),
        Waited::Computing => {
            let left = timer.deadline().saturating_duration_since(tokio::time::Instant::now());
            there(lane, left, job).await
        }
    }
}

/// On the slow lane.
async fn there<T: Send + 'static>(lane: &SlowLane, wall: Duration, job: Job<T>) -> Result<T, Cut> {
    let mut bounded = AbortOnDrop(lane.handle.spawn(tokio::time::timeout(wall, job)));
    (&mut bounded.0).await.map_err(|_| Cut::Lost)?.map_err(|_| Cut::TooLong)
}

/// What became of a job on the thread that asks.
enum Waited<T> {
    Done(T),
    Computing,
    TooLong,
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    /// Where a call ends that computes for so many ticks.
    async fn ends_on(lane: &SlowLane, habit: &Habit, ticks: u32) -> ThreadId {
        let watch = Watch::default();
        let seen = watch.clone();
        let job = async move {
            for _ in 0..ticks {
                seen.tick();
                tokio::task::yield_now().await;
            }
            thread::current().id()
        };
        run(lane, habit, Duration::from_secs(60), &watch, Box::pin(job)).await.unwrap()
    }

    #[tokio::test]
    async fn only_a_call_that_goes_on_computing_changes_its_thread() {
        let (lane, here) = (SlowLane::start(1).unwrap(), thread::current().id());
        assert_eq!(ends_on(&lane, &Habit::default(), 0).await, here);
        assert_eq!(ends_on(&lane, &Habit::default(), QUICK_TICKS).await, here);
        assert_ne!(ends_on(&lane, &Habit::default(), QUICK_TICKS + 1).await, here);
    }

    #[tokio::test]
    async fn a_hook_that_computed_begins_on_the_slow_lane_until_it_is_quick_again() {
        let (lane, habit, here) = (SlowLane::start(1).unwrap(), Habit::default(), thread::current().id());
        assert_ne!(ends_on(&lane, &habit, QUICK_TICKS + 1).await, here);
        for _ in 0..QUICK_CALLS {
            assert_ne!(ends_on(&lane, &habit, 0).await, here);
        }
        assert_eq!(ends_on(&lane, &habit, 0).await, here);
    }

    #[tokio::test]
    async fn a_call_that_had_no_turn_is_not_a_quick_one() {
        let (lane, habit, watch) = (SlowLane::start(1).unwrap(), Habit::default(), Watch::default());
        habit.note(QUICK_TICKS + 1);
        for _ in 0..=QUICK_CALLS {
            let cut = run(&lane, &habit, Duration::from_millis(1), &watch, Box::pin(std::future::pending::<()>())).await;
            assert_eq!(cut, Err(Cut::TooLong));
        }
        assert!(habit.is_slow());
    }
}
