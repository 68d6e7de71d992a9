//! State of the embedded spool: batches of new messages, scans of the due index, reads of records.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_spool::{DueKey, Lease, NewBody, NewMessage, NewUnit, ShardId, SpoolError, Unit};
use waxwing_store::{Batch, Keyspace, QueuePermit, Store, Urgency};
use waxwing_types::{BodyRead, Clock, Message, QueueId, QueueIdGenerator, Timestamp};

use crate::body::{BodyStore, EmbeddedBody, record_body};
use crate::codec::MalformedRecord;
use crate::compaction::CompactionTrigger;
use crate::disk_space::DiskSpace;
use crate::error::unavailable;
use crate::file_body::FileBody;
use crate::keys::{due_key, parse_due_key, suspended_key};
use crate::new_units::{CountedBody, NewUnitChannel};
use crate::record::{
    MessageRecord, RecordBody, STATE_BYTES_MAX, SuspendedUnit, decode_message, decode_unit, encode_message, encode_suspended,
    encode_unit,
};
use crate::schedule::{Schedule, first_after};

/// Key of the lease epoch in the keyspace `meta`.
pub(crate) const EPOCH_KEY: &[u8] = b"epoch";

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

/// Result of a scan of the due index.
pub(crate) struct DueScan {
    pub(crate) units: Vec<Unit>,
    pub(crate) unreadable: Vec<(DueKey, Bytes, MalformedRecord)>,
}

impl SpoolInner {
    pub(crate) fn check_lease(&self, lease: &Lease) -> Result<(), SpoolError> {
        let current = Lease::new(ShardId::FIRST, self.epoch.load(Ordering::Acquire));
        if *lease == current { Ok(()) } else { Err(SpoolError::Fenced) }
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
        let (id, due_at) = (message.id, message.due_at());
        let record_body = record_body(id, &message.body)?;
        let units = message.units(matches!(record_body, RecordBody::File(_)))?;
        let NewMessage { envelope, header, body, tags, hold, .. } = message;
        let encoded = encode_message(id, &envelope, &tags, &header, &record_body).map_err(|e| SpoolError::Invalid(e.0))?;
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
                    let key = due_key(unit.due_key());
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
        self.store.reserve(batch.bytes() + STATE_BYTES_MAX).await.map_err(unavailable)
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
        let record = self.message.get(&id.to_key()).map_err(unavailable)?.ok_or(SpoolError::NotFound)?;
        decode_message(id, &record).map_err(|error| {
            tracing::error!(%id, %error, "a message record cannot be read");
            SpoolError::Corrupt(format!("message {id}: {error}").into())
        })
    }

    /// Reads due units from the index. Blocking.
    pub(crate) fn scan(&self, after: Option<DueKey>, until: Timestamp, limit: usize) -> Result<DueScan, SpoolError> {
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
            let (start, stop) = (due_key(from), due_key(end));
            let rows = self.due.range(Bound::Included(&start), Bound::Excluded(&stop), wanted).map_err(unavailable)?;
            let more = rows.len() == wanted;
            for (key, record) in rows {
                let Some(key) = parse_due_key(&key) else {
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
    pub(crate) fn first_due(&self, after: Option<DueKey>) -> Result<Option<Timestamp>, SpoolError> {
        let low = self.schedule.lock().low();
        let from = after.map_or(low, |after| after.next().max(low));
        let rows = self.due.range(Bound::Included(&due_key(from)), Bound::Unbounded, 1).map_err(unavailable)?;
        Ok(rows.first().and_then(|(key, _)| parse_due_key(key)).map(|key| key.next_at))
    }

    /// Moves a unit with an unreadable record to the corrupt units, with the raw record.
    pub(crate) async fn move_unreadable_to_corrupt(
        &self,
        (key, record, error): (DueKey, Bytes, MalformedRecord),
    ) -> Result<(), SpoolError> {
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
        completion.await.map_err(unavailable)
    }
}

impl PreparedRecords {
    /// Adds the units to the schedule; called under the lock under which the batch is submitted. Returns `false` if the
    /// same message is already queued.
    pub(crate) fn enter_schedule(&self, schedule: &mut Schedule) -> bool {
        if let Some(body) = self.body.engine_body::<EmbeddedBody>() {
            body.mark_referenced();
        }
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
    batch.delete(due, due_key(key).to_vec());
}
