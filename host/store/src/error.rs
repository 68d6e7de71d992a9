//! Errors of the store.

use std::sync::Arc;

/// Reason for a failed read or write. Cheap to clone: a failed commit fails many waiters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Failure to open the store.
    #[error("the store cannot be opened: {0}")]
    Open(Arc<str>),
    /// Failure of a read.
    #[error("reading the store failed: {0}")]
    Read(Arc<str>),
    /// Failure to free the space of removed rows; no data is lost.
    #[error("compacting the store failed: {0}")]
    Compact(Arc<str>),
    /// Commit failed or stuck: durability of the write is unknown, and all later writes fail.
    #[error("the store takes no more writes: {0}")]
    Poisoned(Arc<str>),
    /// Store is shutting down.
    #[error("the store is closed")]
    Closed,
}
