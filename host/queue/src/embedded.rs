//! Spool implementation on the server's embedded store.

use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use waxwing_store::{Batch, Keyspace, QueuePermit, Store, Urgency, crash_point};
use waxwing_types::{BodyRead, Clock, MemoryBody, Message, QueueId, QueueIdGenerator, Timestamp};

use crate::blocking::BlockingPool;
use crate::body::{BodyMemoryBudget, BodyStore, BodyWriter, NewBody};
use crate::body_files::{BodyFiles, DiskBodyFiles};
use crate::codec::MalformedRecord;
use crate::compaction::CompactionTrigger;
use crate::disk_space::{DiskSpace, Reservation};
use crate::error::SpoolError;
use crate::file_body::FileBody;
use crate::listing_types::{ListKey, ListPage, MessageDetail, SpoolStats};
use crate::new_message::{HEADER_BLOCK_BYTES_MAX, NewMessage};
use crate::new_units::{CountedBody, NewUnitChannel};
use crate::record::{
    MessageRecord, RecordBody, STATE_BYTES_MAX, SuspendedUnit, decode_message, decode_unit, encode_message, encode_number,
    encode_suspended, encode_unit,
};
use crate::schedule::{Schedule, first_after};
use crate::spool::{Lease, NewUnit, Spool};
use crate::unit::{DueKey, Settlement, UNIT_RECIPIENTS_MAX, Unit, UnitRecipient, suspended_key};

/// Keyspaces that the store must be opened with.
pub const KEYSPACES: [&str; 4] = ["message", "due", "parked", "meta"];

/// Key of the lease epoch in the keyspace `meta`.
pub(crate) const EPOCH_KEY: &[u8] = b"epoch";
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

pub(crate) struct SpoolInner {
    pub(crate) store: Store,
    pub(crate) message: Keyspace,
    pub(crate) due: Keyspace,
    pub(crate) suspended: Keyspace,
    pub(crate) meta: Keyspace,
    pub(crate) bodies: Arc<BodyStore>,
    pub(crate) schedule: Mutex<Schedule>,
    pub(crate) new_units: NewUnitChannel,
    pub(crate) disk_space: Arc<DiskSpace>,
    pub(crate) compaction: CompactionTrigger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: QueueIdGenerator,
    pub(crate) epoch: AtomicU64,
}

