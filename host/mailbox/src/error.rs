//! Errors of a delivery to a Maildir.

use std::io;
use std::path::{Path, PathBuf};

/// Failed delivery. No file is left in the Maildir, except possibly after a failed sync of `new`.
#[derive(Debug, thiserror::Error)]
pub enum MaildirError {
    /// Disk full or quota exceeded.
    #[error("{}: {error}", path.display())]
    Full {
        /// File or directory concerned.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Other file system error: permissions, a file in place of a directory, a failed sync.
    #[error("{}: {error}", path.display())]
    File {
        /// File or directory concerned.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Read error of the queue.
    #[error("the message can't be read: {0}")]
    Body(io::Error),
    /// Format, owner or quota that the writer does not support.
    #[error("{}: mailboxes of this kind are not supported", path.display())]
    Unsupported {
        /// Path of the mailbox.
        path: PathBuf,
    },
    /// Server is shutting down.
    #[error("the writer has stopped")]
    Stopped,
}

impl MaildirError {
    pub(crate) fn from_io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full { path, error }
        } else {
            Self::File { path, error }
        }
    }
}
