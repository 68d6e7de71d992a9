//! Messages on their way in.

use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Envelope, QueueId, Tags};

use crate::body::NewBody;

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
    /// Messages that are committed in the same batch: all of them or none. Theirs count as these.
    pub with: Vec<NewMessage>,
}
