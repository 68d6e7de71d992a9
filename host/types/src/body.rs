//! Stored bodies and the trait for reading them.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::QueueId;

/// Reference to a stored body: never modified, removed with its last reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBody {
    /// Queue id of the body in the spool.
    pub id: QueueId,
    /// Octets of the body, not dot-stuffed.
    pub size: u64,
}

/// Reads a body in pieces; large messages are never fully in memory.
#[async_trait]
pub trait BodyRead: Send + Sync {
    /// Returns the total size in octets.
    fn size(&self) -> u64;

    /// Returns the whole body, if already in memory.
    fn in_memory(&self) -> Option<&Bytes>;

    /// Reads at most `length` octets from `offset`; shorter only at the end, empty past the end. Errors are never reported
    /// as the end.
    async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes>;
}

/// Body held in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryBody(Bytes);

impl MemoryBody {
    /// Wraps the octets as a body.
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
