//! Settlement: the end of an attempt in a single atomic batch.

use waxwing_spool::{Lease, NextState, Settlement, SpoolError, Unit};
use waxwing_store::{Batch, Urgency, crash_point};
use waxwing_types::QueueId;

use crate::error::unavailable;
use crate::file_body::body_file_name;
use crate::inner::{PreparedRecords, SpoolInner};
use crate::keys::{due_key, suspended_key};
use crate::record::{RecordBody, SuspendedUnit, decode_unit, encode_suspended, encode_unit};
use crate::schedule::Schedule;

/// Octets counted for the deletions of a settled unit.
pub(crate) const DELETIONS_BYTES: usize = 512;

impl SpoolInner {
    pub(crate) async fn settle(&self, lease: &Lease, settle: Settlement) -> Result<Option<Unit>, SpoolError> {
        self.check_lease(lease)?;
        settle.check()?;
        let unit = settle.unit.clone();
        let version = (unit.id, unit.number, unit.version);
        let tracked = {
            let mut schedule = self.schedule.lock();
            if !schedule.begin_settle(version) {
                return Err(SpoolError::Conflict);
            }
            schedule.tracked_version(unit.due_key())
        };
        let (submitted, prepared) = match self.submit_settlement(tracked, settle).await {
            Ok(submitted) => submitted,
            Err(error) => {
                self.schedule.lock().end_settle(version);
                return Err(error);
            }
        };
        crash_point("queue.before_settle_commit");
        // From here on an error means a poisoned store: the unit stays in conflict until the restart.
        submitted.completion.await.map_err(unavailable)?;
        crash_point("queue.after_settle_commit");
        for new in prepared {
            self.notify_owner(new);
        }
        if let Some(file) = submitted.file {
            self.unlink_body_file(file).await;
        }
        self.schedule.lock().end_settle(version);
        Ok(submitted.unit)
    }

    /// Checks the unit, builds the batch and submits the batch.
    async fn submit_settlement(
        &self,
        tracked: Option<u64>,
        settle: Settlement,
    ) -> Result<(SubmittedSettlement, Vec<PreparedRecords>), SpoolError> {
        let Settlement { unit, remaining, attempts, next_state: after, generated } = settle;
        let version = match tracked {
            Some(version) => version,
            None => self.stored_version(&unit).await?,
        };
        if version != unit.version {
            return Err(SpoolError::Conflict);
        }
        let mut batch = Batch::with_capacity(4);
        let prepared = self.prepare_all(generated, &mut batch)?;
        // Only at submission is it known whether the unit is the last of its message: units of a message settle
        // concurrently.
        let file =
            if unit.has_body_file && matches!(after, NextState::Removed) { self.body_file_name(unit.id).await? } else { None };
        let next = Unit { recipients: remaining, attempts, version: unit.version.wrapping_add(1), ..unit.clone() };
        let settled = SettledUnit::from_next_state(after, next, &unit, &mut batch, self);
        let permit = self.store.reserve(batch.bytes() + DELETIONS_BYTES).await.map_err(unavailable)?;
        let urgency = if !prepared.is_empty() { Urgency::Now } else { Urgency::Lazy };
        let mut schedule = self.schedule.lock();
        let prepared = prepared.into_iter().filter(|new| new.enter_schedule(&mut schedule)).collect();
        let last = settled.enter_schedule(&unit, &mut schedule);
        batch.delete(&self.due, due_key(unit.due_key()).to_vec());
        if let SettledUnit::Due(next) = &settled
            && next.next_at == unit.next_at
        {
            // Same key: in the batch the deletion follows the earlier insertion and would win.
            let key = due_key(next.due_key());
            batch.put(&self.due, key.to_vec(), encode_unit(next, &key));
        }
        if last {
            batch.delete(&self.message, unit.id.to_key().to_vec());
        }
        schedule.settled += 1;
        self.piggyback_state(&mut schedule, &mut batch);
        let completion = self.store.submit(permit, batch, urgency);
        drop(schedule);
        Ok((SubmittedSettlement { completion, unit: settled.into_unit(), file: file.filter(|_| last) }, prepared))
    }

