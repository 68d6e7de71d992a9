//! A message as the queue keeps it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{BodyRead, Envelope, QueueId, Tags};

/// A stored message: delivered octets are `head` followed by `body`.
#[derive(Clone)]
pub struct Message {
    /// Its name for life.
    pub id: QueueId,
    /// Who, to whom, how it came.
    pub envelope: Arc<Envelope>,
    /// The header block and the empty line behind it, as edited before the commit.
    pub head: Bytes,
    /// Everything after it.
    pub body: Arc<dyn BodyRead>,
    /// What hooks noted for later hooks.
    pub tags: Arc<Tags>,
}

impl Message {
    /// Octets in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.body.size()
    }
}
