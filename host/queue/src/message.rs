//! Messages on their way in.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use waxwing_pipeline::{Placement, Prepared};
use waxwing_types::{Envelope, QueueId, Tags, Timestamp};

use crate::body::NewBody;
use crate::{Spool, SpoolError};

/// Octets of a head that the spool takes: the header limit of intake is far below.
pub const HEAD_BYTES_MAX: usize = 4 << 20;

/// A message that the spool shall take.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its name, from [`Spool::ids`](crate::Spool::ids).
    pub id: QueueId,
    /// Who sent it to whom. Its units are due from `origin.received_at` on.
    pub envelope: Envelope,
    /// The header block with the empty line behind it.
    pub head: Bytes,
    /// Everything after.
    pub body: NewBody,
    /// What plugins said about it.
    pub tags: Tags,
    /// It goes into the hold queue, for this reason.
    pub hold: Option<String>,
    /// No attempt before this time has passed since `origin.received_at`.
    pub not_before: Duration,
    /// Each step counts as a second of waiting more: it is due so much earlier, or later if negative, than what came at the same time.
    /// An attempt before `not_before` it never brings about.
    pub priority: i8,
    /// Messages that are committed in the same batch: all of them or none. Theirs count as these.
    pub with: Vec<NewMessage>,
}

/// Boxed, because what comes along may bring others.
type Spooling<'a> = Pin<Box<dyn Future<Output = Result<NewMessage, SpoolError>> + Send + 'a>>;

impl NewMessage {
    /// Made mail after all hooks, with what plugins sent along.
    #[must_use]
    pub fn of(spool: &dyn Spool, prepared: Prepared) -> Spooling<'_> {
        Box::pin(async move {
            let Prepared { id, envelope, head, body, tags, placement, with } = prepared;
            let body = NewBody::of(spool, id, body).await?;
            let mut along = Vec::with_capacity(with.len());
            for one in with {
                along.push(Self::of(spool, one).await?);
            }
            let Placement { hold, not_before, priority } = placement;
            Ok(Self { id, envelope, head, body, tags, hold, not_before, priority, with: along })
        })
    }

    /// When its units are due.
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

    /// Octets of bodies for which no room was promised yet, with those of all that come along at whatever depth.
    pub(crate) fn unpromised_bytes(&self) -> u64 {
        let mut left = vec![self];
        let mut bytes = 0;
        while let Some(message) = left.pop() {
            bytes += if message.body.has_room() { 0 } else { message.body.size() };
            left.extend(&message.with);
        }
        bytes
    }
}
