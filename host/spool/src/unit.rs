//! Delivery units, the pieces of work of a message, and their settlement.

use waxwing_types::{QueueId, Status, Timestamp};

use crate::error::SpoolError;
use crate::new_message::NewMessage;

/// Maximum recipients per unit, for a single attempt: RFC 5321 §4.5.3.1.8 servers accept at least 100, most relays fewer.
pub const UNIT_RECIPIENTS_MAX: usize = 50;

/// Recipient of a unit without a final status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRecipient {
    /// Index into the envelope's recipients.
    pub index: u32,
    /// Status of the last attempt, if any.
    pub last_status: Option<Status>,
}

/// Delivery unit: recipients of a message that are tried together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Queue id of the message.
    pub id: QueueId,
    /// Number of the unit within the message, from 0.
    pub number: u16,
    /// Remaining recipients; never empty.
    pub recipients: Vec<UnitRecipient>,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Time of the next attempt.
    pub next_at: Timestamp,
    /// Version of the unit; grows with every change.
    pub version: u64,
    /// Number of units that the message started with.
    pub unit_count: u16,
    /// Whether the message body is a file; maintained by the spool across versions.
    pub has_body_file: bool,
}

impl Unit {
    /// Returns the unit's key in the due index.
    #[must_use]
    pub const fn due_key(&self) -> DueKey {
        DueKey { next_at: self.next_at, id: self.id, number: self.number }
    }
}

/// Key in the due index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DueKey {
    /// Time at which the unit is due.
    pub next_at: Timestamp,
    /// Queue id of the message.
    pub id: QueueId,
    /// Number of the unit within the message.
    pub number: u16,
}

impl DueKey {
    /// Returns the least key due at `next_at`.
    #[must_use]
    pub const fn first_at(next_at: Timestamp) -> Self {
        Self { next_at, id: QueueId::from_u64(0), number: 0 }
    }

    /// Returns the key directly before; the least key returns itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        match (self.number, self.id.as_u64(), self.next_at.as_millis()) {
            (0, 0, 0) => self,
            (0, 0, millis) => {
                Self { next_at: Timestamp::from_millis(millis - 1), id: QueueId::from_u64(u64::MAX), number: u16::MAX }
            }
            (0, id, _) => Self { id: QueueId::from_u64(id - 1), number: u16::MAX, ..self },
            (number, _, _) => Self { number: number - 1, ..self },
        }
    }

    /// Returns the key directly after; the greatest key of a time is followed by the least key of the next millisecond.
    #[must_use]
    pub fn next(self) -> Self {
        match (self.number.checked_add(1), self.id.as_u64().checked_add(1)) {
            (Some(number), _) => Self { number, ..self },
            (None, Some(id)) => Self { id: QueueId::from_u64(id), number: 0, ..self },
            (None, None) => Self::first_at(Timestamp::from_millis(self.next_at.as_millis().saturating_add(1))),
        }
    }
}

/// State of a unit after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextState {
    /// Unit removed: no recipients remain.
    Removed,
    /// Unit due again at the given time.
    RetryAt(Timestamp),
    /// Unit on hold for the operator, with the reason.
    Hold(String),
    /// Unit kept for the operator because the message cannot be read, with details.
    Corrupt(String),
}

/// Outcome of an attempt, to be written to the spool.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Unit as read; version and time must still match.
    pub unit: Unit,
    /// Remaining recipients; empty exactly with [`NextState::Removed`].
    pub remaining: Vec<UnitRecipient>,
    /// Number of attempts, including the settled attempt.
    pub attempts: u32,
    /// New state of the unit.
    pub next_state: NextState,
    /// Messages enqueued in the same step: DSNs and submissions of plugins. May use the disk reserve.
    pub generated: Vec<NewMessage>,
}

impl Settlement {
    /// Checks that the unit is removed exactly if no recipients remain.
    pub fn check(&self) -> Result<(), SpoolError> {
        if self.remaining.is_empty() == matches!(self.next_state, NextState::Removed) {
            Ok(())
        } else {
            Err(SpoolError::Invalid("a unit is removed exactly if no recipients remain"))
        }
    }
}
