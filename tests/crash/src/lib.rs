//! Crash tests of the spool: end the process at any point and compare the spool with all acknowledgements.
//!
//! Owns: a workload that enqueues and settles from many tasks and reports each intent and each acknowledgement; a model of the permitted
//! spool contents after such reports; three ways to end the workload: SIGKILL at a random time, an abort at a named crash point, a power
//! cut with loss of all unsynced data.
//! Uses: queue, spool, store, types.
//! Used by: no crate; run by its tests and by `waxwing-crash --rounds N`.
//! Never: a check that cannot fail: the model is tried against a committer that answers before its sync.
//! Start reading at: `model.rs`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test program may panic")]

pub mod child;
pub mod content;
pub mod model;
pub mod power_cut;
pub mod rounds;
pub mod workload;

/// All crash points of store and queue, as passed to `crash_point`.
pub const CRASH_POINTS: [&str; 12] = [
    "store.before_sync",
    "store.after_sync",
    "queue.after_body_create",
    "queue.after_body_write",
    "queue.after_body_sync",
    "queue.after_body_directory_sync",
    "queue.before_enqueue_commit",
    "queue.after_enqueue_commit",
    "queue.before_settle_commit",
    "queue.after_settle_commit",
    "queue.before_unlink",
    "queue.after_unlink",
];
