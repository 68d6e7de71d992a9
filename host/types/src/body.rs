//! A stored body and the handle that reads it.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::QueueId;

/// Which stored body a message has: never modified, removed with its last reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The id under which the spool keeps it.
    pub id: QueueId,
    /// Octets, not dot-stuffed.
    pub size: u64,
}

/// Reads a body piece by piece; nobody holds a large message whole.
#[async_trait]
pub trait BodyRead: Send + Sync {
    /// Octets in all.
    fn size(&self) -> u64;

    /// The whole body, where it is in memory already.
    fn in_memory(&self) -> Option<&Bytes>;

    /// At most `length` octets from `offset`; shorter only at the end, empty past it. An error never looks like the end.
    async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes>;
}

/// A body that is in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryBody(Bytes);

impl MemoryBody {
    /// Wraps the octets.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

#[async_trait]
impl BodyRead for MemoryBody {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn in_memory(&self) -> Option<&Bytes> {
        Some(&self.0)
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(length).min(self.0.len());
        Ok(self.0.slice(start..end))
    }
}