    async fn stored_version(&self, unit: &Unit) -> Result<u64, SpoolError> {
        let (due, key) = (self.due.clone(), unit.due_key());
        let record = self.bodies.blocking.run(move || due.get(&due_key(key))).await?;
        let record = record.map_err(unavailable)?.ok_or(SpoolError::Conflict)?;
        let stored = decode_unit(key, &record).map_err(|error| SpoolError::Corrupt(error.to_string().into()))?;
        Ok(stored.version)
    }

    /// Returns the name of the message's body file. Without a readable record the cleanup at the next start removes the
    /// file.
    pub(crate) async fn body_file_name(&self, id: QueueId) -> Result<Option<String>, SpoolError> {
        let message = self.message.clone();
        let record = self.bodies.blocking.run(move || message.get(&id.to_key())).await?.map_err(unavailable)?;
        let message = record.and_then(|record| crate::record::decode_message(id, &record).ok());
        Ok(message.and_then(|message| match message.body {
            RecordBody::File(body) => Some(body_file_name(id, body.suffix)),
            RecordBody::Inline(_) => None,
        }))
    }

    /// Removes the body file of a message after the removal is synced.
    pub(crate) async fn unlink_body_file(&self, name: String) {
        let files = self.bodies.files.clone();
        let unlink = move || {
            crash_point("queue.before_unlink");
            let removed = files.remove(&name);
            crash_point("queue.after_unlink");
            removed.map_err(|error| (name, error))
        };
        if let Ok(Err((name, error))) = self.bodies.blocking.run(unlink).await {
            tracing::warn!(file = %name, %error, "a body file stays until the next start");
        }
    }
}

/// Settlement submitted to the store.
struct SubmittedSettlement {
    completion: waxwing_store::Completion,
    unit: Option<Unit>,
    /// Name of the file to unlink after the sync.
    file: Option<String>,
}

/// State of a unit after settlement.
enum SettledUnit {
    Removed,
    Due(Unit),
    Hold(Unit),
    Corrupt(Unit),
}

impl SettledUnit {
    /// Adds the unit's new record to the batch.
    fn from_next_state(after: NextState, mut next: Unit, old: &Unit, batch: &mut Batch, inner: &SpoolInner) -> Self {
        let suspend = |batch: &mut Batch, parked: &SuspendedUnit| {
            let key = suspended_key(old.id, old.number);
            batch.put(&inner.suspended, key.to_vec(), encode_suspended(&key, parked));
        };
        match after {
            NextState::Removed => Self::Removed,
            NextState::RetryAt(next_at) => {
                next.next_at = next_at;
                let key = due_key(next.due_key());
                batch.put(&inner.due, key.to_vec(), encode_unit(&next, &key));
                Self::Due(next)
            }
            NextState::Hold(reason) => {
                suspend(batch, &SuspendedUnit::Held { reason, unit: next.clone() });
                Self::Hold(next)
            }
            NextState::Corrupt(detail) => {
                suspend(batch, &SuspendedUnit::CorruptMessage { detail, unit: next.clone() });
                Self::Corrupt(next)
            }
        }
    }

    /// Applies the change to the schedule; returns whether the message is removed too.
    fn enter_schedule(&self, old: &Unit, schedule: &mut Schedule) -> bool {
        schedule.remove(old.due_key());
        let count = schedule.counts.due_mut(old.attempts);
        *count = count.saturating_sub(1);
        match self {
            Self::Removed => return schedule.close_unit(old.id),
            Self::Due(next) => {
                schedule.insert(next);
                *schedule.counts.due_mut(next.attempts) += 1;
            }
            Self::Hold(_) => schedule.counts.hold += 1,
            Self::Corrupt(_) => schedule.counts.corrupt += 1,
        }
        false
    }

    fn into_unit(self) -> Option<Unit> {
        match self {
            Self::Removed => None,
            Self::Due(unit) | Self::Hold(unit) | Self::Corrupt(unit) => Some(unit),
        }
    }
}
