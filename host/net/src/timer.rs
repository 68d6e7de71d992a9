//! A deadline that is cheap to move: the runtime's timer is reset only after firing, or for an earlier deadline.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep};
use waxwing_types::{Clock, Monotonic};

/// Deadline of a session.
pub(crate) struct DeadlineTimer {
    clock: Arc<dyn Clock>,
    deadline: Option<Monotonic>,
    armed: Option<(Monotonic, Pin<Box<Sleep>>)>,
}

impl DeadlineTimer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, deadline: None, armed: None }
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Replaces the deadline.
    pub(crate) fn set(&mut self, deadline: Monotonic) {
        self.deadline = Some(deadline);
    }

    /// Completes when the deadline has passed by the clock, and clears the deadline.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        loop {
            let now = self.now();
            match &mut self.armed {
                Some((at, timer)) if *at <= deadline => {
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if now >= deadline {
                        self.armed = None;
                        self.deadline = None;
                        return Poll::Ready(());
                    }
                    // The timer fired for an earlier deadline that was moved since, or the clock is not the clock of
                    // the runtime.
                    *at = deadline;
                    timer.as_mut().reset(Instant::now() + deadline.since(now));
                }
                Some((at, timer)) => {
                    *at = deadline;
                    timer.as_mut().reset(Instant::now() + deadline.since(now));
                }
                None => self.armed = Some((deadline, Box::pin(sleep(deadline.since(now))))),
            }
        }
    }
}
