//! Kills the spool in every way and looks for what was promised.
//!
//! Owns: a workload that enqueues and settles from many tasks and reports each intent and each acknowledgement; a model of
//! what may be in the spool after those reports; three ways to end the workload: SIGKILL at a random time, an abort at a
//! named place, a power cut that takes everything unsynced.
//! Uses: queue, store, types.
//! Used by: its own tests, and `waxwing-crash --rounds N` by hand.
//! Never: a check that could not fail: the model is tried against a committer that answers before its sync.
//! Start reading at: `model.rs`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test program may panic")]

pub mod child;
pub mod content;
pub mod lossy;
pub mod model;
pub mod rounds;
pub mod workload;

/// All named places where a process may end, as `crash_point` in store and queue has them.
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
