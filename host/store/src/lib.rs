//! Durable database: named keyspaces, a single committer thread, group commit.
//!
//! Owns: the engine (fjall), the order of writes, the moment at which a write is durable, poison and watchdog.
//! Uses: nothing of ours.
//! Used by: daemon, plugins, queue, state.
//! Never: the meaning of records; a commit acknowledged before its sync; a delay to collect more writes.
//! Start reading at: [`Store::commit`], then `committer.rs`.
//!
//! A failed or stuck commit poisons the store permanently: every later write fails, [`Store::poisoned`] resolves, and the
//! daemon ends so that its supervisor restarts the process. Writes acknowledged before stay durable.
#![forbid(unsafe_code)]

mod batch;
mod committer;
mod completion;
mod crash;
mod engine;
mod error;
mod fjall_engine;
mod keyspace;
#[cfg(feature = "test-engine")]
mod lossy_engine;
mod options;
mod store;

pub use batch::{BATCH_KEY_BYTES_MAX, BATCH_VALUE_BYTES_MAX, Batch};
pub use completion::{Completion, CompletionDispatcher};
pub use crash::crash_point;
pub use engine::{Durability, Engine, KeyspaceId, Mutation, Op, Row};
pub use error::StoreError;
pub use keyspace::Keyspace;
#[cfg(feature = "test-engine")]
pub use lossy_engine::LossyEngine;
pub use options::{StoreOptions, Urgency};
pub use store::{QueuePermit, Store, StoreStats};
