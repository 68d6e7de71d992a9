//! Location of a mailbox, as recipient directories name mailboxes and mailbox writers open them.

use std::path::PathBuf;

/// Storage format of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxFormat {
    /// Directory with a file for each message.
    Maildir,
    /// File with all messages.
    Mbox,
}

/// Owner of a mailbox's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailboxOwner {
    /// Numeric ids of user and group.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Name of a system user, with the user's group.
    User(String),
}

/// Mailbox of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxLocation {
    /// Storage format of the mailbox.
    pub format: MailboxFormat,
    /// Directory of a Maildir, or file of an mbox.
    pub path: PathBuf,
    /// Owner of the files; `None` for the user of the server.
    pub owner: Option<MailboxOwner>,
    /// Maximum size of the mailbox in octets; `None` without a limit.
    pub quota: Option<u64>,
}

impl MailboxLocation {
    /// Location of a Maildir of the server's user, without a quota.
    #[must_use]
    pub const fn maildir(path: PathBuf) -> Self {
        Self { format: MailboxFormat::Maildir, path, owner: None, quota: None }
    }
}
