//! Interface between server and spool, independent of the storage behind the spool.
//!
//! The owner of the spool's units holds a [`Lease`]; a delivery attempt itself costs no write. Every write of the owner
//! carries the lease epoch and the unit version, so that a stale owner is fenced. The embedded spool grants a single lease
//! for all units; an engine for several servers would grant leases for shards.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::mpsc;
use waxwing_types::{Message, QueueId, QueueIdGenerator, Timestamp};

use crate::body::BodyWriter;
use crate::disk_space::Reservation;
use crate::error::SpoolError;
use crate::listing_types::{ListKey, ListPage, MessageDetail, SpoolStats};
use crate::new_message::NewMessage;
use crate::unit::{DueKey, Settlement, Unit};

/// Right to process units. A later lease fences earlier leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    epoch: u64,
}

impl Lease {
    pub(crate) const fn new(epoch: u64) -> Self {
        Self { epoch }
    }

    /// Epoch of the lease; grows with every lease, across restarts too.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

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
        f.debug_struct("Fresh").field("unit", &self.unit).field("size", &self.message.size()).finish()
    }
}

/// Durable queue of messages. Each message has at least one unit of at most [`UNIT_RECIPIENTS_MAX`] recipients, and each
/// unit is due at a time, on hold, or corrupt.
///
/// [`UNIT_RECIPIENTS_MAX`]: crate::UNIT_RECIPIENTS_MAX
#[async_trait]
pub trait Spool: Send + Sync {
    /// Returns the queue id generator of the spool.
    fn queue_ids(&self) -> &QueueIdGenerator;

    /// Reserves disk space at MAIL for a message of `size_hint` octets (0 if unknown). [`SpoolError::Full`] maps to `452
    /// 4.3.1`. The reservation counts until dropped.
    fn reserve_space(&self, size_hint: u64) -> Result<Reservation, SpoolError>;

    /// Returns a writer for a body in pieces. `id` names the message; a second body for the same message gets a separate
    /// file name.
    fn body_writer(&self, id: QueueId, reservation: Reservation) -> BodyWriter;

    /// Takes responsibility for a message. `Ok` means that the whole message is synced, and only then may `250` be sent.
    /// After an error the message may or may not be queued after a restart; a retry under the same id is safe while the
    /// message is queued.
    async fn enqueue(&self, message: NewMessage) -> Result<(), SpoolError>;

    /// Acquires ownership; fences the previous lease.
    async fn acquire(&self) -> Result<Lease, SpoolError>;

    /// Returns at most `limit` units due up to and including `until`, in order, starting after `after`, or from the first
    /// unit (`None`). Units with unreadable records are logged, moved to the corrupt units, and left out.
    async fn scan_due(
        &self,
        lease: &Lease,
        after: Option<DueKey>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Unit>, SpoolError>;

    /// Returns the due time of the first unit after `after`, or of all units.
    async fn next_due(&self, lease: &Lease, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError>;

    /// Loads a message. On [`SpoolError::Corrupt`], settle the unit with [`NextState::Corrupt`](crate::NextState::Corrupt).
    async fn load(&self, id: QueueId) -> Result<Message, SpoolError>;

    /// Ends an attempt in an atomic step: finished recipients are removed, the others rescheduled, generated messages
    /// enqueued, and the message is removed with its last unit. Synced on return; returns the unit in its new state, or
    /// `None` if no unit remains. Poll the future to completion: a unit with a dropped settlement stays in conflict until
    /// the restart.
    async fn settle(&self, lease: &Lease, settle: Settlement) -> Result<Option<Unit>, SpoolError>;

    /// Returns the receiver of [`NewUnit`] notifications. A second call gets a closed receiver. Notifications are dropped
    /// when the owner lags behind; then [`Spool::rescan_from`] resolves.
    fn new_units(&self) -> mpsc::Receiver<NewUnit>;

    /// Resolves after notifications were dropped, with a key not above any of the dropped units. Units from the key on must
    /// be scanned again, including units that the owner already has.
    async fn rescan_from(&self) -> DueKey;

    /// Returns whether the unit is unchanged in the queue, as far as memory shows: a notification may be older than a scan
    /// of the same unit.
    fn is_current(&self, unit: &Unit) -> Option<bool>;

    /// Returns a page of units for the operator: units on hold and corrupt units first, then due units by time. Not a
    /// snapshot.
    async fn list(&self, after: Option<ListKey>, limit: usize) -> Result<ListPage, SpoolError>;

    /// Returns a message with its units for the operator; walks over all due units.
    async fn show(&self, id: QueueId) -> Result<MessageDetail, SpoolError>;

    /// Returns counts of units by state.
    fn stats(&self) -> SpoolStats;
}
