//! Durable spool: the queue of messages and the schedule of delivery units.
//!
//! Owns: message and unit records, bodies inside the store and as files, the due index with its low-water cursor,
//! the disk reserve (`queue_minfree`), notifications of new units, leases.
//! Uses: pipeline, store, types.
//! Used by: daemon, delivery, intake.
//! Never: routing or retry decisions; more than 256 KiB of an incoming body in memory.
//! Start reading at: [`Spool`], then `embedded.rs`.
//!
//! Keyspaces and records (each record has a version octet and a CRC over key and value):
//! `message`: id → envelope, tags, header block, and the body or the file name with a CRC per 64 KiB; never modified.
//! `due`: time, id, unit number → unit; rescheduling deletes and inserts in the same batch.
//! `parked`: id, unit number → suspended unit (on hold or corrupt) with the reason.
//! `meta`: schema version, lease epoch, and the low-water cursor: no unit is due below the cursor, so that scans skip
//! removed keys.
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
