//! Delivery into Maildirs.
//!
//! Owns: the files of a Maildir, their names, the order of writes and syncs, line ends on disk.
//! Uses: types.
//! Used by: delivery.
//! Never: decides whose mailbox a recipient has, or what a failure means for a message.
//! Start reading at: [`MaildirStore::deliver`].
#![forbid(unsafe_code)]

mod line_ends;
mod maildir;
mod writer;

pub use line_ends::LineEnds;
pub use maildir::{DeliverError, Delivered, MaildirStore};
