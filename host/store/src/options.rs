//! Options of a store, and the urgency of a write.

use std::time::Duration;

/// Octets per permit of the committer's queue.
pub(crate) const PERMIT_BYTES: usize = 256;

/// Options for opening a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Names of the keyspaces; missing keyspaces are created.
    pub keyspaces: Vec<&'static str>,
    /// Maximum octets of all journals, at least 64 MiB.
    pub journal_bytes_max: u64,
    /// Octets of a keyspace's memtable before a flush.
    pub memtable_bytes: u64,
    /// Octets of the block cache.
    pub cache_bytes: u64,
    /// Maximum octets queued for the committer; further writers wait.
    pub queue_bytes_max: usize,
    /// Maximum octets of a merged batch.
    pub merged_bytes_max: usize,
    /// Maximum time that a lazy write waits for another commit.
    pub lazy_delay: Duration,
    /// Commit time after which the store counts as stuck and is poisoned.
    pub commit_stuck: Duration,
    /// Acknowledges writes before the sync: the defect that crash tests must detect. Never set otherwise; no effect without
    /// `test-engine`.
    #[doc(hidden)]
    pub ack_before_sync: bool,
}

impl StoreOptions {
    /// Returns the default options for the given keyspaces.
    #[must_use]
    pub fn new(keyspaces: &[&'static str]) -> Self {
        Self {
            keyspaces: keyspaces.to_vec(),
            journal_bytes_max: 64 << 20,
            memtable_bytes: 16 << 20,
            cache_bytes: 8 << 20,
            queue_bytes_max: 64 << 20,
            merged_bytes_max: 8 << 20,
            lazy_delay: Duration::from_millis(50),
            commit_stuck: Duration::from_secs(30),
            ack_before_sync: false,
        }
    }
}

/// Urgency of a write: whether the committer is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Written as soon as the committer is free.
    Now,
    /// Written with the next urgent commit, or after `lazy_delay`.
    Lazy,
}
