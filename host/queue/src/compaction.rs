//! Compaction of the store: returns the disk space of removed messages.
//!
//! The store frees removed rows when later writes displace them. On a full disk no messages are accepted and therefore no
//! writes follow, so that even an empty queue could stay full for ever. A refusal for lack of disk space therefore triggers
//! a compaction.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_spool::{BODY_INLINE_BYTES_MAX, HEADER_BLOCK_BYTES_MAX};
use waxwing_types::Monotonic;

use crate::inner::SpoolInner;

/// Minimum time between two compactions.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(10);

/// Time of the last compaction.
#[derive(Debug, Default)]
pub(crate) struct CompactionTrigger(Mutex<Option<Monotonic>>);

impl CompactionTrigger {
    /// Returns whether a compaction is due; if so, records the time.
    fn take_due(&self, now: Monotonic) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|at| now.since(at) >= COMPACTION_INTERVAL);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

impl SpoolInner {
    /// Compacts the store on a blocking thread after a message was refused for lack of disk space, if due and if the
    /// compaction itself cannot fill the disk.
    pub(crate) fn compact_store(self: &Arc<Self>) {
        let counts = self.schedule.lock().counts;
        let units = counts.incoming + counts.deferred + counts.hold + counts.corrupt;
        // Live rows are rewritten before the old tables are removed; each message is counted at its maximum size.
        let written = units.saturating_mul((HEADER_BLOCK_BYTES_MAX + BODY_INLINE_BYTES_MAX) as u64);
        if !self.bodies.files.free_bytes().is_ok_and(|free| written <= free) || !self.compaction.take_due(self.clock.monotonic())
        {
            return;
        }
        let message = self.message.clone();
        self.bodies.blocking.try_start(move || match message.compact() {
            Ok(()) => tracing::info!(target: "queue", "disk nearly full: the store was compacted"),
            Err(error) => tracing::warn!(target: "queue", "disk nearly full, but the store cannot be compacted: {error}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_done_all_the_time() {
        let at = |seconds: u64| Monotonic::from_micros(seconds * 1_000_000);
        let reclaim = CompactionTrigger::default();
        let due: Vec<u64> = (100..130).filter(|seconds| reclaim.take_due(at(*seconds))).collect();
        assert_eq!(due, [100, 110, 120]);
    }
}
