//! Commands of the operator in the inbox of the queue manager.

use waxwing_spool::transition::UnitCommand;
use waxwing_spool::{SpoolError, Unit, UnitState};

use super::*;
use crate::commands::{CommandSummary, CommandTarget, QueueCommandError};

const CHANGED: CommandSummary = CommandSummary { changed: 1, unchanged: 0, active: 0 };
const UNCHANGED: CommandSummary = CommandSummary { changed: 0, unchanged: 1, active: 0 };

impl DeliveryHarness {
    async fn only_unit(&self) -> (Unit, UnitState) {
        let entry = self.spool.list(None, 10).await.unwrap().entries.remove(0);
        (entry.unit.unwrap(), entry.state)
    }

    /// Waits for the end of all attempts and commands.
    async fn idle(&self) {
        while self.active.count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn command(&self, id: waxwing_types::QueueId, command: UnitCommand) -> Result<CommandSummary, QueueCommandError> {
        self.idle().await;
        self.handle.apply(CommandTarget::Message(id), command).await
    }
}

#[tokio::test]
async fn a_deferred_unit_is_held_released_flushed_and_deleted() {
    let house = harness(|_| Some(Reply::fixed(450, (4, 0, 0), "later")), by_mx).await;
    house.send("a@us.test", &["x@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let (unit, _) = house.only_unit().await;
    let hold = UnitCommand::Hold { reason: "look".to_owned() };
    assert_eq!(house.command(unit.id, hold).await.unwrap(), CHANGED);
    assert_eq!(house.only_unit().await.1, UnitState::Hold("look".to_owned()));
    assert_eq!(house.command(unit.id, UnitCommand::Flush).await.unwrap(), UNCHANGED, "on hold");
    assert_eq!(house.command(unit.id, UnitCommand::Release).await.unwrap(), CHANGED);
    let (released, state) = house.only_unit().await;
    assert_eq!((released.next_at, released.attempts, state), (unit.next_at, 1, UnitState::Deferred));

    assert_eq!(house.command(unit.id, UnitCommand::Flush).await.unwrap(), CHANGED);
    let flushed = async {
        while house.only_unit().await.0.attempts < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), flushed).await.expect("an attempt at once");

    assert_eq!(house.command(unit.id, UnitCommand::Delete).await.unwrap(), CHANGED);
    assert!(house.spool.list(None, 10).await.unwrap().entries.is_empty());
    let gone = house.command(unit.id, UnitCommand::Delete).await;
    assert!(matches!(gone, Err(QueueCommandError::Spool(SpoolError::NotFound))), "{gone:?}");
}

#[tokio::test]
async fn a_unit_with_an_open_attempt_is_left_alone() {
    let house = harness(|_| Some(Reply::fixed(450, (4, 0, 0), "later")), by_mx).await;
    house.send("a@us.test", &["x@mx.example"], "x\r\n").await;
    house.settled(1).await;
    house.idle().await;
    let (unit, _) = house.only_unit().await;
    assert!(house.active.insert((unit.id, unit.number)), "occupied as by an attempt");
    let target = CommandTarget::Unit(unit.id, unit.number);
    let summary = house.handle.apply(target, UnitCommand::Delete).await.unwrap();
    assert_eq!(summary, CommandSummary { active: 1, ..CommandSummary::default() });
    assert_eq!(house.only_unit().await.0, unit);
    house.active.remove((unit.id, unit.number));
    assert_eq!(house.handle.apply(target, UnitCommand::Delete).await.unwrap(), CHANGED);
}

#[tokio::test]
async fn a_stopped_manager_answers_so() {
    let house = harness(|_| None, by_mx).await;
    let handle = house.handle.clone();
    house.stop.trigger();
    house.manager.await.unwrap();
    let result = handle.apply(CommandTarget::Message(waxwing_types::QueueId::from_u64(1)), UnitCommand::Flush).await;
    assert!(matches!(result, Err(QueueCommandError::Stopped)), "{result:?}");
}
