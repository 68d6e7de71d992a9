//! Settlement: the end of an attempt in a single atomic batch.

use waxwing_store::{Batch, Urgency, crash_point};

use crate::embedded::{Inner, Prepared};
use crate::error::SpoolError;
use crate::file_body::file_name;
use crate::record::{Parked, RecordBody, make_parked, make_unit, read_unit};
use crate::schedule::Schedule;
use crate::spool::Lease;
use crate::unit::{After, Settle, Unit, parked_key};

/// Octets counted for the deletions of a settled unit.
const DELETIONS_BYTES: usize = 512;

impl Inner {
    pub(crate) async fn settle(&self, lease: &Lease, settle: Settle) -> Result<Option<Unit>, SpoolError> {
        self.check(lease)?;
        if settle.remaining.is_empty() != matches!(settle.after, After::Gone) {
            return Err(SpoolError::Invalid("a unit is removed exactly if no recipients remain"));
        }
        let unit = settle.unit.clone();
        let tracked = {
            let mut schedule = self.schedule.lock();
            if !schedule.begin_settle(&unit) {
                return Err(SpoolError::Conflict);
            }
            schedule.version(unit.due_key())
        };
        let (submitted, prepared) = match self.begin(tracked, settle).await {
            Ok(submitted) => submitted,
            Err(error) => {
                self.schedule.lock().end_settle(&unit);
                return Err(error);
            }
        };
        crash_point("queue.before_settle_commit");
        // From here on an error means a poisoned store: the unit stays in conflict until the restart.
        submitted.completion.await?;
        crash_point("queue.after_settle_commit");
        for new in prepared {
            self.announce(new);
        }
        if let Some(file) = submitted.file {
            self.unlink(file).await;
        }
        self.schedule.lock().end_settle(&unit);
        Ok(submitted.unit)
    }

    /// Checks the unit, builds the batch and submits the batch.
    async fn begin(&self, tracked: Option<u64>, settle: Settle) -> Result<(Begun, Vec<Prepared>), SpoolError> {
        let Settle { unit, remaining, attempts, after, made: generated } = settle;
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
        let file = if unit.body_file && matches!(after, After::Gone) { self.body_file(&unit).await? } else { None };
        let next = Unit { recipients: remaining, attempts, version: unit.version.wrapping_add(1), ..unit.clone() };
        let settled = Place::of(after, next, &unit, &mut batch, self);
        let permit = self.store.reserve(batch.bytes() + DELETIONS_BYTES).await?;
        let urgency = if !prepared.is_empty() { Urgency::Now } else { Urgency::Ride };
        let mut schedule = self.schedule.lock();
        let prepared = prepared.into_iter().filter(|new| new.place(&mut schedule)).collect();
        let last = settled.enter(&unit, &mut schedule);
        batch.delete(&self.due, unit.due_key().to_bytes().to_vec());
        if let Place::Due(next) = &settled
            && next.next_at == unit.next_at
        {
            // Same key: in the batch the deletion follows the earlier insertion and would win.
            let key = next.due_key().to_bytes();
            batch.put(&self.due, key.to_vec(), make_unit(next, &key));
        }
        if last {
            batch.delete(&self.message, unit.id.to_key().to_vec());
        }
        schedule.settled += 1;
        self.ride(&mut schedule, &mut batch);
        let completion = self.store.submit(permit, batch, urgency);
        drop(schedule);
        Ok((Begun { completion, unit: settled.unit(), file: file.filter(|_| last) }, prepared))
    }

    async fn stored_version(&self, unit: &Unit) -> Result<u64, SpoolError> {
        let (due, key) = (self.due.clone(), unit.due_key());
        let record = self.bodies.blocking.run(move || due.get(&key.to_bytes())).await??.ok_or(SpoolError::Conflict)?;
        let stored = read_unit(key, &record).map_err(|error| SpoolError::Corrupt(error.to_string().into()))?;
        Ok(stored.version)
    }

    /// Returns the name of the message's body file. Without a readable record the cleanup at the next start removes the
    /// file.
    async fn body_file(&self, unit: &Unit) -> Result<Option<String>, SpoolError> {
        let (message, id) = (self.message.clone(), unit.id);
        let record = self.bodies.blocking.run(move || message.get(&id.to_key())).await??;
        let message = record.and_then(|record| crate::record::read_message(id, &record).ok());
        Ok(message.and_then(|message| match message.body {
            RecordBody::File(body) => Some(file_name(id, body.suffix)),
            RecordBody::Inside(_) => None,
        }))
    }

    /// Removes the body file of a message after the removal is synced.
    async fn unlink(&self, name: String) {
        let files = self.bodies.files.clone();
        let unlink = move || {
            crash_point("queue.before_unlink");
            let removed = files.remove(&name);
            crash_point("queue.after_unlink");
            removed.map_err(|error| (name, error))
        };
        if let Ok(Err((name, error))) = self.bodies.blocking.run(unlink).await {
            tracing::warn!(%name, %error, "a body file stays until the next start");
        }
    }
}

/// Settlement submitted to the store.
struct Begun {
    completion: waxwing_store::Completion,
    unit: Option<Unit>,
    /// Name of the file to unlink after the sync.
    file: Option<String>,
}

/// State of a unit after settlement.
enum Place {
    Nowhere,
    Due(Unit),
    Hold(Unit),
    Corrupt(Unit),
}

impl Place {
    /// Adds the unit's new record to the batch.
    fn of(after: After, mut next: Unit, old: &Unit, batch: &mut Batch, inner: &Inner) -> Self {
        let suspend = |batch: &mut Batch, parked: &Parked| {
            let key = parked_key(old.id, old.number);
            batch.put(&inner.parked, key.to_vec(), make_parked(&key, parked));
        };
        match after {
            After::Gone => Self::Nowhere,
            After::At(next_at) => {
                next.next_at = next_at;
                let key = next.due_key().to_bytes();
                batch.put(&inner.due, key.to_vec(), make_unit(&next, &key));
                Self::Due(next)
            }
            After::Hold(reason) => {
                suspend(batch, &Parked::Held { reason, unit: next.clone() });
                Self::Hold(next)
            }
            After::Corrupt(detail) => {
                suspend(batch, &Parked::CorruptMessage { detail, unit: next.clone() });
                Self::Corrupt(next)
            }
        }
    }

    /// Applies the change to the schedule; returns whether the message is removed too.
    fn enter(&self, old: &Unit, schedule: &mut Schedule) -> bool {
        schedule.remove(old.due_key());
        let count = schedule.counts.due(old.attempts);
        *count = count.saturating_sub(1);
        match self {
            Self::Nowhere => return schedule.close_unit(old),
            Self::Due(next) => {
                schedule.put(next);
                *schedule.counts.due(next.attempts) += 1;
            }
            Self::Hold(_) => schedule.counts.hold += 1,
            Self::Corrupt(_) => schedule.counts.corrupt += 1,
        }
        false
    }

    fn unit(self) -> Option<Unit> {
        match self {
            Self::Nowhere => None,
            Self::Due(unit) | Self::Hold(unit) | Self::Corrupt(unit) => Some(unit),
        }
    }
}
