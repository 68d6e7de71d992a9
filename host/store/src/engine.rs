//! What the committer needs of a storage engine: atomic ordered writes, one sync, reads.

use std::ops::Bound;

use bytes::Bytes;

/// Index of a keyspace in [`StoreOptions::keyspaces`](crate::StoreOptions::keyspaces).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyspaceId(pub u16);

/// Key and value.
pub type Row = (Bytes, Bytes);

/// What happens to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    Put(Bytes),
    /// It goes.
    Delete,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub keyspace: KeyspaceId,
    /// Never empty.
    pub key: Bytes,
    /// What.
    pub change: Change,
}

/// How far a write must have come when [`Engine::apply`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power cut.
    Synced,
    /// It survives the end of the process.
    Buffered,
}

/// A storage engine. Errors are texts: nothing above the committer tells one from another.
pub trait Engine: Send + Sync {
    /// Writes all of `ops` or none, in order: of two writes to one key the later one counts. Drains `ops`. Readers see
    /// them only when they are as durable as asked. After an error the engine is not written to again.
    fn apply(&self, ops: &mut Vec<Op>, durability: Durability) -> Result<(), String>;

    /// The value of a key.
    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>, String>;

    /// Whether a key is there.
    fn contains(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, String> {
        Ok(self.get(keyspace, key)?.is_some())
    }

    /// At most `limit` rows in the order of their keys.
    fn range(&self, keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, String>;

    /// The row with the greatest key.
    fn last(&self, keyspace: KeyspaceId) -> Result<Option<Row>, String>;

    /// Frees the space of removed rows. What is left is written anew meanwhile. Blocks for as long as that takes.
    fn reclaim(&self, keyspace: KeyspaceId) -> Result<(), String>;
}
