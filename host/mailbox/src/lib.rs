//! Delivery to Maildir mailboxes.
//!
//! Owns: the interface of mailbox writers, files of a Maildir, file names, order of writes and syncs, line endings on disk.
//! Uses: types.
//! Used by: daemon, delivery.
//! Never: choice of a recipient's mailbox, consequences of a failed delivery.
//! Start reading at: [`MaildirStore::deliver`].
#![forbid(unsafe_code)]

mod crlf_to_lf;
mod error;
mod maildir;
mod maildir_file;
mod writer;

pub use crlf_to_lf::CrlfToLf;
pub use error::MaildirError;
pub use maildir::{DeliveredFile, MaildirStore};
pub use writer::MailboxWriter;
