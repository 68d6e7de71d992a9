//! Conformance of the engine in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panic")]

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_spool::conformance::SpoolHarness;
use waxwing_spool::{DueKey, MemorySpool, MemorySpoolSettings, ShardId, Spool, spool_conformance};
use waxwing_types::{ManualClock, QueueId};

struct MemoryHarness<const SHARDS: u16> {
    spool: MemorySpool,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl<const SHARDS: u16> SpoolHarness for MemoryHarness<SHARDS> {
    async fn open(new_units_max: usize) -> Self {
        let settings = MemorySpoolSettings { shards: SHARDS, new_units_max, ..MemorySpoolSettings::default() };
        Self { spool: MemorySpool::new(settings), clock: Arc::default() }
    }

    fn spool(&self) -> Arc<dyn Spool> {
        Arc::new(self.spool.clone())
    }

    fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    async fn reopen(self) -> Self {
        Self { spool: self.spool.reopen(), clock: self.clock }
    }

    fn set_free_bytes(&self, bytes: u64) {
        self.spool.set_free_bytes(bytes);
    }

    async fn corrupt_message(&self, id: QueueId) {
        self.spool.corrupt_message(id);
    }

    async fn corrupt_unit(&self, key: DueKey) {
        self.spool.corrupt_unit(key);
    }
}

mod one_shard {
    use super::*;
    spool_conformance!(MemoryHarness<1>);
}

mod three_shards {
    use super::*;
    spool_conformance!(MemoryHarness<3>);
}

#[test]
fn shards_divide_the_messages() {
    let spool = MemorySpool::new(MemorySpoolSettings { shards: 3, ..MemorySpoolSettings::default() });
    let shards: Vec<ShardId> = (0..6).map(|id| spool.shard_for(QueueId::from_u64(id))).collect();
    assert_eq!(shards, [0, 1, 2, 0, 1, 2].map(ShardId::new));
    assert_eq!(spool.shards(), [0, 1, 2].map(ShardId::new));
}
