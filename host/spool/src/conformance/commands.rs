//! Checks of the operator's commands.

use std::time::Duration;

use waxwing_types::QueueId;

use super::{Bench, END_OF_TIME, SpoolHarness, deferred, removed};
use crate::transition::{Transition, UnitCommand, UnitTarget};
use crate::{NewMessage, SpoolError, UNIT_RECIPIENTS_MAX, Unit, UnitState};

const HOUR: Duration = Duration::from_secs(3600);

impl<H: SpoolHarness> Bench<H> {
    async fn command(&self, id: QueueId, command: UnitCommand) -> Result<Transition, SpoolError> {
        let (key, unit) = self.listed(id).await;
        let lease = self.lease(id).await;
        let target = UnitTarget { key, version: unit.map(|unit| unit.version) };
        self.spool().apply_command(&lease, target, command, self.now()).await
    }

    /// Enqueues a message and defers its unit by an hour.
    async fn deferred_unit(&self) -> Unit {
        let id = self.enqueue(1).await;
        let unit = self.due(END_OF_TIME).await.into_iter().find(|unit| unit.id == id).unwrap();
        let lease = self.lease(id).await;
        self.spool().settle(&lease, deferred(&unit, self.now() + HOUR)).await.unwrap().unwrap()
    }
}

/// A held unit is not due; released, it is due at its former time and the owner is told to scan.
pub async fn hold_and_release_keep_the_schedule<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let unit = bench.deferred_unit().await;
    let hold = UnitCommand::Hold { reason: "look".to_owned() };
    let Transition::Held { unit: held, .. } = bench.command(unit.id, hold.clone()).await.unwrap() else { panic!("not held") };
    assert_eq!(held, Unit { version: unit.version + 1, ..unit.clone() });
    let bench = bench.reopen().await;
    assert!(bench.due(END_OF_TIME).await.is_empty());
    assert_eq!(bench.spool().show(unit.id).await.unwrap().units, [(Some(held), UnitState::Hold("look".to_owned()))]);
    let stats = bench.spool().stats();
    assert_eq!((stats.deferred, stats.hold), (0, 1));
    assert_eq!(bench.command(unit.id, hold).await.unwrap(), Transition::Unchanged);
    let released = bench.command(unit.id, UnitCommand::Release).await.unwrap();
    let due = Unit { version: unit.version + 2, ..unit.clone() };
    assert_eq!(released, Transition::Due(due.clone()));
    assert!(bench.spool().rescan_from(bench.spool().shard_for(unit.id)).await <= due.due_key());
    let bench = bench.reopen().await;
    assert_eq!(bench.due(END_OF_TIME).await, [due]);
    assert_eq!(bench.spool().stats().hold, 0);
}

/// A requeued unit is as new, from the deferred queue and from hold.
pub async fn requeue_forgets_attempts<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let unit = bench.deferred_unit().await;
    let held = bench.enqueue_message(NewMessage { hold: Some("look".to_owned()), ..bench.message(1) }).await;
    bench.advance(Duration::from_secs(5));
    for id in [unit.id, held] {
        bench.command(id, UnitCommand::Requeue).await.unwrap();
    }
    let bench = bench.reopen().await;
    let units = bench.due(bench.now()).await;
    assert_eq!(units.len(), 2);
    for unit in units {
        assert_eq!((unit.attempts, unit.next_at), (0, bench.now()));
        assert!(unit.recipients.iter().all(|recipient| recipient.last_status.is_none()));
    }
    let stats = bench.spool().stats();
    assert_eq!((stats.incoming, stats.deferred, stats.hold), (2, 0, 0));
}

