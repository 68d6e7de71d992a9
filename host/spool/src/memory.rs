//! Engine in memory: for tests and simulations. Nothing survives the process.

mod notify;
mod records;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_types::{BodyRead, MemoryBody, Message, QueueId, QueueIdGenerator, Timestamp};

use self::notify::NotificationQueue;
use self::records::Records;
use crate::body::{BODY_INLINE_BYTES_MAX, BodySink, EngineBody, NewBody};
use crate::error::SpoolError;
use crate::lease::{Lease, ShardId};
use crate::listing_types::{ListKey, ListPage, MessageDetail, SpoolStats};
use crate::new_message::NewMessage;
use crate::new_units::{NewUnit, NewUnits};
use crate::reservation::{Reservation, ReservedSpace};
use crate::spool::Spool;
use crate::transition::{Transition, UnitCommand, UnitTarget};
use crate::unit::{DueKey, Settlement, Unit};

/// Octets reserved for a message of unknown size, and beside the size of every message.
const MESSAGE_OVERHEAD_BYTES: u64 = 4 << 10;

/// Settings of a [`MemorySpool`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySpoolSettings {
    /// Number of shards, at least 1.
    pub shards: u16,
    /// Maximum number of new-unit notifications queued for the owner of a shard.
    pub new_units_max: usize,
    /// Octets of bodies and header blocks that the queue may hold beside the reserve.
    pub capacity_bytes: u64,
}

impl Default for MemorySpoolSettings {
    fn default() -> Self {
        Self { shards: 1, new_units_max: 4096, capacity_bytes: u64::MAX }
    }
}

/// Spool in memory. Clones share the queue.
#[derive(Clone)]
pub struct MemorySpool {
    settings: MemorySpoolSettings,
    records: Arc<Mutex<Records>>,
    notifications: Arc<[NotificationQueue]>,
    space: Arc<Mutex<Space>>,
    ids: Arc<QueueIdGenerator>,
}

/// Account of the capacity.
#[derive(Debug)]
struct Space {
    free: u64,
    reserved: u64,
}

impl MemorySpool {
    /// Creates an empty queue.
    #[must_use]
    pub fn new(settings: MemorySpoolSettings) -> Self {
        Self::open(settings, Arc::default(), QueueId::from_u64(0))
    }

    fn open(settings: MemorySpoolSettings, records: Arc<Mutex<Records>>, last_id: QueueId) -> Self {
        let queues = (0..settings.shards.max(1)).map(|_| NotificationQueue::new(settings.new_units_max)).collect();
        Self {
            records,
            notifications: queues,
            space: Arc::new(Mutex::new(Space { free: settings.capacity_bytes, reserved: 0 })),
            ids: Arc::new(QueueIdGenerator::starting_after(last_id)),
            settings,
        }
    }

    /// Returns the spool as after a restart of the server: the messages stay, notifications and reservations are lost.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let last_id = self.records.lock().last_id();
        Self::open(self.settings.clone(), Arc::clone(&self.records), last_id)
    }

    /// Sets the octets that are free for new messages.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.space.lock().free = bytes;
    }

    /// Makes the record of a message unreadable.
    pub fn corrupt_message(&self, id: QueueId) {
        self.records.lock().corrupt_message(id);
    }

    /// Makes the record of a due unit unreadable.
    pub fn corrupt_unit(&self, key: DueKey) {
        self.records.lock().corrupt_unit(key);
    }

    fn notifications(&self, shard: ShardId) -> Option<&NotificationQueue> {
        self.notifications.get(usize::from(shard.number()))
    }

    /// Notifies the owners of units that have been enqueued.
    fn notify(&self, new_units: Vec<(Unit, Option<Message>)>) {
        for (unit, message) in new_units {
            let Some(queue) = self.notifications(self.shard_for(unit.id)) else { continue };
            match message {
                Some(message) => queue.send(NewUnit { unit, message }),
                None => queue.note_overflow(unit.due_key()),
            }
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), SpoolError> {
        let space = self.space.lock();
        let free = space.free.saturating_sub(space.reserved);
        if free < needed { Err(SpoolError::Full { free, needed, minfree: 0 }) } else { Ok(()) }
    }
}

#[async_trait]
impl Spool for MemorySpool {
    fn next_queue_id(&self, now: Timestamp) -> QueueId {
        self.ids.next(now)
    }

    fn shards(&self) -> Vec<ShardId> {
        (0..self.settings.shards.max(1)).map(ShardId::new).collect()
    }

    fn shard_for(&self, id: QueueId) -> ShardId {
        let number = id.as_u64() % u64::from(self.settings.shards.max(1));
        ShardId::new(u16::try_from(number).unwrap_or(0))
    }

    fn reserve_space(&self, size_hint: u64) -> Result<Reservation, SpoolError> {
        let mut reservation = MemoryReservation { space: Arc::clone(&self.space), reserved: 0 };
        reservation.extend_to(size_hint)?;
        Ok(Reservation::new(size_hint, Box::new(reservation)))
    }

    fn body_sink(&self, id: QueueId, reservation: Reservation) -> Box<dyn BodySink> {
        Box::new(MemorySink { id, buffer: Vec::new(), failed: false, reservation })
    }

    async fn enqueue(&self, message: NewMessage) -> Result<(), SpoolError> {
        self.check_space(message.unreserved_bytes())?;
        let new_units = self.records.lock().enqueue(vec![message])?;
        self.notify(new_units);
        Ok(())
    }

    async fn acquire(&self, shard: ShardId) -> Result<Lease, SpoolError> {
        if self.notifications(shard).is_none() {
            return Err(SpoolError::Invalid("there is no such shard"));
        }
        Ok(self.records.lock().acquire(shard))
    }

