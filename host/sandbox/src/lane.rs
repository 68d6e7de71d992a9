//! Where a call runs: on the thread that asks, as long as it is quick; else on the slow lane.
//!
//! Nearly every call is over within microseconds, and moving it to another thread would cost more than the call. But the thread that
//! asks also serves all sessions: a guest lets them have their turn at each tick, and one that is still computing after a few goes to
//! threads of its own. The sessions see delays of one tick and no more, however many guests loop.

use std::future::{Future, poll_fn};
use std::pin::Pin;
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

/// The result of a job, unless it takes longer than `wall`. `watch` sees the job.
pub(crate) async fn run<T: Send + 'static>(lane: &SlowLane, wall: Duration, watch: &Watch, mut job: Job<T>) -> Result<T, Cut> {
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
            let bounded = async move {
                tokio::select! {
                    result = job => Some(result),
                    () = timer => None,
                }
            };
            let mut there = AbortOnDrop(lane.handle.spawn(bounded));
            (&mut there.0).await.map_err(|_| Cut::Lost)?.ok_or(Cut::TooLong)
        }
    }
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
    async fn ends_on(ticks: u32) -> ThreadId {
        let (lane, watch) = (SlowLane::start(1).unwrap(), Watch::default());
        let seen = watch.clone();
        let job = async move {
            for _ in 0..ticks {
                seen.tick();
                tokio::task::yield_now().await;
            }
            thread::current().id()
        };
        run(&lane, Duration::from_secs(60), &watch, Box::pin(job)).await.unwrap()
    }

    #[tokio::test]
    async fn only_a_call_that_goes_on_computing_changes_its_thread() {
        let here = thread::current().id();
        assert_eq!(ends_on(0).await, here);
        assert_eq!(ends_on(QUICK_TICKS).await, here);
        assert_ne!(ends_on(QUICK_TICKS + 1).await, here);
    }
}