/// A message goes with its last unit, and its body with the message.
pub async fn delete_removes_message_with_last_unit<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let message = bench.message(2 * UNIT_RECIPIENTS_MAX);
    let body = bench.write_body(message.id, 300_000).await;
    let id = bench.enqueue_message(NewMessage { body, ..message }).await;
    let held = bench.enqueue_message(NewMessage { hold: Some("look".to_owned()), ..bench.message(1) }).await;
    assert_eq!(bench.command(held, UnitCommand::Delete).await.unwrap(), Transition::Removed);
    assert!(matches!(bench.spool().load(held).await, Err(SpoolError::NotFound)));
    assert_eq!(bench.command(id, UnitCommand::Delete).await.unwrap(), Transition::Removed);
    let bench = bench.reopen().await;
    assert!(bench.spool().load(id).await.is_ok(), "a unit is left");
    assert_eq!(bench.command(id, UnitCommand::Delete).await.unwrap(), Transition::Removed);
    let bench = bench.reopen().await;
    assert!(matches!(bench.spool().load(id).await, Err(SpoolError::NotFound)));
    assert!(bench.due(END_OF_TIME).await.is_empty());
    let stats = bench.spool().stats();
    assert_eq!((stats.incoming, stats.hold), (0, 0));
}

/// A flushed unit keeps its attempts; units that are due already and units on hold do not change.
pub async fn flush_makes_units_due_now<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let unit = bench.deferred_unit().await;
    let held = bench.enqueue_message(NewMessage { hold: Some("look".to_owned()), ..bench.message(1) }).await;
    bench.advance(Duration::from_secs(5));
    let flushed = Unit { version: unit.version + 1, next_at: bench.now(), ..unit.clone() };
    assert_eq!(bench.command(unit.id, UnitCommand::Flush).await.unwrap(), Transition::Due(flushed.clone()));
    assert_eq!(bench.command(unit.id, UnitCommand::Flush).await.unwrap(), Transition::Unchanged);
    assert_eq!(bench.command(held, UnitCommand::Flush).await.unwrap(), Transition::Unchanged);
    assert_eq!(bench.spool().is_current(&flushed), Some(true));
    let bench = bench.reopen().await;
    assert_eq!(bench.due(bench.now()).await, [flushed]);
}

/// Commands of stale owners and for stale units change nothing.
pub async fn commands_check_lease_and_version<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let (key, unit) = bench.listed(id).await;
    let unit = unit.unwrap();
    let (stale, lease) = (bench.lease(id).await, bench.lease(id).await);
    let target = UnitTarget { key, version: Some(unit.version) };
    let apply = async |lease, target| bench.spool().apply_command(&lease, target, UnitCommand::Delete, bench.now()).await;
    assert!(matches!(apply(stale, target).await, Err(SpoolError::Fenced)));
    for version in [None, Some(unit.version + 1)] {
        assert!(matches!(apply(lease, UnitTarget { version, ..target }).await, Err(SpoolError::Conflict)));
    }
    let elsewhere = UnitTarget { key: crate::ListKey::Suspended(id, 0), ..target };
    assert!(matches!(apply(lease, elsewhere).await, Err(SpoolError::Conflict)));
    assert_eq!(bench.due(END_OF_TIME).await, [unit]);
    let lease = bench.lease(id).await;
    assert_eq!(apply(lease, target).await.unwrap(), Transition::Removed);
    assert!(matches!(apply(lease, target).await, Err(SpoolError::Conflict)), "a second time");
}

/// A unit without a readable record has no version; the only command with an effect is to delete it.
pub async fn unreadable_unit_can_only_be_deleted<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    bench.0.corrupt_unit(unit.due_key()).await;
    assert!(bench.due(END_OF_TIME).await.is_empty());
    let hold = UnitCommand::Hold { reason: "look".to_owned() };
    for command in [hold, UnitCommand::Release, UnitCommand::Requeue, UnitCommand::Flush] {
        assert_eq!(bench.command(id, command).await.unwrap(), Transition::Unchanged);
    }
    assert_eq!(bench.command(id, UnitCommand::Delete).await.unwrap(), Transition::Removed);
    let bench = bench.reopen().await;
    assert!(matches!(bench.spool().load(id).await, Err(SpoolError::NotFound)));
    assert_eq!(bench.spool().stats().corrupt, 0);
}

/// An attempt that was under way during a command cannot be settled.
pub async fn command_fences_an_attempt_under_way<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    bench.command(id, UnitCommand::Hold { reason: "look".to_owned() }).await.unwrap();
    let lease = bench.lease(id).await;
    assert!(matches!(bench.spool().settle(&lease, removed(&unit)).await, Err(SpoolError::Conflict)));
    assert!(bench.spool().load(id).await.is_ok());
    assert_ne!(bench.spool().is_current(&unit), Some(true));
}
