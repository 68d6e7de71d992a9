//! Notification of a shard's owner about new units.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use waxwing_types::Message;

use crate::unit::Unit;

/// Unit that has just become durable, with its message, so that immediate delivery needs no read.
#[derive(Clone)]
pub struct NewUnit {
    /// Unit that is due now.
    pub unit: Unit,
    /// Message of the unit.
    pub message: Message,
}

impl fmt::Debug for NewUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUnit").field("unit", &self.unit).field("size", &self.message.size()).finish()
    }
}

/// Engine's end of the notifications.
pub trait NewUnitSource: Send {
    /// Polls for the next notification; `None` if no further notification will come.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<NewUnit>>;
}

/// Receiver of the notifications of a shard.
pub struct NewUnits(Box<dyn NewUnitSource>);

impl NewUnits {
    /// Wraps the source of an engine.
    #[must_use]
    pub fn new(source: impl NewUnitSource + 'static) -> Self {
        Self(Box::new(source))
    }

    /// Waits for the next notification; `None` if no further notification will come. A dropped future loses nothing.
    pub async fn recv(&mut self) -> Option<NewUnit> {
        poll_fn(|context| self.0.poll_next(context)).await
    }

    /// Returns a notification that is ready.
    pub fn try_recv(&mut self) -> Option<NewUnit> {
        match self.0.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(new_unit) => new_unit,
            Poll::Pending => None,
        }
    }
}

impl fmt::Debug for NewUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUnits").finish_non_exhaustive()
    }
}
