//! Conformance suite: the promises of [`Spool`], checked on any engine.
//!
//! A test binary of an engine implements [`SpoolHarness`] and expands [`spool_conformance!`](crate::spool_conformance); each
//! check becomes a test of its own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a failed check panics")]

mod bodies;
mod commands;
mod enqueue;
mod listing;
mod messages;
mod owner;

pub use bodies::*;
pub use commands::*;
pub use enqueue::*;
pub use listing::*;
pub use messages::{deferred, new_message, pattern, read_body, removed};
pub use owner::*;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{ManualClock, QueueId, Timestamp};

use crate::{DueKey, Lease, ListKey, NewBody, NewMessage, ShardId, Spool, Unit};

/// Later than any time of the suite.
pub const END_OF_TIME: Timestamp = Timestamp::from_millis(u64::MAX);

/// Engine under test.
#[async_trait]
pub trait SpoolHarness: Sized + Send + Sync {
    /// Opens an empty queue that keeps at most `new_units_max` notifications per shard.
    async fn open(new_units_max: usize) -> Self;

    /// Returns the opened spool.
    fn spool(&self) -> Arc<dyn Spool>;

    /// Returns the clock of the engine.
    fn clock(&self) -> Arc<ManualClock>;

    /// Closes the queue and opens the queue again, as at a restart of the server.
    async fn reopen(self) -> Self;

    /// Sets the octets free for new messages, beside the engine's reserve.
    fn set_free_bytes(&self, bytes: u64);

    /// Makes the record of a message unreadable.
    async fn corrupt_message(&self, id: QueueId);

    /// Makes the record of a due unit unreadable.
    async fn corrupt_unit(&self, key: DueKey);
}

/// Shorthands of the checks.
struct Bench<H>(H);

impl<H: SpoolHarness> Bench<H> {
    async fn new() -> Self {
        Self(H::open(4096).await)
    }

    async fn reopen(self) -> Self {
        Self(self.0.reopen().await)
    }

    fn now(&self) -> Timestamp {
        use waxwing_types::Clock;
        self.0.clock().now()
    }

    fn advance(&self, time: Duration) {
        self.0.clock().advance(time);
    }

    fn spool(&self) -> Arc<dyn Spool> {
        self.0.spool()
    }

    fn message(&self, recipients: usize) -> NewMessage {
        new_message(self.spool().next_queue_id(self.now()), recipients, self.now())
    }

    async fn enqueue(&self, recipients: usize) -> QueueId {
        self.enqueue_message(self.message(recipients)).await
    }

    async fn enqueue_message(&self, message: NewMessage) -> QueueId {
        let id = message.id;
        self.spool().enqueue(message).await.unwrap();
        id
    }

    async fn write_body(&self, id: QueueId, bytes: usize) -> NewBody {
        let spool = self.spool();
        let mut sink = spool.body_sink(id, spool.reserve_space(0).unwrap());
        for piece in pattern(bytes).chunks(60_000) {
            sink.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(sink.size(), bytes as u64);
        sink.finish().await.unwrap()
    }

    async fn lease(&self, id: QueueId) -> Lease {
        let spool = self.spool();
        spool.acquire(spool.shard_for(id)).await.unwrap()
    }

    /// Units of all shards due by `until`, in order within a shard.
    async fn due(&self, until: Timestamp) -> Vec<Unit> {
        let spool = self.spool();
        let mut units = Vec::new();
        for shard in spool.shards() {
            let lease = spool.acquire(shard).await.unwrap();
            units.extend(spool.scan_due(&lease, None, until, 1000).await.unwrap());
        }
        units
    }

    /// Position of a message's unit in the listing, and the unit.
    async fn listed(&self, id: QueueId) -> (ListKey, Option<Unit>) {
        let page = self.spool().list(None, 1000).await.unwrap();
        let entry = page.entries.into_iter().find(|entry| entry.id == id).unwrap();
        let key = match (&entry.state, &entry.unit) {
            (crate::UnitState::Incoming | crate::UnitState::Deferred, Some(unit)) => ListKey::Due(unit.due_key()),
            _ => ListKey::Suspended(id, entry.number),
        };
        (key, entry.unit)
    }
}

/// First shard of the engine.
fn first_shard(spool: &dyn Spool) -> ShardId {
    spool.shards().first().copied().unwrap()
}

/// Expands to a test for each check of the suite. `$harness` implements [`SpoolHarness`](crate::conformance::SpoolHarness); the
/// crate of the tests needs tokio with the features `macros` and `rt`.
#[macro_export]
macro_rules! spool_conformance {
    ($harness:ty) => {
        $crate::spool_conformance! { @checks $harness:
            enqueued_message_survives_reopening
            enqueue_is_idempotent_while_the_message_is_queued
            recipients_are_divided_into_units
            attached_messages_are_committed_together
            invalid_messages_are_refused
            held_message_is_not_due
            priority_and_earliest_time_order_the_units
            queue_ids_grow_across_reopening
            due_units_come_in_order_and_in_pages
            next_due_is_the_first_unit_behind_the_position
            deferred_unit_returns_with_its_status
            settlement_is_atomic_with_generated_messages
            settlement_of_a_stale_unit_conflicts
            remaining_recipients_and_next_state_must_agree
            later_lease_fences_earlier_leases
            unknown_shard_has_no_lease
            new_units_are_notified_once_to_one_receiver
            dropped_notifications_request_a_rescan
            unit_on_hold_after_an_attempt_is_kept
            corrupt_message_is_reported_and_kept
            corrupt_unit_is_moved_out_of_the_schedule
            bodies_of_all_sizes_are_read_back
            body_is_readable_in_parts
            large_body_belongs_to_its_message
            inline_bodies_have_a_limit
            full_engine_refuses_new_mail_and_settles
            reservation_counts_until_dropped
            list_has_pages_with_suspended_units_first
            show_has_all_units_of_a_message
            stats_count_units_by_state
            hold_and_release_keep_the_schedule
            requeue_forgets_attempts
            delete_removes_message_with_last_unit
            flush_makes_units_due_now
            commands_check_lease_and_version
            unreadable_unit_can_only_be_deleted
            command_fences_an_attempt_under_way
        }
    };
    (@checks $harness:ty: $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::conformance::$check::<$harness>().await;
            }
        )*
    };
}
