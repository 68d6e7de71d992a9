//! Spool implementation on the server's embedded store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use waxwing_spool::transition::{Transition, UnitCommand, UnitTarget};
use waxwing_spool::{
    BodySink, DueKey, Lease, ListKey, ListPage, MessageDetail, NewMessage, NewUnits, Reservation, Settlement, ShardId, Spool,
    SpoolError, SpoolStats, Unit,
};
use waxwing_store::{Batch, Store, Urgency, crash_point};
use waxwing_types::{BodyRead, Clock, MemoryBody, Message, QueueId, QueueIdGenerator, Timestamp};

use crate::blocking::BlockingPool;
use crate::body::{BodyMemoryBudget, BodyStore, BodyWriter};
use crate::body_files::{BodyFiles, DiskBodyFiles};
use crate::compaction::CompactionTrigger;
use crate::disk_space::DiskSpace;
use crate::error::unavailable;
use crate::inner::{DueScan, EPOCH_KEY, PreparedRecords, SpoolInner};
use crate::new_units::NewUnitChannel;
use crate::record::{RecordBody, STATE_BYTES_MAX, encode_number};

/// Keyspaces that the store must be opened with.
pub const KEYSPACES: [&str; 4] = ["message", "due", "parked", "meta"];

/// Maximum number of units returned by a single call.
const SCAN_UNITS_MAX: usize = 10_000;

/// Settings of an [`EmbeddedSpool`].
#[derive(Clone)]
pub struct SpoolSettings {
    /// Octets that must stay free on the disk for settlements and journals (`queue_minfree`).
    pub queue_minfree: u64,
    /// Maximum octets of memory for all incoming bodies together (`spool_memory_bytes_max`).
    pub spool_memory_bytes_max: u64,
    /// Maximum number of new-unit notifications queued for the owner.
    pub new_units_max: usize,
    /// Maximum octets of messages passed to the owner with notifications and still in memory.
    pub new_unit_bytes_max: u64,
    /// Source of wall time and monotonic time.
    pub clock: Arc<dyn Clock>,
}

impl SpoolSettings {
    /// Creates the default settings: `queue_minfree` is 1.5 times the largest message plus two journals.
    #[must_use]
    pub fn new(message_size_limit: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue_minfree: message_size_limit / 2 * 3 + 2 * (64 << 20),
            spool_memory_bytes_max: 64 << 20,
            new_units_max: 4096,
            new_unit_bytes_max: 16 << 20,
            clock,
        }
    }
}

/// Durable spool on a single server. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedSpool(pub(crate) Arc<SpoolInner>);

impl EmbeddedSpool {
    /// Opens the spool: records are in the store, opened with [`KEYSPACES`]; large bodies are files in the directory
    /// `bodies`. Files without a referencing record are removed.
    pub async fn open(store: &Store, bodies: &Path, settings: SpoolSettings) -> Result<Self, SpoolError> {
        let path = bodies.to_owned();
        let files = BlockingPool::default().run(move || DiskBodyFiles::open(&path)).await??;
        Self::open_with(store, Arc::new(files), settings).await
    }

    /// Opens the spool over another implementation of [`BodyFiles`]; used by tests.
    pub async fn open_with(store: &Store, files: Arc<dyn BodyFiles>, settings: SpoolSettings) -> Result<Self, SpoolError> {
        let [message, due, parked, meta] = KEYSPACES.map(|name| store.keyspace(name));
        let [message, due, parked, meta] =
            [message.map_err(unavailable)?, due.map_err(unavailable)?, parked.map_err(unavailable)?, meta.map_err(unavailable)?];
        let recovery = crate::recovery::Recovery { message, due, suspended: parked, meta, files };
        let blocking = BlockingPool::default();
        let (recovery, recovered) = blocking.run(move || recovery.run()).await??;
        if !recovered.repairs.is_empty() {
            store.commit(recovered.repairs).await.map_err(unavailable)?;
        }
        let crate::recovery::Recovery { message, due, suspended: parked, meta, files } = recovery;
        let disk_space = DiskSpace::new(files.clone(), settings.clock.clone(), settings.queue_minfree);
        let memory = BodyMemoryBudget::new(settings.spool_memory_bytes_max);
        Ok(Self(Arc::new(SpoolInner {
            store: store.clone(),
            message,
            due,
            suspended: parked,
            meta,
            bodies: Arc::new(BodyStore { files, blocking, memory, files_created: AtomicU64::new(0) }),
            schedule: Mutex::new(recovered.schedule),
            new_units: NewUnitChannel::new(settings.new_units_max, settings.new_unit_bytes_max),
            disk_space,
            compaction: CompactionTrigger::default(),
            clock: settings.clock,
            ids: QueueIdGenerator::starting_after(recovered.last_id),
            epoch: AtomicU64::new(recovered.epoch),
        })))
    }
}

#[async_trait]
impl Spool for EmbeddedSpool {
    fn next_queue_id(&self, now: Timestamp) -> QueueId {
        self.0.ids.next(now)
    }

    fn shards(&self) -> Vec<ShardId> {
        vec![ShardId::FIRST]
    }

    fn shard_for(&self, _id: QueueId) -> ShardId {
        ShardId::FIRST
    }

    fn reserve_space(&self, size_hint: u64) -> Result<Reservation, SpoolError> {
        self.0.disk_space.reserve(size_hint).inspect_err(|_| self.0.compact_store())
    }

