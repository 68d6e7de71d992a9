//! Completion of writes: wakes the waiters with a single wake-up of the runtime per commit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::StoreError;

pub(crate) type CommitResult = Result<(), StoreError>;
pub(crate) type Waiter = oneshot::Sender<CommitResult>;

/// Future of a submitted write; resolves when the write is durable or when durability has become unknown. Dropping does not
/// cancel the write.
#[derive(Debug)]
pub struct Completion(oneshot::Receiver<CommitResult>);

impl Completion {
    pub(crate) fn new() -> (Waiter, Self) {
        let (waiter, receiver) = oneshot::channel();
        (waiter, Self(receiver))
    }

    /// Waits on a thread outside the async runtime.
    pub fn wait_blocking(self) -> Result<(), StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Future for Completion {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or(Err(StoreError::Closed)))
    }
}

#[derive(Default)]
struct FinishedWrites {
    /// Whether a [`CompletionDispatcher`] exists and will be polled.
    has_dispatcher: bool,
    closed: bool,
    waker: Option<Waker>,
    waiters: Vec<(Waiter, CommitResult)>,
}

/// Queue of finished waiters between committer and dispatcher.
#[derive(Clone, Default)]
pub(crate) struct CompletionQueue(Arc<Mutex<FinishedWrites>>);

impl CompletionQueue {
    /// Queues finished waiters. Without a dispatcher each waiter is woken directly, at the cost of a runtime wake-up each.
    pub(crate) fn finish(&self, waiters: impl Iterator<Item = Waiter>, outcome: &CommitResult) {
        let mut finished = self.0.lock();
        if finished.has_dispatcher {
            finished.waiters.extend(waiters.map(|waiter| (waiter, outcome.clone())));
            let waker = if finished.waiters.is_empty() { None } else { finished.waker.take() };
            drop(finished);
            if let Some(waker) = waker {
                waker.wake();
            }
        } else {
            drop(finished);
            for waiter in waiters {
                drop(waiter.send(outcome.clone()));
            }
        }
    }

    pub(crate) fn close(&self) {
        let mut finished = self.0.lock();
        finished.closed = true;
        let waker = finished.waker.take();
        drop(finished);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn dispatcher(&self) -> CompletionDispatcher {
        self.0.lock().has_dispatcher = true;
        CompletionDispatcher { completions: self.clone(), batch: Vec::new() }
    }
}

/// Task that wakes waiters from inside the async runtime: the committer wakes the dispatcher once per commit. Ends when the
/// store is closed. At most one exists; the store works without a dispatcher too.
pub struct CompletionDispatcher {
    completions: CompletionQueue,
    batch: Vec<(Waiter, CommitResult)>,
}

impl Future for CompletionDispatcher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let closed = {
            let mut finished = this.completions.0.lock();
            if !finished.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                finished.waker = Some(context.waker().clone());
            }
            std::mem::swap(&mut finished.waiters, &mut this.batch);
            finished.closed
        };
        for (waiter, outcome) in this.batch.drain(..) {
            drop(waiter.send(outcome));
        }
        if closed { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for CompletionDispatcher {
    fn drop(&mut self) {
        let mut finished = self.completions.0.lock();
        finished.has_dispatcher = false;
        finished.waker = None;
        let waiters = std::mem::take(&mut finished.waiters);
        drop(finished);
        for (waiter, outcome) in waiters {
            drop(waiter.send(outcome));
        }
    }
}
