//! Queued message as seen by delivery and hooks.

use std::sync::Arc;

use bytes::Bytes;

use crate::{BodyRead, Envelope, QueueId, Tags};

/// Stored message: the delivered octets are `header` followed by `body`.
#[derive(Clone)]
pub struct Message {
    /// Queue id, constant for the life of the message.
    pub id: QueueId,
    /// Envelope with sender, recipients and origin.
    pub envelope: Arc<Envelope>,
    /// Header block and final empty line, as edited before the commit.
    pub header: Bytes,
    /// Message body behind the header block.
    pub body: Arc<dyn BodyRead>,
    /// Tags set by earlier hooks.
    pub tags: Arc<Tags>,
}

impl Message {
    /// Returns the total size in octets.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.header.len() as u64 + self.body.size()
    }
}
