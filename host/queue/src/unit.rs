//! Units: the pieces of work of a message, and what becomes of them.

use waxwing_types::{QueueId, Status, Timestamp};

use crate::message::NewMessage;

/// Recipients of a unit: one attempt's worth, as RFC 5321 servers take at least 100 and most relays fewer.
pub const UNIT_RECIPIENTS_MAX: usize = 50;

/// A recipient of a unit who still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRecipient {
    /// Index into the envelope's recipients.
    pub index: u32,
    /// What the last attempt said, if there was one.
    pub last: Option<Status>,
}

/// Some recipients of a message who are tried together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The message.
    pub id: QueueId,
    /// Which of its units, from 0.
    pub number: u16,
    /// Who still waits; never empty.
    pub recipients: Vec<UnitRecipient>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is due.
    pub next_at: Timestamp,
    /// Grows with every change.
    pub version: u64,
    /// Units that the message began with.
    pub siblings: u16,
    /// The message's body is a file: the spool's own mark, which goes from version to version.
    pub body_file: bool,
}

impl Unit {
    /// Where it stands in the due index.
    #[must_use]
    pub const fn due_key(&self) -> DueKey {
        DueKey { next_at: self.next_at, id: self.id, number: self.number }
    }
}

/// A place in the due index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DueKey {
    /// When it is due.
    pub next_at: Timestamp,
    /// The message.
    pub id: QueueId,
    /// Which of its units.
    pub number: u16,
}

/// Octets of a stored [`DueKey`].
pub(crate) const DUE_KEY_BYTES: usize = 18;
/// Octets of a stored id with unit number.
pub(crate) const PARKED_KEY_BYTES: usize = 10;

impl DueKey {
    /// The first place that is due at `next_at`.
    #[must_use]
    pub const fn first_at(next_at: Timestamp) -> Self {
        Self { next_at, id: QueueId::from_u64(0), number: 0 }
    }

    /// The place right before; the first of all has none and stays.
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

    /// The place right behind.
    pub(crate) fn next(self) -> Self {
        match (self.number.checked_add(1), self.id.as_u64().checked_add(1)) {
            (Some(number), _) => Self { number, ..self },
            (None, Some(id)) => Self { id: QueueId::from_u64(id), number: 0, ..self },
            (None, None) => Self::first_at(Timestamp::from_millis(self.next_at.as_millis().saturating_add(1))),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; DUE_KEY_BYTES] {
        let mut key = [0; DUE_KEY_BYTES];
        let (at, rest) = key.split_at_mut(8);
        at.copy_from_slice(&self.next_at.as_millis().to_be_bytes());
        rest.copy_from_slice(&parked_key(self.id, self.number));
        key
    }

    pub(crate) fn from_bytes(key: &[u8]) -> Option<Self> {
        let (at, rest) = key.split_first_chunk::<8>()?;
        let (id, number) = parse_parked_key(rest)?;
        Some(Self { next_at: Timestamp::from_millis(u64::from_be_bytes(*at)), id, number })
    }
}

/// The key of a unit that is held or corrupt.
pub(crate) fn parked_key(id: QueueId, number: u16) -> [u8; PARKED_KEY_BYTES] {
    let mut key = [0; PARKED_KEY_BYTES];
    let (first, last) = key.split_at_mut(8);
    first.copy_from_slice(&id.to_key());
    last.copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn parse_parked_key(key: &[u8]) -> Option<(QueueId, u16)> {
    let (id, number) = key.split_first_chunk::<8>()?;
    let number = <[u8; 2]>::try_from(number).ok()?;
    Some((QueueId::from_u64(u64::from_be_bytes(*id)), u16::from_be_bytes(number)))
}

/// What becomes of the recipients that an attempt left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Nobody is left: the unit goes.
    Gone,
    /// They are tried again then.
    At(Timestamp),
    /// They wait for the operator, for this reason.
    Hold(String),
    /// The message cannot be read: kept for the operator, with what is known.
    Corrupt(String),
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The unit as it was read; its version and its time must still hold.
    pub unit: Unit,
    /// Who still waits; empty exactly with [`After::Gone`].
    pub remaining: Vec<UnitRecipient>,
    /// Attempts so far, with this one.
    pub attempts: u32,
    /// What becomes of them.
    pub after: After,
    /// Reports, and mail that plugins send, which are enqueued in the same step. They may use the disk's reserve.
    pub made: Vec<NewMessage>,
}
