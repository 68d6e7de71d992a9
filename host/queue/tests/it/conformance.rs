//! Conformance of the embedded engine. A reopening is a power cut.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_spool::conformance::SpoolHarness;
use waxwing_spool::{DueKey, Spool, spool_conformance};
use waxwing_store::Batch;
use waxwing_types::{ManualClock, QueueId};

use crate::support::World;

/// Octets that settlements may use when new mail is refused.
const MINFREE_BYTES: u64 = 1 << 20;

struct EmbeddedHarness(World);

impl EmbeddedHarness {
    async fn overwrite(&self, keyspace: &str, key: Vec<u8>) {
        let keyspace = self.0.store.keyspace(keyspace).unwrap();
        let mut batch = Batch::default();
        batch.put(&keyspace, key, Bytes::from_static(b"\x01garbage"));
        self.0.store.commit(batch).await.unwrap();
    }
}

#[async_trait]
impl SpoolHarness for EmbeddedHarness {
    async fn open(new_units_max: usize) -> Self {
        let world = World::with(|settings| {
            settings.queue_minfree = MINFREE_BYTES;
            settings.new_units_max = new_units_max;
        });
        Self(world.await)
    }

    fn spool(&self) -> Arc<dyn Spool> {
        Arc::new(self.0.spool.clone())
    }

    fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.0.clock)
    }

    async fn reopen(self) -> Self {
        Self(self.0.restart().await)
    }

    fn set_free_bytes(&self, bytes: u64) {
        self.0.files.set_free_bytes(if bytes == 0 { MINFREE_BYTES - 1 } else { MINFREE_BYTES + bytes });
    }

    async fn corrupt_message(&self, id: QueueId) {
        self.overwrite("message", id.to_key().to_vec()).await;
    }

    async fn corrupt_unit(&self, key: DueKey) {
        let parts = [&key.next_at.as_millis().to_be_bytes()[..], &key.id.to_key(), &key.number.to_be_bytes()];
        self.overwrite("due", parts.concat()).await;
    }
}

spool_conformance!(EmbeddedHarness);
