//! Interface of a storage engine as used by the committer: atomic ordered writes, a single sync, reads.

use std::ops::Bound;

use bytes::Bytes;

/// Index of a keyspace in [`StoreOptions::keyspaces`](crate::StoreOptions::keyspaces).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyspaceId(pub u16);

/// Row of a keyspace: key and value.
pub type Row = (Bytes, Bytes);

/// Change of a single key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Sets the key to a value.
    Put(Bytes),
    /// Removes the key and value.
    Delete,
}

/// Single write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Keyspace of the key.
    pub keyspace: KeyspaceId,
    /// Key of the row; never empty.
    pub key: Bytes,
    /// Change of the key.
    pub mutation: Mutation,
}

/// Required durability when [`Engine::apply`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power cut.
    Synced,
    /// Survives the end of the process.
    Buffered,
}

/// Storage engine. Errors are texts: no code above the committer distinguishes them.
pub trait Engine: Send + Sync {
    /// Writes all of `ops` or none, in order; the later of two writes to the same key wins. Drains `ops`. Readers see the
    /// writes only once they have the requested durability. After an error the engine gets no further writes.
    fn apply(&self, ops: &mut Vec<Op>, durability: Durability) -> Result<(), String>;

    /// Returns the value of a key.
    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>, String>;

    /// Returns whether a key exists.
    fn contains(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, String> {
        Ok(self.get(keyspace, key)?.is_some())
    }

    /// Returns at most `limit` rows in key order.
    fn range(&self, keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, String>;

    /// Returns the row with the greatest key.
    fn last(&self, keyspace: KeyspaceId) -> Result<Option<Row>, String>;

    /// Frees the space of removed rows by rewriting the remaining rows. Blocks until done.
    fn compact(&self, keyspace: KeyspaceId) -> Result<(), String>;
}
