//! What the operator sees of the queue.

use waxwing_types::{Envelope, QueueId, ReversePath, Tags, Timestamp};

use crate::unit::{DueKey, Unit};

/// State of a unit, in Postfix's words. `active` is known to the owner only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Not tried yet.
    Incoming,
    /// Tried, and due again.
    Deferred,
    /// Waits for the operator.
    Hold(String),
    /// A record cannot be read.
    Corrupt(String),
}

/// A place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKey {
    /// Among the held and corrupt units.
    Parked(QueueId, u16),
    /// Among the due units.
    Due(DueKey),
}

/// A unit in the list. Of a corrupt one only what could be read is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The message.
    pub id: QueueId,
    /// Which of its units.
    pub number: u16,
    /// Its state.
    pub state: UnitState,
    /// The unit, if its record could be read.
    pub unit: Option<Unit>,
    /// What is known of the message, if its record could be read.
    pub message: Option<ListMessage>,
}

/// What the list says about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListMessage {
    /// Octets of head and body.
    pub size: u64,
    /// When its transaction began.
    pub received_at: Timestamp,
    /// The envelope sender.
    pub sender: ReversePath,
    /// Addresses of the unit's recipients, in its order.
    pub recipients: Vec<String>,
}

/// A page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The units.
    pub entries: Vec<ListEntry>,
    /// Where the next page begins; none at the end.
    pub next: Option<ListKey>,
}

/// A message for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub id: QueueId,
    /// Who sent it to whom; none if the record cannot be read.
    pub envelope: Option<Envelope>,
    /// Octets of head and body.
    pub size: u64,
    /// The body is a file.
    pub body_file: bool,
    /// What plugins said about it.
    pub tags: Tags,
    /// The units that still wait.
    pub units: Vec<(Option<Unit>, UnitState)>,
}

/// Counts of units by state, and what the spool has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Not tried yet.
    pub incoming: u64,
    /// Tried, and due again.
    pub deferred: u64,
    /// Held.
    pub hold: u64,
    /// Unreadable.
    pub corrupt: u64,
    /// Messages taken.
    pub enqueued: u64,
    /// Attempts settled.
    pub settled: u64,
    /// Hints dropped because the owner was behind.
    pub hints_dropped: u64,
    /// Bodies that became files.
    pub body_files: u64,
    /// Octets of bodies that are in memory before their commit.
    pub spool_memory_bytes: u64,
}