/// Message whose records are in a batch, ready to be submitted.
pub(crate) struct PreparedRecords {
    id: QueueId,
    units: Vec<Unit>,
    hold: Option<String>,
    /// Message for the owner's notification, if the memory budget allows.
    message: Option<Message>,
    /// Body whose memory and disk space stay reserved until the commit.
    body: NewBody,
}

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
        let (message, due, parked, meta) = (message?, due?, parked?, meta?);
        let recovery = crate::recovery::Recovery { message, due, suspended: parked, meta, files };
        let blocking = BlockingPool::default();
        let (recovery, recovered) = blocking.run(move || recovery.run()).await??;
        if !recovered.repairs.is_empty() {
            store.commit(recovered.repairs).await?;
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
    fn queue_ids(&self) -> &QueueIdGenerator {
        &self.0.ids
    }

    fn reserve_space(&self, size_hint: u64) -> Result<Reservation, SpoolError> {
        self.0.disk_space.reserve(size_hint).inspect_err(|_| self.0.compact_store())
    }

    fn body_writer(&self, id: QueueId, reservation: Reservation) -> BodyWriter {
        BodyWriter::new(self.0.bodies.clone(), id, reservation)
    }

    async fn enqueue(&self, message: NewMessage) -> Result<(), SpoolError> {
        let inner = &*self.0;
        // Almost always answered without disk access: a new id is greater than all ids in the tables.
        if inner.message.contains(&message.id.to_key())? {
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
        completion.await?;
        crash_point("queue.after_enqueue_commit");
        for new in new {
            inner.notify_owner(new);
        }
        Ok(())
    }

    async fn acquire(&self) -> Result<Lease, SpoolError> {
        let inner = &*self.0;
        let permit = inner.store.reserve(STATE_BYTES_MAX).await?;
        let (epoch, completion) = {
            let _order = inner.schedule.lock();
            let epoch = inner.epoch.fetch_add(1, Ordering::AcqRel) + 1;
            let mut batch = Batch::default();
            batch.put(&inner.meta, EPOCH_KEY, encode_number(EPOCH_KEY, epoch));
            (epoch, inner.store.submit(permit, batch, Urgency::Now))
        };
        completion.await?;
        Ok(Lease::new(epoch))
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

    fn new_units(&self) -> mpsc::Receiver<NewUnit> {
        self.0.new_units.receiver()
    }

    async fn rescan_from(&self) -> DueKey {
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

/// Result of a scan of the due index.
struct DueScan {
    units: Vec<Unit>,
    unreadable: Vec<(DueKey, Bytes, MalformedRecord)>,
}

impl SpoolInner {
    pub(crate) fn check_lease(&self, lease: &Lease) -> Result<(), SpoolError> {
        if lease.epoch() == self.epoch.load(Ordering::Acquire) { Ok(()) } else { Err(SpoolError::Fenced) }
    }

    /// Prepares several messages as [`SpoolInner::prepare`] does, each followed by its attached messages.
    pub(crate) fn prepare_all(&self, messages: Vec<NewMessage>, batch: &mut Batch) -> Result<Vec<PreparedRecords>, SpoolError> {
        let mut prepared = Vec::with_capacity(messages.len());
        let mut remaining: VecDeque<NewMessage> = messages.into();
        while let Some(mut message) = remaining.pop_front() {
            remaining.extend(std::mem::take(&mut message.attached));
            prepared.push(self.prepare(message, batch)?);
        }
        Ok(prepared)
    }

    /// Adds the records of a message to a batch: the message before the units, so that no unit is visible without a
    /// message.
    pub(crate) fn prepare(&self, message: NewMessage, batch: &mut Batch) -> Result<PreparedRecords, SpoolError> {
        let due_at = message.due_at();
        let NewMessage { id, envelope, header, body, tags, hold, not_before: _, priority: _, attached: _ } = message;
        if envelope.recipients.is_empty() {
            return Err(SpoolError::Invalid("a message without recipients"));
        }
        if header.len() > HEADER_BLOCK_BYTES_MAX {
            return Err(SpoolError::Invalid("the header block is longer than 4 MiB"));
        }
        let record_body = match (body.in_memory(), body.file()) {
            (_, Some((body_id, _))) if body_id != id => return Err(SpoolError::Invalid("the body of another message")),
            (_, Some((_, file))) => RecordBody::File(file.clone()),
            (bytes, None) => RecordBody::Inline(bytes.cloned().unwrap_or_default()),
        };
        let encoded = encode_message(id, &envelope, &tags, &header, &record_body).map_err(|e| SpoolError::Invalid(e.0))?;
        let units = split_into_units(id, &envelope.recipients, due_at, matches!(record_body, RecordBody::File(_)))?;
        // Messages that are not due at once are not kept in memory.
        let guard = if hold.is_some() || due_at > envelope.origin.received_at {
            None
        } else {
            self.new_units.reserve_memory(encoded.bytes.len() as u64)
        };
        batch.put(&self.message, id.to_key().to_vec(), encoded.bytes);
        for unit in &units {
            match &hold {
                None => {
                    let key = unit.due_key().to_bytes();
                    batch.put(&self.due, key.to_vec(), encode_unit(unit, &key));
                }
                Some(reason) => {
                    let key = suspended_key(id, unit.number);
                    let parked = SuspendedUnit::Held { reason: reason.clone(), unit: unit.clone() };
                    batch.put(&self.suspended, key.to_vec(), encode_suspended(&key, &parked));
                }
            }
        }
        let message = guard.map(|guard| {
            let body: Arc<dyn BodyRead> = match record_body {
                RecordBody::Inline(_) => Arc::new(CountedBody::new(encoded.inline_body, guard)),
                RecordBody::File(file) => Arc::new(self.file_body(id, file)),
            };
            Message { id, envelope: Arc::new(envelope), header: encoded.header, body, tags: Arc::new(tags) }
        });
        Ok(PreparedRecords { id, units, hold, message, body })
    }

    /// Waits for queue space in the committer for a batch and the state record that may be added.
    pub(crate) async fn reserve_commit(&self, batch: &Batch) -> Result<QueuePermit, SpoolError> {
        Ok(self.store.reserve(batch.bytes() + STATE_BYTES_MAX).await?)
    }

    /// Adds the low-water cursor to a batch if due.
    pub(crate) fn piggyback_state(&self, schedule: &mut Schedule, batch: &mut Batch) {
        schedule.piggyback_state(batch, &self.meta, self.clock.now(), self.clock.monotonic());
    }

    /// Notifies the owner of units that have become durable.
    pub(crate) fn notify_owner(&self, prepared: PreparedRecords) {
        if prepared.hold.is_some() {
            return;
        }
        for unit in prepared.units {
            match &prepared.message {
                Some(message) => self.new_units.send(NewUnit { unit, message: message.clone() }),
                None => self.new_units.note_overflow(unit.due_key()),
            }
        }
    }

    pub(crate) fn file_body(&self, id: QueueId, body: crate::file_body::BodyFileRef) -> FileBody {
        FileBody::new(self.bodies.files.clone(), self.bodies.blocking.clone(), id, body)
    }

    /// Reads a message record. Blocking.
    pub(crate) fn read_message(&self, id: QueueId) -> Result<MessageRecord, SpoolError> {
        let record = self.message.get(&id.to_key())?.ok_or(SpoolError::NotFound)?;
        decode_message(id, &record).map_err(|error| {
            tracing::error!(%id, %error, "a message record cannot be read");
            SpoolError::Corrupt(format!("message {id}: {error}").into())
        })
    }

    /// Reads due units from the index. Blocking.
    fn scan(&self, after: Option<DueKey>, until: Timestamp, limit: usize) -> Result<DueScan, SpoolError> {
        let scan_start = if after.is_none() { Some(self.schedule.lock().begin_scan()) } else { None };
        let low = || self.schedule.lock().low();
        let mut from = after.map_or_else(low, |after| after.next().max(low()));
        if let Some((low, _)) = scan_start {
            from = low;
        }
        let mut scan = DueScan { units: Vec::new(), unreadable: Vec::new() };
        let mut first = None;
        let end = first_after(until);
        while scan.units.len() < limit {
            let wanted = limit - scan.units.len();
            let rows = self.due.range(Bound::Included(&from.to_bytes()), Bound::Excluded(&end.to_bytes()), wanted)?;
            let more = rows.len() == wanted;
            for (key, record) in rows {
                let Some(key) = DueKey::from_bytes(&key) else {
                    tracing::error!(?key, "due index: invalid key skipped");
                    continue;
                };
                first.get_or_insert(key);
                from = key.next();
                match decode_unit(key, &record) {
                    Ok(unit) => scan.units.push(unit),
                    Err(error) => scan.unreadable.push((key, record, error)),
                }
            }
            if !more {
                break;
            }
        }
        if let Some((_, hand_overs)) = scan_start {
            self.schedule.lock().finish_scan(hand_overs, first.unwrap_or(end));
        }
        Ok(scan)
    }

    /// Returns the time of the first due unit. Blocking.
    fn first_due(&self, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError> {
        let low = self.schedule.lock().low();
        let from = after.map_or(low, |after| after.next().max(low));
        let rows = self.due.range(Bound::Included(&from.to_bytes()), Bound::Unbounded, 1)?;
        Ok(rows.first().and_then(|(key, _)| DueKey::from_bytes(key)).map(|key| key.next_at))
    }

    /// Moves a unit with an unreadable record to the corrupt units, with the raw record.
    async fn move_unreadable_to_corrupt(&self, (key, record, error): (DueKey, Bytes, MalformedRecord)) -> Result<(), SpoolError> {
        tracing::error!(id = %key.id, unit = key.number, %error, "unit record unreadable: unit moved to corrupt");
        let mut batch = Batch::with_capacity(3);
        move_to_corrupt(&mut batch, &self.due, &self.suspended, key, record, error);
        let permit = self.reserve_commit(&batch).await?;
        let completion = {
            let mut schedule = self.schedule.lock();
            schedule.remove(key);
            // The attempt count is unreadable, so the counter is a guess.
            let due = if schedule.counts.deferred > 0 { 1 } else { 0 };
            let count = schedule.counts.due_mut(due);
            *count = count.saturating_sub(1);
            schedule.counts.corrupt += 1;
            self.piggyback_state(&mut schedule, &mut batch);
            self.store.submit(permit, batch, Urgency::Now)
        };
        Ok(completion.await?)
    }
}

impl PreparedRecords {
    /// Adds the units to the schedule; called under the lock under which the batch is submitted. Returns `false` if the
    /// same message is already queued.
    pub(crate) fn enter_schedule(&self, schedule: &mut Schedule) -> bool {
        self.body.mark_referenced();
        let count = self.units.len() as u64;
        if self.hold.is_some() {
            schedule.counts.hold += count;
        } else {
            let queued = self.units.iter().filter(|unit| !schedule.insert(unit)).count();
            if queued == self.units.len() {
                return false;
            }
            schedule.counts.incoming += count;
        }
        schedule.open_message(self.id, self.units.first().map_or(0, |unit| unit.unit_count));
        schedule.enqueued += 1;
        true
    }
}

/// Adds the writes that move an unreadable unit to the corrupt units.
pub(crate) fn move_to_corrupt(
    batch: &mut Batch,
    due: &Keyspace,
    parked: &Keyspace,
    key: DueKey,
    record: Bytes,
    error: MalformedRecord,
) {
    let new_key = suspended_key(key.id, key.number);
    let corrupt = SuspendedUnit::CorruptUnit { detail: error.to_string(), next_at: key.next_at, record };
    batch.put(parked, new_key.to_vec(), encode_suspended(&new_key, &corrupt));
    batch.delete(due, key.to_bytes().to_vec());
}

fn split_into_units(
    id: QueueId,
    recipients: &[waxwing_types::Recipient],
    next_at: Timestamp,
    body_file: bool,
) -> Result<Vec<Unit>, SpoolError> {
    let too_many = |_| SpoolError::Invalid("too many recipients");
    let siblings = u16::try_from(recipients.len().div_ceil(UNIT_RECIPIENTS_MAX)).map_err(too_many)?;
    let total = u32::try_from(recipients.len()).map_err(too_many)?;
    let unit = |number: u16| {
        let first = u32::from(number) * UNIT_RECIPIENTS_MAX as u32;
        let indexes = first..total.min(first + UNIT_RECIPIENTS_MAX as u32);
        let recipients = indexes.map(|index| UnitRecipient { index, last_status: None }).collect();
        Unit { id, number, recipients, attempts: 0, next_at, version: 1, unit_count: siblings, has_body_file: body_file }
    };
    Ok((0..siblings).map(unit).collect())
}
