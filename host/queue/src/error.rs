//! What can go wrong with the spool.

use std::io;
use std::sync::Arc;

use waxwing_store::StoreError;

/// Why the spool did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Less than `queue_minfree` would be left: `452 4.3.1`.
    #[error("the queue's disk is full: {free} octets are free, {needed} are needed beside the reserve of {minfree}")]
    Full {
        /// Octets free, without those that others were promised.
        free: u64,
        /// Octets asked for.
        needed: u64,
        /// `queue_minfree`.
        minfree: u64,
    },
    /// There is no such message.
    #[error("there is no such message")]
    NotFound,
    /// A record or a body cannot be read.
    #[error("a record is corrupt: {0}")]
    Corrupt(Arc<str>),
    /// A later lease exists: the owner must stop.
    #[error("a later owner has taken over")]
    Fenced,
    /// The unit is not as the caller believes: it was changed, settled or removed meanwhile.
    #[error("the unit was changed meanwhile")]
    Conflict,
    /// The caller broke a rule.
    #[error("not a valid request: {0}")]
    Invalid(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A body file failed.
    #[error("a body file failed: {0}")]
    Io(Arc<io::Error>),
}

impl SpoolError {
    /// Nothing can be read or written any more under this lease: the server is to be started again. A read that failed may be
    /// one damaged place.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Fenced | Self::Store(StoreError::Open(_) | StoreError::Poisoned(_) | StoreError::Closed) => true,
            Self::Store(StoreError::Read(_) | StoreError::Reclaim(_))
            | Self::Full { .. }
            | Self::NotFound
            | Self::Corrupt(_)
            | Self::Conflict
            | Self::Invalid(_)
            | Self::Io(_) => false,
        }
    }
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
