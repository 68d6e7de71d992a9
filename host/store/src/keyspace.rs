//! Reads of a keyspace.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Engine, KeyspaceId, Row};
use crate::error::StoreError;

/// Named part of the database. All reads block, mostly for microseconds, sometimes for a disk access.
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) id: KeyspaceId,
    pub(crate) engine: Arc<dyn Engine>,
}

impl Keyspace {
    pub(crate) fn id(&self) -> KeyspaceId {
        self.id
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.engine.get(self.id, key).map_err(read_error)
    }

    /// Returns whether the key exists.
    pub fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.engine.contains(self.id, key).map_err(read_error)
    }

    /// Returns at most `limit` rows in key order. A scan walks over removed keys too: start behind them.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.engine.range(self.id, from, to, limit).map_err(read_error)
    }

    /// Frees the space of removed rows by rewriting the remaining rows, so that equal free space is needed. Blocks for
    /// seconds.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.engine.compact(self.id).map_err(|reason| StoreError::Compact(reason.into()))
    }

    /// Returns the row with the greatest key.
    pub fn last(&self) -> Result<Option<Row>, StoreError> {
        self.engine.last(self.id).map_err(read_error)
    }
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyspace").field(&self.id.0).finish()
    }
}

fn read_error(reason: String) -> StoreError {
    StoreError::Read(reason.into())
}
