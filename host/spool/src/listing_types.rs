//! Types of the operator's view of the queue.

use waxwing_types::{Envelope, QueueId, ReversePath, Tags, Timestamp};

use crate::unit::{DueKey, Unit};

/// State of a unit in Postfix terms. Only the owner knows `active` units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Not attempted yet.
    Incoming,
    /// Attempted, and due again.
    Deferred,
    /// On hold for the operator, with the reason.
    Hold(String),
    /// Unreadable record, with details.
    Corrupt(String),
}

/// Position in the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKey {
    /// Position among the suspended units (on hold or corrupt).
    Suspended(QueueId, u16),
    /// Position among the due units.
    Due(DueKey),
}

/// Unit in the listing. Corrupt units have only the readable parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Queue id of the message.
    pub id: QueueId,
    /// Number of the unit within the message.
    pub number: u16,
    /// State of the unit.
    pub state: UnitState,
    /// Unit, if the record is readable.
    pub unit: Option<Unit>,
    /// Summary of the message, if the record is readable.
    pub message: Option<ListMessage>,
}

/// Summary of a message in the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListMessage {
    /// Octets of header block and body.
    pub size: u64,
    /// Start time of the SMTP transaction.
    pub received_at: Timestamp,
    /// Envelope sender of the message.
    pub sender: ReversePath,
    /// Addresses of the unit's recipients, in order.
    pub recipients: Vec<String>,
}

/// Page of the queue listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Units of the page.
    pub entries: Vec<ListEntry>,
    /// Start of the next page; none at the end.
    pub next: Option<ListKey>,
}

/// Full description of a message for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDetail {
    /// Queue id of the message.
    pub id: QueueId,
    /// Envelope of the message; none if the record cannot be read.
    pub envelope: Option<Envelope>,
    /// Octets of header block and body.
    pub size: u64,
    /// Whether the body is a file.
    pub has_body_file: bool,
    /// Tags set by plugins.
    pub tags: Tags,
    /// Remaining units of the message.
    pub units: Vec<(Option<Unit>, UnitState)>,
}

/// Counts of units by state, and activity since the spool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Units not attempted yet.
    pub incoming: u64,
    /// Units attempted, and due again.
    pub deferred: u64,
    /// Units on hold.
    pub hold: u64,
    /// Units with unreadable records.
    pub corrupt: u64,
    /// Number of messages enqueued.
    pub enqueued: u64,
    /// Number of attempts settled.
    pub settled: u64,
    /// Notifications dropped because the owner lagged behind.
    pub new_units_dropped: u64,
    /// Number of bodies written to files.
    pub body_files: u64,
    /// Octets of uncommitted bodies in memory.
    pub spool_memory_bytes: u64,
}
