//! The seam: what the server needs of a spool, whatever stands behind it.
//!
//! The owner of the spool's units holds a [`Lease`]; an attempt to deliver costs no write. Every write of the owner carries
//! the lease's epoch and the unit's version, so that a stale owner is fenced off. The embedded spool hands out one lease on
//! everything; an engine for several servers would hand out leases of shards.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::mpsc;
use waxwing_types::{Message, QueueId, QueueIds, Timestamp};

use crate::body::BodyWriter;
use crate::error::SpoolError;
use crate::message::NewMessage;
use crate::room::Reservation;
use crate::unit::{DueKey, Settle, Unit};
use crate::view::{ListKey, ListPage, Shown, Stats};

/// The right to work on units. A later lease fences this one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    epoch: u64,
}

impl Lease {
    pub(crate) const fn new(epoch: u64) -> Self {
        Self { epoch }
    }

    /// Grows with every lease, also over restarts.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A unit that has just been made durable, with its message at hand: whoever delivers it at once need not read it.
#[derive(Clone)]
pub struct Fresh {
    /// Due now.
    pub unit: Unit,
    /// Its message.
    pub message: Message,
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("unit", &self.unit).field("size", &self.message.size()).finish()
    }
}

/// A durable queue of messages. Each message has one or more units of at most [`UNIT_RECIPIENTS_MAX`] recipients, and
/// each unit is due at a time, held, or corrupt.
///
/// [`UNIT_RECIPIENTS_MAX`]: crate::UNIT_RECIPIENTS_MAX
#[async_trait]
pub trait Spool: Send + Sync {
    /// Hands out the queue ids of this spool.
    fn ids(&self) -> &QueueIds;

    /// Asks, at MAIL, whether a message of that many octets may come (0 if unknown). [`SpoolError::Full`] means
    /// `452 4.3.1`. What is granted counts until the reservation is dropped.
    fn room(&self, size_hint: u64) -> Result<Reservation, SpoolError>;

    /// Takes a body piece by piece. `id` names the message; a second body for the same one gets a name of its own.
    fn body_writer(&self, id: QueueId, reservation: Reservation) -> BodyWriter;

    /// Takes responsibility for a message: `Ok` means that all of it is synced, and only then may `250` be said. On an
    /// error the message may or may not be there after a restart; giving it again under the same id is safe while it is
    /// queued.
    async fn enqueue(&self, message: NewMessage) -> Result<(), SpoolError>;

    /// Becomes the owner; the lease that was handed out before is fenced off.
    async fn acquire(&self) -> Result<Lease, SpoolError>;

    /// At most `limit` units that are due up to and including `until`, in order, beginning behind `after`, or from the first
    /// (`None`). Units whose records cannot be read are moved to the corrupt ones, logged, and left out.
    async fn scan_due(
        &self,
        lease: &Lease,
        after: Option<DueKey>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Unit>, SpoolError>;

    /// When the first unit behind `after` (or of all) is due.
    async fn next_due(&self, lease: &Lease, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError>;

    /// Opens a message. [`SpoolError::Corrupt`]: settle its unit with [`After::Corrupt`](crate::After::Corrupt).
    async fn load(&self, id: QueueId) -> Result<Message, SpoolError>;

    /// Ends an attempt in one atomic step: what is done goes, the rest is rescheduled, a report is enqueued, and the
    /// message goes with its last unit. Synced when it returns: the unit as it now is, or none if nothing is left. Drive it
    /// to its end: a unit whose settling was dropped half-way stays in conflict until the restart.
    async fn settle(&self, lease: &Lease, settle: Settle) -> Result<Option<Unit>, SpoolError>;

    /// The hints of [`Fresh`] units, once: a second call gets a receiver that is closed. Hints are dropped when the owner
    /// is behind; then [`Spool::rescan`] resolves.
    fn fresh(&self) -> mpsc::Receiver<Fresh>;

    /// Resolves when hints were dropped since the last time, with a key that is not above any of theirs: units from it on
    /// are to be scanned, with those that the owner has already.
    async fn rescan(&self) -> DueKey;

    /// Whether the unit still stands in the queue as it was read, as far as memory knows: a hint may be older than a scan that
    /// found the same unit.
    fn is_current(&self, unit: &Unit) -> Option<bool>;

    /// A page of units for the operator: held and corrupt ones first, then by the time when they are due. Not a snapshot.
    async fn list(&self, after: Option<ListKey>, limit: usize) -> Result<ListPage, SpoolError>;

    /// One message with its units for the operator; walks over all due units.
    async fn show(&self, id: QueueId) -> Result<Shown, SpoolError>;

    /// Counts of units by state.
    fn stats(&self) -> Stats;
}
