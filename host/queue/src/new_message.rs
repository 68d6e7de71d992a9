//! Messages to be enqueued.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use waxwing_pipeline::{Placement, PreparedMessage};
use waxwing_types::{Envelope, QueueId, Tags, Timestamp};

use crate::body::NewBody;
use crate::{Spool, SpoolError};

/// Maximum octets of a header block in the spool; the limit of intake is far lower.
pub const HEADER_BLOCK_BYTES_MAX: usize = 4 << 20;

/// Message to be enqueued.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Queue id, from [`Spool::queue_ids`](crate::Spool::queue_ids).
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

/// Boxed future, because attached messages may have attachments of their own.
type NewMessageFuture<'a> = Pin<Box<dyn Future<Output = Result<NewMessage, SpoolError>> + Send + 'a>>;

impl NewMessage {
    /// Stores the bodies of a generated message that passed all hooks, and of all attached messages.
    #[must_use]
    pub fn from_prepared(spool: &dyn Spool, prepared: PreparedMessage) -> NewMessageFuture<'_> {
        Box::pin(async move {
            let PreparedMessage { id, envelope, header, body, tags, placement, attached: with } = prepared;
            let body = NewBody::from_bytes(spool, id, body).await?;
            let mut attached = Vec::with_capacity(with.len());
            for message in with {
                attached.push(Self::from_prepared(spool, message).await?);
            }
            let Placement { hold, not_before, priority } = placement;
            Ok(Self { id, envelope, header, body, tags, hold, not_before, priority, attached })
        })
    }

    /// Time at which the units become due.
    pub(crate) fn due_at(&self) -> Timestamp {
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
    pub(crate) fn unreserved_bytes(&self) -> u64 {
        let mut remaining = vec![self];
        let mut bytes = 0;
        while let Some(message) = remaining.pop() {
            bytes += if message.body.has_reservation() { 0 } else { message.body.size() };
            remaining.extend(&message.attached);
        }
        bytes
    }
}
