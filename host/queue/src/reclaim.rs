//! Gets back the disk space of messages that are gone.
//!
//! The store frees what was removed when later writes push it out. When the disk is so full that nothing is taken in, there are no later
//! writes: an empty queue could keep the door closed for ever. So a refusal for lack of room has the store tidied.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_types::Monotonic;

use crate::body::BODY_INLINE_BYTES_MAX;
use crate::embedded::Inner;
use crate::message::HEAD_BYTES_MAX;

/// Between two times that the store is tidied.
const PAUSE: Duration = Duration::from_secs(10);

/// When the store was tidied last.
#[derive(Debug, Default)]
pub(crate) struct Reclaim(Mutex<Option<Monotonic>>);

impl Reclaim {
    /// Whether it is time; then it is not for a while.
    fn is_due(&self, now: Monotonic) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|at| now.since(at) >= PAUSE);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

impl Inner {
    /// The disk had no room for a message: tidies the store on a thread of its own, if that is due and can't fill the disk meanwhile.
    pub(crate) fn reclaim(self: &Arc<Self>) {
        let counts = self.schedule.lock().counts;
        let units = counts.incoming + counts.deferred + counts.hold + counts.corrupt;
        // What is alive is written anew before the old is removed; each message at its largest.
        let written = units.saturating_mul((HEAD_BYTES_MAX + BODY_INLINE_BYTES_MAX) as u64);
        if !self.bodies.files.free_bytes().is_ok_and(|free| written <= free) || !self.reclaim.is_due(self.clock.monotonic()) {
            return;
        }
        let message = self.message.clone();
        self.bodies.blocking.start(move || match message.reclaim() {
            Ok(()) => tracing::info!(target: "queue", "the disk is short of room: the space of messages that are gone is freed"),
            Err(error) => tracing::warn!(target: "queue", "the space of messages that are gone can't be freed: {error}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_done_all_the_time() {
        let at = |seconds: u64| Monotonic::from_micros(seconds * 1_000_000);
        let reclaim = Reclaim::default();
        let due: Vec<u64> = (100..130).filter(|seconds| reclaim.is_due(at(*seconds))).collect();
        assert_eq!(due, [100, 110, 120]);
    }
}
