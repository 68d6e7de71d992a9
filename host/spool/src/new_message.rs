//! Messages to be enqueued.

use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Envelope, QueueId, Tags, Timestamp};

use crate::body::NewBody;
use crate::error::SpoolError;
use crate::unit::{UNIT_RECIPIENTS_MAX, Unit, UnitRecipient};

/// Maximum octets of a header block in the spool; the limit of intake is far lower.
pub const HEADER_BLOCK_BYTES_MAX: usize = 4 << 20;

/// Message to be enqueued.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Queue id, from [`Spool::next_queue_id`](crate::Spool::next_queue_id).
    pub id: QueueId,
    /// Envelope of the message. Units are due from `origin.received_at` on.
    pub envelope: Envelope,
    /// Header block with the final empty line.
    pub header: Bytes,
    /// Message body behind the header block.
    pub body: NewBody,
    /// Tags set by plugins.
    pub tags: Tags,
    /// Reason for the hold queue, if the message goes on hold.
    pub hold: Option<String>,
    /// Delay of the first attempt, counted from `origin.received_at`.
    pub not_before: Duration,
    /// Priority in seconds of waiting time: positive values make the message due so much earlier than messages received at
    /// the same time, negative values later. No priority causes an attempt before `not_before`.
    pub priority: i8,
    /// Messages committed in the same batch, all or none. Attached messages of these messages are included.
    pub attached: Vec<NewMessage>,
}

impl NewMessage {
    /// Time at which the units become due.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        let received_at = self.envelope.origin.received_at;
        let steps = Duration::from_secs(u64::from(self.priority.unsigned_abs()));
        match (self.priority.is_negative(), self.not_before.is_zero()) {
            (true, _) => received_at + self.not_before + steps,
            (false, true) => {
                let ahead = u64::try_from(steps.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_millis(received_at.as_millis().saturating_sub(ahead))
            }
            (false, false) => received_at + self.not_before,
        }
    }

    /// Octets of bodies without reserved disk space, including attached messages at any depth.
    #[must_use]
    pub fn unreserved_bytes(&self) -> u64 {
        let mut remaining = vec![self];
        let mut bytes = 0;
        while let Some(message) = remaining.pop() {
            bytes += if message.body.has_reservation() { 0 } else { message.body.size() };
            remaining.extend(&message.attached);
        }
        bytes
    }

    /// Divides the recipients into units of at most [`UNIT_RECIPIENTS_MAX`]. [`SpoolError::Invalid`] for a message that the
    /// queue does not take: without recipients, with too many of them, or with a header block of more than
    /// [`HEADER_BLOCK_BYTES_MAX`].
    pub fn units(&self, has_body_file: bool) -> Result<Vec<Unit>, SpoolError> {
        let recipients = self.envelope.recipients.len();
        if recipients == 0 {
            return Err(SpoolError::Invalid("a message without recipients"));
        }
        if self.header.len() > HEADER_BLOCK_BYTES_MAX {
            return Err(SpoolError::Invalid("the header block is longer than 4 MiB"));
        }
        let too_many = |_| SpoolError::Invalid("too many recipients");
        let unit_count = u16::try_from(recipients.div_ceil(UNIT_RECIPIENTS_MAX)).map_err(too_many)?;
        let total = u32::try_from(recipients).map_err(too_many)?;
        let (id, next_at) = (self.id, self.due_at());
        let unit = |number: u16| {
            let first = u32::from(number) * UNIT_RECIPIENTS_MAX as u32;
            let indexes = first..total.min(first + UNIT_RECIPIENTS_MAX as u32);
            let recipients = indexes.map(|index| UnitRecipient { index, last_status: None }).collect();
            Unit { id, number, recipients, attempts: 0, next_at, version: 1, unit_count, has_body_file }
        };
        Ok((0..unit_count).map(unit).collect())
    }
}
