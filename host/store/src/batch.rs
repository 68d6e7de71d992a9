//! A set of writes that become durable together or not at all.

use bytes::Bytes;

use crate::engine::{Change, Op};
use crate::store::Keyspace;

/// Octets of a key.
pub const BATCH_KEY_BYTES_MAX: usize = 1024;
/// Octets of a value: larger things belong into files, since the engine holds values in memory.
pub const BATCH_VALUE_BYTES_MAX: usize = 16 << 20;

/// Octets of bookkeeping that each write is counted with.
const OP_OVERHEAD_BYTES: usize = 64;

/// Writes in order; of two writes to one key the later one counts.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// With room for that many writes.
    #[must_use]
    pub fn with_capacity(ops: usize) -> Self {
        Self { ops: Vec::with_capacity(ops), bytes: 0 }
    }

    /// Sets a key. The value is kept as it is, not copied: it should not be a small part of a large buffer.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>, value: Bytes) {
        assert!(value.len() <= BATCH_VALUE_BYTES_MAX, "a value has {} octets: larger things belong into files", value.len());
        self.push(keyspace, key.into(), Change::Put(value));
    }

    /// Removes a key; it need not be there.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>) {
        self.push(keyspace, key.into(), Change::Delete);
    }

    /// Appends the writes of another batch.
    pub fn append(&mut self, mut other: Self) {
        self.ops.append(&mut other.ops);
        self.bytes += other.bytes;
    }

    /// No writes in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Octets of keys and values with the bookkeeping, as limits count them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, keyspace: &Keyspace, key: Bytes, change: Change) {
        assert!(!key.is_empty() && key.len() <= BATCH_KEY_BYTES_MAX, "a key has {} octets", key.len());
        let value = match &change {
            Change::Put(value) => value.len(),
            Change::Delete => 0,
        };
        self.bytes += key.len() + value + OP_OVERHEAD_BYTES;
        self.ops.push(Op { keyspace: keyspace.id(), key, change });
    }
}
