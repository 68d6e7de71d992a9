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
mod body_files;
mod codec;
mod compaction;
mod disk_space;
mod embedded;
mod envelope_codec;
mod error;
mod file_body;
mod listing;
mod listing_types;
#[cfg(feature = "test-engine")]
mod lossy_files;
mod new_message;
mod new_units;
mod record;
mod recovery;
mod schedule;
mod settle;
mod spool;
mod unit;

pub use body::{BODY_INLINE_BYTES_MAX, BodyWriter, NewBody};
pub use body_files::{BodyFile, BodyFiles, DiskBodyFiles};
pub use disk_space::Reservation;
pub use embedded::{EmbeddedSpool, KEYSPACES, SpoolSettings};
pub use error::SpoolError;
pub use file_body::BODY_BLOCK_BYTES;
pub use listing_types::{ListEntry, ListKey, ListMessage, ListPage, MessageDetail, SpoolStats, UnitState};
#[cfg(feature = "test-engine")]
pub use lossy_files::LossyBodyFiles;
pub use new_message::{HEADER_BLOCK_BYTES_MAX, NewMessage};
pub use spool::{Lease, NewUnit, Spool};
pub use unit::{DueKey, NextState, Settlement, UNIT_RECIPIENTS_MAX, Unit, UnitRecipient};