    async fn scan_due(
        &self,
        lease: &Lease,
        after: Option<DueKey>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Unit>, SpoolError> {
        let mut records = self.records.lock();
        records.check_lease(lease)?;
        Ok(records.scan_due(after, until, limit, |id| self.shard_for(id) == lease.shard()))
    }

    async fn next_due(&self, lease: &Lease, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError> {
        let records = self.records.lock();
        records.check_lease(lease)?;
        Ok(records.next_due(after, |id| self.shard_for(id) == lease.shard()))
    }

    async fn load(&self, id: QueueId) -> Result<Message, SpoolError> {
        self.records.lock().load(id)
    }

    async fn settle(&self, lease: &Lease, settle: Settlement) -> Result<Option<Unit>, SpoolError> {
        let (unit, new_units) = {
            let mut records = self.records.lock();
            records.check_lease(lease)?;
            records.settle(settle)?
        };
        self.notify(new_units);
        Ok(unit)
    }

    async fn apply_command(
        &self,
        lease: &Lease,
        target: UnitTarget,
        command: UnitCommand,
        now: Timestamp,
    ) -> Result<Transition, SpoolError> {
        let transition = {
            let mut records = self.records.lock();
            records.check_lease(lease)?;
            records.apply_command(target, &command, now)?
        };
        if let (Transition::Due(unit), Some(queue)) = (&transition, self.notifications(lease.shard())) {
            queue.request_rescan(unit.due_key());
        }
        Ok(transition)
    }

    fn new_units(&self, shard: ShardId) -> NewUnits {
        self.notifications(shard).map_or_else(NotificationQueue::closed, NotificationQueue::receiver)
    }

    async fn rescan_from(&self, shard: ShardId) -> DueKey {
        match self.notifications(shard) {
            Some(queue) => queue.take_rescan().await,
            None => std::future::pending().await,
        }
    }

    fn is_current(&self, unit: &Unit) -> Option<bool> {
        self.records.lock().is_current(unit)
    }

    async fn list(&self, after: Option<ListKey>, limit: usize) -> Result<ListPage, SpoolError> {
        Ok(self.records.lock().list(after, limit))
    }

    async fn show(&self, id: QueueId) -> Result<MessageDetail, SpoolError> {
        self.records.lock().show(id)
    }

    fn stats(&self) -> SpoolStats {
        let dropped = self.notifications.iter().map(NotificationQueue::dropped).sum();
        SpoolStats { new_units_dropped: dropped, ..self.records.lock().stats() }
    }
}

/// Capacity reserved for a message.
struct MemoryReservation {
    space: Arc<Mutex<Space>>,
    reserved: u64,
}

impl ReservedSpace for MemoryReservation {
    fn extend_to(&mut self, size: u64) -> Result<(), SpoolError> {
        let needed = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let more = needed.saturating_sub(self.reserved);
        let mut space = self.space.lock();
        let free = space.free.saturating_sub(space.reserved);
        if free < more {
            return Err(SpoolError::Full { free, needed: more, minfree: 0 });
        }
        space.reserved += more;
        self.reserved += more;
        Ok(())
    }

    fn check_reserve(&self) -> Result<(), SpoolError> {
        let free = self.space.lock().free;
        if free == 0 { Err(SpoolError::Full { free, needed: 0, minfree: 0 }) } else { Ok(()) }
    }

    fn consume(&mut self, _bytes: u64) {}
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        let mut space = self.space.lock();
        space.reserved = space.reserved.saturating_sub(self.reserved);
    }
}

/// Sink of a body in memory.
struct MemorySink {
    id: QueueId,
    buffer: Vec<u8>,
    failed: bool,
    reservation: Reservation,
}

#[async_trait]
impl BodySink for MemorySink {
    fn size(&self) -> u64 {
        self.buffer.len() as u64
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), SpoolError> {
        let size = self.buffer.len() + piece.len();
        let mut fits = self.reservation.extend_to(size as u64);
        if size > BODY_INLINE_BYTES_MAX {
            fits = fits.and_then(|()| self.reservation.check_reserve());
        }
        self.failed |= fits.is_err();
        fits?;
        self.buffer.extend_from_slice(&piece);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<NewBody, SpoolError> {
        let Self { id, buffer, failed, reservation } = *self;
        if failed {
            return Err(SpoolError::Invalid("the body failed before"));
        }
        Ok(NewBody::from_engine(Arc::new(StoredMemoryBody { id, bytes: buffer.into(), _reservation: reservation })))
    }
}

/// Body finished by a [`MemorySink`].
struct StoredMemoryBody {
    id: QueueId,
    bytes: Bytes,
    _reservation: Reservation,
}

impl EngineBody for StoredMemoryBody {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn reader(self: Arc<Self>) -> Arc<dyn BodyRead> {
        Arc::new(MemoryBody::new(self.bytes.clone()))
    }

    fn has_reservation(&self) -> bool {
        true
    }
}

/// Octets of a body, and whether an engine on disk would keep them in a file.
fn body_bytes(message: &NewMessage) -> Result<(Bytes, bool), SpoolError> {
    match (message.body.inline_bytes(), message.body.engine_body::<StoredMemoryBody>()) {
        (Some(bytes), _) => Ok((bytes.clone(), false)),
        (None, Some(body)) => {
            let is_large = body.bytes.len() > BODY_INLINE_BYTES_MAX;
            if is_large && body.id != message.id {
                return Err(SpoolError::Invalid("the body of another message"));
            }
            Ok((body.bytes.clone(), is_large))
        }
        (None, None) => Err(SpoolError::Invalid("the body of another engine")),
    }
}