    fn body_sink(&self, id: QueueId, reservation: Reservation) -> Box<dyn BodySink> {
        Box::new(BodyWriter::new(self.0.bodies.clone(), id, reservation))
    }

    async fn enqueue(&self, message: NewMessage) -> Result<(), SpoolError> {
        let inner = &*self.0;
        // Almost always answered without disk access: a new id is greater than all ids in the tables.
        if inner.message.contains(&message.id.to_key()).map_err(unavailable)? {
            return Ok(());
        }
        inner.disk_space.check_reserve()?;
        let bytes = message.unreserved_bytes();
        let _reservation = if bytes == 0 { None } else { Some(inner.disk_space.reserve(bytes)?) };
        let mut batch = Batch::with_capacity(3);
        let prepared = inner.prepare_all(vec![message], &mut batch)?;
        let permit = inner.reserve_commit(&batch).await?;
        crash_point("queue.before_enqueue_commit");
        let (new, completion) = {
            let mut schedule = inner.schedule.lock();
            let new: Vec<PreparedRecords> = prepared.into_iter().filter(|new| new.enter_schedule(&mut schedule)).collect();
            inner.piggyback_state(&mut schedule, &mut batch);
            (new, inner.store.submit(permit, batch, Urgency::Now))
        };
        completion.await.map_err(unavailable)?;
        crash_point("queue.after_enqueue_commit");
        for new in new {
            inner.notify_owner(new);
        }
        Ok(())
    }

    async fn acquire(&self, shard: ShardId) -> Result<Lease, SpoolError> {
        if shard != ShardId::FIRST {
            return Err(SpoolError::Invalid("there is no such shard"));
        }
        let inner = &*self.0;
        let permit = inner.store.reserve(STATE_BYTES_MAX).await.map_err(unavailable)?;
        let (epoch, completion) = {
            let _order = inner.schedule.lock();
            let epoch = inner.epoch.fetch_add(1, Ordering::AcqRel) + 1;
            let mut batch = Batch::default();
            batch.put(&inner.meta, EPOCH_KEY, encode_number(EPOCH_KEY, epoch));
            (epoch, inner.store.submit(permit, batch, Urgency::Now))
        };
        completion.await.map_err(unavailable)?;
        Ok(Lease::new(shard, epoch))
    }

    async fn scan_due(
        &self,
        lease: &Lease,
        after: Option<DueKey>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Unit>, SpoolError> {
        self.0.check_lease(lease)?;
        let inner = self.0.clone();
        let scan = move || inner.scan(after, until, limit.min(SCAN_UNITS_MAX));
        let DueScan { units, unreadable } = self.0.bodies.blocking.run(scan).await??;
        for row in unreadable {
            self.0.move_unreadable_to_corrupt(row).await?;
        }
        Ok(units)
    }

    async fn next_due(&self, lease: &Lease, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError> {
        self.0.check_lease(lease)?;
        let inner = self.0.clone();
        self.0.bodies.blocking.run(move || inner.first_due(after)).await?
    }

    async fn load(&self, id: QueueId) -> Result<Message, SpoolError> {
        let inner = self.0.clone();
        let record = self.0.bodies.blocking.run(move || inner.read_message(id)).await??;
        let body: Arc<dyn BodyRead> = match record.body {
            RecordBody::Inline(bytes) => Arc::new(MemoryBody::new(bytes)),
            RecordBody::File(body) => Arc::new(self.0.file_body(id, body)),
        };
        Ok(Message { id, envelope: Arc::new(record.envelope), header: record.header, body, tags: Arc::new(record.tags) })
    }

    async fn settle(&self, lease: &Lease, settle: Settlement) -> Result<Option<Unit>, SpoolError> {
        self.0.settle(lease, settle).await
    }

    async fn apply_command(
        &self,
        lease: &Lease,
        target: UnitTarget,
        command: UnitCommand,
        now: Timestamp,
    ) -> Result<Transition, SpoolError> {
        self.0.apply_command(lease, target, &command, now).await
    }

    fn new_units(&self, _shard: ShardId) -> NewUnits {
        self.0.new_units.receiver()
    }

    async fn rescan_from(&self, _shard: ShardId) -> DueKey {
        self.0.new_units.take_overflow().await
    }

    fn is_current(&self, unit: &Unit) -> Option<bool> {
        let version = self.0.schedule.lock().tracked_version(unit.due_key())?;
        Some(version == unit.version)
    }

    async fn list(&self, after: Option<ListKey>, limit: usize) -> Result<ListPage, SpoolError> {
        let inner = self.0.clone();
        self.0.bodies.blocking.run(move || inner.list(after, limit)).await?
    }

    async fn show(&self, id: QueueId) -> Result<MessageDetail, SpoolError> {
        let inner = self.0.clone();
        self.0.bodies.blocking.run(move || inner.show(id)).await?
    }

    fn stats(&self) -> SpoolStats {
        let (counts, enqueued, settled) = {
            let schedule = self.0.schedule.lock();
            (schedule.counts, schedule.enqueued, schedule.settled)
        };
        SpoolStats {
            incoming: counts.incoming,
            deferred: counts.deferred,
            hold: counts.hold,
            corrupt: counts.corrupt,
            enqueued,
            settled,
            new_units_dropped: self.0.new_units.dropped(),
            body_files: self.0.bodies.files_created.load(Ordering::Relaxed),
            spool_memory_bytes: self.0.bodies.memory.used(),
        }
    }
}
