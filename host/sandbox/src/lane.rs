//! Where a call runs: on the thread that asks, as long as it is quick; else on the slow lane.
//!
//! Nearly every call is over within microseconds, and moving it to another thread would cost more than the call. But the thread that
//! asks also serves all sessions: a guest that is still computing after a tick goes to threads of its own, and the sessions see a
//! delay of one tick and no more, however many guests loop.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::LoadError;
use crate::state::Watch;

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
        let runtime = builder.build().map_err(|e| LoadError::Engine(e.to_string()))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
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
        if watch.ticks() > 0 {
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
