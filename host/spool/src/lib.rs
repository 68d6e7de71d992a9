//! Interface between the server and the engine that keeps its queue of messages.
//!
//! Owns: the trait [`Spool`] with its types: messages to be enqueued, delivery units, leases of shards, settlements, the
//! operator's commands, the queue listing, errors; the interfaces of an engine's bodies, reservations and notifications; the
//! engine in memory.
//! Uses: types.
//! Used by: admin, daemon, delivery, generated, intake, plugins, queue.
//! Never: a store, a file, a runtime; knowledge of a particular engine.
//! Start reading at: [`Spool`], then [`Unit`].
#![forbid(unsafe_code)]

mod body;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod lease;
mod listing_types;
mod memory;
mod new_message;
mod new_units;
mod reservation;
mod spool;
mod store_body;
pub mod transition;
mod unit;

pub use body::{BODY_INLINE_BYTES_MAX, BodySink, EngineBody, NewBody};
pub use error::SpoolError;
pub use lease::{Lease, ShardId};
pub use listing_types::{ListEntry, ListKey, ListMessage, ListPage, MessageDetail, SpoolStats, UnitState};
pub use memory::{MemorySpool, MemorySpoolSettings};
pub use new_message::{HEADER_BLOCK_BYTES_MAX, NewMessage};
pub use new_units::{NewUnit, NewUnitSource, NewUnits};
pub use reservation::{Reservation, ReservedSpace};
pub use spool::Spool;
pub use store_body::store_body;
pub use unit::{DueKey, NextState, Settlement, UNIT_RECIPIENTS_MAX, Unit, UnitRecipient};
