//! Shards of the queue and the right to process their units.

use std::fmt;

/// Part of the queue with an owner of its own. Every unit belongs to a single shard for the whole of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u16);

impl ShardId {
    /// First shard; the only one of an engine without shards.
    pub const FIRST: Self = Self(0);

    /// Creates the id of the shard with the given number, from 0.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Number of the shard, from 0.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Right to process the units of a shard. A later lease of the same shard fences the earlier leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    shard: ShardId,
    epoch: u64,
}

impl Lease {
    /// Creates a lease; called by engines.
    #[must_use]
    pub const fn new(shard: ShardId, epoch: u64) -> Self {
        Self { shard, epoch }
    }

    /// Shard of the lease.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// Epoch of the lease; grows with every lease of the shard, across restarts too.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}
