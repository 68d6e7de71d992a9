//! Engine for tests that loses everything unsynced when killed, as in a power cut.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::{Durability, Engine, KeyspaceId, Mutation, Op, Row};

type Rows = BTreeMap<(KeyspaceId, Bytes), Bytes>;

#[derive(Default)]
struct LossyState {
    /// Rows visible to readers.
    visible: Rows,
    /// Rows that survive a power cut.
    synced: Rows,
    /// Writes since the last sync.
    unsynced: Vec<Op>,
    /// Remaining successful syncs; the next sync after them kills the engine before any data is synced.
    syncs_left: Option<u64>,
    killed: bool,
}

/// In-memory engine; clones share the rows.
#[derive(Clone, Default)]
pub struct LossyEngine(Arc<Mutex<LossyState>>);

impl LossyEngine {
    /// Kills the engine during the sync after the next `syncs` successful syncs: the batch of the failing sync is lost.
    pub fn kill_after(&self, syncs: u64) {
        self.0.lock().syncs_left = Some(syncs);
    }

    /// Kills the engine now.
    pub fn kill(&self) {
        self.0.lock().killed = true;
    }

    /// Returns a new engine with the synced rows of this engine, which stays alive.
    #[must_use]
    pub fn fork(&self) -> Self {
        let rows = self.0.lock().synced.clone();
        Self(Arc::new(Mutex::new(LossyState { visible: rows.clone(), synced: rows, ..LossyState::default() })))
    }

    /// Kills the engine and returns a new engine with only the synced rows, as after a restart.
    #[must_use]
    pub fn restart(&self) -> Self {
        self.kill();
        self.fork()
    }
}

impl Engine for LossyEngine {
    fn apply(&self, ops: &mut Vec<Op>, durability: Durability) -> Result<(), String> {
        let mut state = self.0.lock();
        let state = &mut *state;
        if durability == Durability::Synced {
            match &mut state.syncs_left {
                Some(0) => state.killed = true,
                Some(left) => *left -= 1,
                None => {}
            }
        }
        if state.killed {
            return Err("the power is cut".to_owned());
        }
        for op in ops.drain(..) {
            write(&mut state.visible, op.clone());
            state.unsynced.push(op);
        }
        if durability == Durability::Synced {
            for op in state.unsynced.drain(..) {
                write(&mut state.synced, op);
            }
        }
        Ok(())
    }

    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>, String> {
        Ok(self.0.lock().visible.get(&(keyspace, Bytes::copy_from_slice(key))).cloned())
    }

    fn range(&self, keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, String> {
        let state = self.0.lock();
        let start = match from {
            Bound::Included(key) | Bound::Excluded(key) => Bytes::copy_from_slice(key),
            Bound::Unbounded => Bytes::new(),
        };
        let rows = state.visible.range((keyspace, start)..).take_while(|((k, _), _)| *k == keyspace);
        let rows = rows.filter(|((_, key), _)| within(key, from, to));
        Ok(rows.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, keyspace: KeyspaceId) -> Result<Option<Row>, String> {
        let state = self.0.lock();
        Ok(state.visible.iter().rfind(|((k, _), _)| *k == keyspace).map(|((_, key), value)| (key.clone(), value.clone())))
    }

    /// Does nothing: removed rows take no space.
    fn compact(&self, _: KeyspaceId) -> Result<(), String> {
        Ok(())
    }
}

fn write(rows: &mut Rows, op: Op) {
    match op.mutation {
        Mutation::Put(value) => drop(rows.insert((op.keyspace, op.key), value)),
        Mutation::Delete => drop(rows.remove(&(op.keyspace, op.key))),
    }
}

fn within(key: &[u8], from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    let above = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    above
        && match to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        }
}
