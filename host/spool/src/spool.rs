//! Interface between server and spool, independent of the storage behind the spool.
//!
//! The owner of a shard's units holds a [`Lease`]; a delivery attempt itself costs no write. Every write of the owner
//! carries the lease epoch and the unit version, so that a stale owner is fenced. An engine on a single server has one
//! shard; an engine for several servers has more, each with an owner of its own.

use async_trait::async_trait;
use waxwing_types::{Message, QueueId, Timestamp};

use crate::body::BodySink;
use crate::error::SpoolError;
use crate::lease::{Lease, ShardId};
use crate::listing_types::{ListKey, ListPage, MessageDetail, SpoolStats};
use crate::new_message::NewMessage;
use crate::new_units::NewUnits;
use crate::reservation::Reservation;
use crate::transition::{Transition, UnitCommand, UnitTarget};
use crate::unit::{DueKey, Settlement, Unit};

/// Durable queue of messages. Each message has at least one unit of at most [`UNIT_RECIPIENTS_MAX`] recipients, and each
/// unit is due at a time, on hold, or corrupt.
///
/// [`UNIT_RECIPIENTS_MAX`]: crate::UNIT_RECIPIENTS_MAX
#[async_trait]
pub trait Spool: Send + Sync {
    /// Returns a queue id that no other message of the queue has; ids grow with every call.
    fn next_queue_id(&self, now: Timestamp) -> QueueId;

    /// Returns the shards of the queue, at least one; the list does not change while the spool is open.
    fn shards(&self) -> Vec<ShardId>;

    /// Returns the shard of a message's units.
    fn shard_for(&self, id: QueueId) -> ShardId;

    /// Reserves disk space at MAIL for a message of `size_hint` octets (0 if unknown). [`SpoolError::Full`] maps to `452
    /// 4.3.1`. The reservation counts until dropped.
    fn reserve_space(&self, size_hint: u64) -> Result<Reservation, SpoolError>;

    /// Returns a sink for a body in pieces. `id` names the message; a message may have several bodies before the commit
    /// names one of them.
    fn body_sink(&self, id: QueueId, reservation: Reservation) -> Box<dyn BodySink>;

    /// Takes responsibility for a message. `Ok` means that the whole message is synced, and only then may `250` be sent.
    /// After an error the message may or may not be queued after a restart; a retry under the same id is safe while the
    /// message is queued.
    async fn enqueue(&self, message: NewMessage) -> Result<(), SpoolError>;

    /// Acquires ownership of a shard; fences the previous lease. [`SpoolError::Invalid`] for a shard not in
    /// [`Spool::shards`].
    async fn acquire(&self, shard: ShardId) -> Result<Lease, SpoolError>;

    /// Returns at most `limit` units of the shard due up to and including `until`, in order, starting after `after`, or from the first
    /// unit (`None`). Units with unreadable records are logged, moved to the corrupt units, and left out.
    async fn scan_due(
        &self,
        lease: &Lease,
        after: Option<DueKey>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Unit>, SpoolError>;

    /// Returns the due time of the shard's first unit after `after`, or of all its units.
    async fn next_due(&self, lease: &Lease, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError>;

    /// Loads a message. On [`SpoolError::Corrupt`], settle the unit with [`NextState::Corrupt`](crate::NextState::Corrupt).
    async fn load(&self, id: QueueId) -> Result<Message, SpoolError>;

    /// Ends an attempt in an atomic step: finished recipients are removed, the others rescheduled, generated messages
    /// enqueued, and the message is removed with its last unit. Synced on return; returns the unit in its new state, or
    /// `None` if no unit remains. Poll the future to completion: a unit with a dropped settlement stays in conflict until
    /// the restart.
    async fn settle(&self, lease: &Lease, settle: Settlement) -> Result<Option<Unit>, SpoolError>;

    /// Applies an operator's command to a unit in an atomic step, by [`transition::apply`](crate::transition::apply). Synced on
    /// return. [`SpoolError::Conflict`] if no unit of this version is at the position, or if the unit is being settled; an
    /// attempt under way cannot be settled afterwards. A unit that becomes due resolves [`Spool::rescan_from`]. Poll the
    /// future to completion.
    async fn apply_command(
        &self,
        lease: &Lease,
        target: UnitTarget,
        command: UnitCommand,
        now: Timestamp,
    ) -> Result<Transition, SpoolError>;

    /// Returns the receiver of [`NewUnit`](crate::NewUnit) notifications of a shard. A second call gets a closed receiver.
    /// Notifications are dropped when the owner lags behind; then [`Spool::rescan_from`] resolves.
    fn new_units(&self, shard: ShardId) -> NewUnits;

    /// Resolves after notifications of the shard were dropped or a command made a unit due, with a key not above these units. Units from
    /// the key on must be scanned again, including units that the owner already has.
    async fn rescan_from(&self, shard: ShardId) -> DueKey;

    /// Returns whether the unit is unchanged in the queue, or `None` if the engine's memory does not show it: a
    /// notification may be older than a scan of the same unit.
    fn is_current(&self, unit: &Unit) -> Option<bool>;

    /// Returns a page of units for the operator: units on hold and corrupt units first, then due units by time. Not a
    /// snapshot.
    async fn list(&self, after: Option<ListKey>, limit: usize) -> Result<ListPage, SpoolError>;

    /// Returns a message with its units for the operator; walks over all due units.
    async fn show(&self, id: QueueId) -> Result<MessageDetail, SpoolError>;

    /// Returns counts of units by state.
    fn stats(&self) -> SpoolStats;
}
