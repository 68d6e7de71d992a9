//! Notifications of a shard's owner, without a runtime.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::new_units::{NewUnit, NewUnitSource, NewUnits};
use crate::unit::DueKey;

/// Queue of notifications, and the key from which the owner must scan again.
pub(super) struct NotificationQueue {
    state: Arc<Mutex<QueueState>>,
    new_units_max: usize,
}

#[derive(Default)]
struct QueueState {
    new_units: VecDeque<NewUnit>,
    rescan_from: Option<DueKey>,
    has_receiver: bool,
    dropped: u64,
    wakers: Vec<Waker>,
}

impl QueueState {
    fn request_rescan(&mut self, key: DueKey) {
        self.rescan_from = Some(self.rescan_from.map_or(key, |other| other.min(key)));
        self.wake();
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Registers the task, once for all polls until the next wake-up.
    fn register(&mut self, context: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            self.wakers.push(context.waker().clone());
        }
    }
}

impl NotificationQueue {
    pub(super) fn new(new_units_max: usize) -> Self {
        Self { state: Arc::default(), new_units_max }
    }

    /// Returns the receiver; a second receiver is closed.
    pub(super) fn receiver(&self) -> NewUnits {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.has_receiver, true) {
            Self::closed()
        } else {
            NewUnits::new(Receiver(Arc::clone(&self.state)))
        }
    }

    /// Returns a closed receiver.
    pub(super) fn closed() -> NewUnits {
        NewUnits::new(ClosedReceiver)
    }

    pub(super) fn send(&self, new_unit: NewUnit) {
        let mut state = self.state.lock();
        if state.new_units.len() < self.new_units_max {
            state.new_units.push_back(new_unit);
            state.wake();
        } else {
            state.dropped += 1;
            state.request_rescan(new_unit.unit.due_key());
        }
    }

    /// Records a unit without notification.
    pub(super) fn note_overflow(&self, key: DueKey) {
        let mut state = self.state.lock();
        state.dropped += 1;
        state.request_rescan(key);
    }

    pub(super) fn request_rescan(&self, key: DueKey) {
        self.state.lock().request_rescan(key);
    }

    pub(super) async fn take_rescan(&self) -> DueKey {
        poll_fn(|context| {
            let mut state = self.state.lock();
            match state.rescan_from.take() {
                Some(key) => Poll::Ready(key),
                None => {
                    state.register(context);
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(super) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }
}

struct Receiver(Arc<Mutex<QueueState>>);

impl NewUnitSource for Receiver {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<NewUnit>> {
        let mut state = self.0.lock();
        match state.new_units.pop_front() {
            Some(new_unit) => Poll::Ready(Some(new_unit)),
            None => {
                state.register(context);
                Poll::Pending
            }
        }
    }
}

struct ClosedReceiver;

impl NewUnitSource for ClosedReceiver {
    fn poll_next(&mut self, _context: &mut Context<'_>) -> Poll<Option<NewUnit>> {
        Poll::Ready(None)
    }
}
