//! Batch of writes that become durable together or not at all.

use bytes::Bytes;

use crate::engine::{Mutation, Op};
use crate::keyspace::Keyspace;

/// Maximum octets of a key.
pub const BATCH_KEY_BYTES_MAX: usize = 1024;
/// Maximum octets of a value; larger data belongs in files, since the engine keeps values in memory.
pub const BATCH_VALUE_BYTES_MAX: usize = 16 << 20;

/// Octets of overhead counted per write.
const OP_OVERHEAD_BYTES: usize = 64;

/// Ordered writes; the later of two writes to the same key wins.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// Creates a batch with capacity for `ops` writes.
    #[must_use]
    pub fn with_capacity(ops: usize) -> Self {
        Self { ops: Vec::with_capacity(ops), bytes: 0 }
    }

    /// Sets a key. The value is stored without a copy and should not be a small part of a large buffer.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>, value: Bytes) {
        assert!(value.len() <= BATCH_VALUE_BYTES_MAX, "a value has {} octets: larger things belong into files", value.len());
        self.push(keyspace, key.into(), Mutation::Put(value));
    }

    /// Removes a key; a missing key is no error.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>) {
        self.push(keyspace, key.into(), Mutation::Delete);
    }

    /// Appends the writes of another batch.
    pub fn append(&mut self, mut other: Self) {
        self.ops.append(&mut other.ops);
        self.bytes += other.bytes;
    }

    /// Returns whether the batch has no writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Octets of keys and values with overhead, as counted by limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, keyspace: &Keyspace, key: Bytes, change: Mutation) {
        assert!(!key.is_empty() && key.len() <= BATCH_KEY_BYTES_MAX, "a key has {} octets", key.len());
        let value = match &change {
            Mutation::Put(value) => value.len(),
            Mutation::Delete => 0,
        };
        self.bytes += key.len() + value + OP_OVERHEAD_BYTES;
        self.ops.push(Op { keyspace: keyspace.id(), key, mutation: change });
    }
}
