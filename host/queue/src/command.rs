//! Operator's commands on units: a single atomic batch per command.

use waxwing_spool::transition::{Transition, UnitCommand, UnitTarget, apply};
use waxwing_spool::{Lease, ListKey, SpoolError, Unit, UnitState};
use waxwing_store::{Batch, Urgency};
use waxwing_types::{QueueId, Timestamp};

use crate::error::unavailable;
use crate::inner::SpoolInner;
use crate::keys::{due_key, suspended_key};
use crate::listing::{due_state, suspended_state};
use crate::record::{SuspendedUnit, encode_suspended, encode_unit};
use crate::schedule::Schedule;
use crate::settle::DELETIONS_BYTES;

/// Unit at a position of the listing. The unit is none if the record cannot be read.
struct StoredUnit {
    id: QueueId,
    key: ListKey,
    unit: Option<Unit>,
    state: UnitState,
}

impl SpoolInner {
    pub(crate) async fn apply_command(
        &self,
        lease: &Lease,
        target: UnitTarget,
        command: &UnitCommand,
        now: Timestamp,
    ) -> Result<Transition, SpoolError> {
        self.check_lease(lease)?;
        let (id, number) = match target.key {
            ListKey::Suspended(id, number) => (id, number),
            ListKey::Due(key) => (key.id, key.number),
        };
        let version = (id, number, target.version.unwrap_or(0));
        if !self.schedule.lock().begin_settle(version) {
            return Err(SpoolError::Conflict);
        }
        match self.submit_command(target, command, now).await {
            Ok(SubmittedCommand { completion: None, transition, .. }) => {
                self.schedule.lock().end_settle(version);
                Ok(transition)
            }
            Ok(SubmittedCommand { completion: Some(completion), transition, file }) => {
                // An error means a poisoned store: the unit stays in conflict until the restart.
                completion.await.map_err(unavailable)?;
                if let Some(file) = file {
                    self.unlink_body_file(file).await;
                }
                self.schedule.lock().end_settle(version);
                if let Transition::Due(unit) = &transition {
                    self.new_units.request_rescan(unit.due_key());
                }
                Ok(transition)
            }
            Err(error) => {
                self.schedule.lock().end_settle(version);
                Err(error)
            }
        }
    }

    /// Reads the unit, builds the batch and submits the batch.
    async fn submit_command(
        &self,
        target: UnitTarget,
        command: &UnitCommand,
        now: Timestamp,
    ) -> Result<SubmittedCommand, SpoolError> {
        let stored = self.stored_unit(target.key).await?;
        if stored.unit.as_ref().map(|unit| unit.version) != target.version {
            return Err(SpoolError::Conflict);
        }
        let transition = match (&stored.unit, command) {
            (Some(unit), command) => apply(unit, &stored.state, command, now),
            (None, UnitCommand::Delete) => Transition::Removed,
            (None, UnitCommand::Hold { .. } | UnitCommand::Release | UnitCommand::Requeue | UnitCommand::Flush) => {
                Transition::Unchanged
            }
        };
        let mut batch = Batch::with_capacity(4);
        match target.key {
            ListKey::Due(key) => batch.delete(&self.due, due_key(key).to_vec()),
            ListKey::Suspended(id, number) => batch.delete(&self.suspended, suspended_key(id, number).to_vec()),
        }
        match &transition {
            Transition::Unchanged => return Ok(SubmittedCommand { completion: None, transition, file: None }),
            Transition::Removed => {}
            Transition::Due(unit) => {
                let key = due_key(unit.due_key());
                batch.put(&self.due, key.to_vec(), encode_unit(unit, &key));
            }
            Transition::Held { unit, reason } => {
                let key = suspended_key(unit.id, unit.number);
                let held = SuspendedUnit::Held { reason: reason.clone(), unit: unit.clone() };
                batch.put(&self.suspended, key.to_vec(), encode_suspended(&key, &held));
            }
        }
        let may_have_file = stored.unit.as_ref().is_none_or(|unit| unit.has_body_file);
        let file = if transition == Transition::Removed && may_have_file { self.body_file_name(stored.id).await? } else { None };
        let permit = self.store.reserve(batch.bytes() + DELETIONS_BYTES).await.map_err(unavailable)?;
        let mut schedule = self.schedule.lock();
        let last = stored.change_schedule(&transition, &mut schedule);
        if last {
            batch.delete(&self.message, stored.id.to_key().to_vec());
        }
        self.piggyback_state(&mut schedule, &mut batch);
        let completion = Some(self.store.submit(permit, batch, Urgency::Now));
        drop(schedule);
        Ok(SubmittedCommand { completion, transition, file: file.filter(|_| last) })
    }

    /// Reads the unit at a position of the listing.
    async fn stored_unit(&self, key: ListKey) -> Result<StoredUnit, SpoolError> {
        let (due, suspended) = (self.due.clone(), self.suspended.clone());
        let read = move || match key {
            ListKey::Due(at) => Ok(due.get(&due_key(at))?.map(|record| (at.id, due_state(at, &record)))),
            ListKey::Suspended(id, number) => {
                let at = suspended_key(id, number);
                Ok(suspended.get(&at)?.map(|record| (id, suspended_state(&at, id, number, &record))))
            }
        };
        let (id, (unit, state)) = self.bodies.blocking.run(read).await?.map_err(unavailable)?.ok_or(SpoolError::Conflict)?;
        Ok(StoredUnit { id, key, unit, state })
    }
}

/// Command submitted to the store.
struct SubmittedCommand {
    /// None if nothing is to be written.
    completion: Option<waxwing_store::Completion>,
    transition: Transition,
    /// Name of the file to unlink after the sync.
    file: Option<String>,
}

impl StoredUnit {
    /// Applies the change to the schedule; returns whether the message is removed too.
    fn change_schedule(&self, transition: &Transition, schedule: &mut Schedule) -> bool {
        if let ListKey::Due(key) = self.key {
            schedule.remove(key);
        }
        let counts = &mut schedule.counts;
        let count = match (self.key, &self.state) {
            (ListKey::Due(_), UnitState::Incoming) => &mut counts.incoming,
            (ListKey::Due(_), UnitState::Deferred | UnitState::Hold(_) | UnitState::Corrupt(_)) => &mut counts.deferred,
            (ListKey::Suspended(..), UnitState::Hold(_)) => &mut counts.hold,
            (ListKey::Suspended(..), UnitState::Corrupt(_) | UnitState::Incoming | UnitState::Deferred) => &mut counts.corrupt,
        };
        *count = count.saturating_sub(1);
        match transition {
            Transition::Unchanged => {}
            Transition::Removed => return schedule.close_unit(self.id),
            Transition::Due(unit) => {
                schedule.insert(unit);
                *schedule.counts.due_mut(unit.attempts) += 1;
            }
            Transition::Held { .. } => schedule.counts.hold += 1,
        }
        false
    }
}
