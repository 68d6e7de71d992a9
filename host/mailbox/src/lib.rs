//! Delivery to Maildir mailboxes.
//!
//! Owns: files of a Maildir, file names, order of writes and syncs, line endings on disk.
//! Uses: types.
//! Used by: daemon, delivery.
//! Never: choice of a recipient's mailbox, consequences of a failed delivery.
//! Start reading at: [`MaildirStore::deliver`].
#![forbid(unsafe_code)]

mod line_ends;
mod maildir;
mod writer;

pub use line_ends::LineEnds;
pub use maildir::{DeliverError, Delivered, MaildirStore};
