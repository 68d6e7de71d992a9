//! Errors of the spool.

use std::io;
use std::sync::Arc;

/// Reason for a failed spool operation.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Disk full: less than `queue_minfree` would be left (`452 4.3.1`).
    #[error("the queue's disk is full: {free} octets are free, {needed} are needed beside the reserve of {minfree}")]
    Full {
        /// Octets free on the disk, without the octets reserved by others.
        free: u64,
        /// Octets requested by the caller.
        needed: u64,
        /// Value of `queue_minfree` in octets.
        minfree: u64,
    },
    /// Message not found in the queue.
    #[error("there is no such message")]
    NotFound,
    /// Record or body that cannot be read.
    #[error("a record is corrupt: {0}")]
    Corrupt(Arc<str>),
    /// Lease superseded by a later lease: the owner must stop.
    #[error("a later owner has taken over")]
    Fenced,
    /// Unit changed, settled or removed since the caller read the unit.
    #[error("the unit was changed meanwhile")]
    Conflict,
    /// Request that breaks a rule of the interface.
    #[error("not a valid request: {0}")]
    Invalid(&'static str),
    /// Failure of the engine's database.
    #[error("{reason}")]
    Unavailable {
        /// Description of the failure.
        reason: Arc<str>,
        /// Whether the engine has failed for good, so that the server must be restarted.
        fatal: bool,
    },
    /// Failure of the storage of bodies.
    #[error("a body file failed: {0}")]
    Io(Arc<io::Error>),
}

impl SpoolError {
    /// Returns whether nothing can be read or written any more under the current lease, so that the server must be
    /// restarted. A failed read is not fatal: the damage may be limited to a single record.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Fenced => true,
            Self::Unavailable { fatal, .. } => *fatal,
            Self::Full { .. } | Self::NotFound | Self::Corrupt(_) | Self::Conflict | Self::Invalid(_) | Self::Io(_) => false,
        }
    }
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
