//! The durable spool and its schedule.
//!
//! Owns: the records of messages and units, bodies inside the store and as files, the due index with its low-water cursor,
//! the disk's reserve (`queue_minfree`), hints for what is fresh, leases.
//! Uses: store, pipeline (made mail), types.
//! Used by: intake (takes messages), delivery (owns the units), the daemon (`queue list|show`).
//! Never: where a message goes or when it is tried again; a body as a whole in memory beyond 256 KiB.
//! Start reading at: [`Spool`], then `embedded.rs`.
//!
//! Keyspaces, and their records (each with a version octet and a CRC over key and value):
//! `message`: id → envelope, tags, head, and the body or its file's name with a CRC for each 64 KiB, never modified;
//! `due`: time, id, unit → unit (rescheduling deletes and puts in one batch);
//! `parked`: id, unit → unit with the reason why it is held or corrupt;
//! `meta`: schema, epoch, and the low-water cursor: nothing is due below it, so that scans need not walk over what is gone.
#![forbid(unsafe_code)]

mod blocking;
mod body;
mod codec;
mod embedded;
mod envelope_codec;
mod error;
mod file_body;
mod files;
mod hints;
#[cfg(feature = "test-engine")]
mod lossy_files;
mod message;
mod reclaim;
mod record;
mod recovery;
mod room;
mod schedule;
mod settle;
mod spool;
mod unit;
mod view;
mod viewer;

pub use body::{BODY_INLINE_BYTES_MAX, BodyWriter, NewBody};
pub use embedded::{EmbeddedSpool, KEYSPACES, SpoolSettings};
pub use error::SpoolError;
pub use file_body::BODY_BLOCK_BYTES;
pub use files::{BodyFile, BodyFiles, DiskFiles};
#[cfg(feature = "test-engine")]
pub use lossy_files::LossyFiles;
pub use message::{HEAD_BYTES_MAX, NewMessage};
pub use room::Reservation;
pub use spool::{Fresh, Lease, Spool};
pub use unit::{After, DueKey, Settle, UNIT_RECIPIENTS_MAX, Unit, UnitRecipient};
pub use view::{ListEntry, ListKey, ListMessage, ListPage, Shown, Stats, UnitState};
