//! Queue engine on the embedded store: implements the spool of a single server.
//!
//! Owns: message and unit records, bodies inside the store and as files, the due index with its low-water cursor,
//! the disk reserve (`queue_minfree`), the engine's notifications of new units, the lease epoch.
//! Uses: spool, store, types.
//! Used by: daemon.
//! Never: routing or retry decisions; more than 256 KiB of an incoming body in memory.
//! Start reading at: [`EmbeddedSpool`], then `inner.rs`.
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
mod command;
mod compaction;
mod disk_space;
mod embedded;
mod envelope_codec;
mod error;
mod file_body;
mod inner;
mod keys;
mod listing;
#[cfg(feature = "test-engine")]
mod lossy_files;
mod new_units;
mod record;
mod recovery;
mod schedule;
mod settle;

pub use body_files::{BodyFile, BodyFiles, DiskBodyFiles};
pub use embedded::{EmbeddedSpool, KEYSPACES, SpoolSettings};
pub use file_body::BODY_BLOCK_BYTES;
#[cfg(feature = "test-engine")]
pub use lossy_files::LossyBodyFiles;
