//! What can go wrong with the store.

use std::sync::Arc;

/// Why a read or a write failed. Cheap to clone: one failed commit answers many waiters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store could not be opened.
    #[error("the store cannot be opened: {0}")]
    Open(Arc<str>),
    /// A read failed.
    #[error("reading the store failed: {0}")]
    Read(Arc<str>),
    /// The space of removed rows could not be freed; nothing is lost by that.
    #[error("tidying the store failed: {0}")]
    Reclaim(Arc<str>),
    /// A commit failed or got stuck: whether the write is durable is unknown, and nothing will be written any more.
    #[error("the store takes no more writes: {0}")]
    Poisoned(Arc<str>),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}
