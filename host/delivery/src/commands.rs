//! Inbox of the queue manager for the operator's commands.
//!
//! A command occupies the units as an attempt does: no attempt starts meanwhile, and a unit with an open attempt is left
//! alone and reported as active.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use waxwing_spool::transition::{Transition, UnitCommand, UnitTarget};
use waxwing_spool::{DueKey, ListKey, SpoolError, Unit, UnitState};
use waxwing_types::QueueId;

use crate::context::{ActiveUnits, DeliveryContext, FollowUp, UnitFinished, UnitKey};

/// Capacity of the inbox; senders wait for a free slot.
pub(crate) const COMMANDS_MAX: usize = 16;

/// Units selected by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandTarget {
    /// Single unit: queue id and number of the unit.
    Unit(QueueId, u16),
    /// All units of a message.
    Message(QueueId),
}

/// Numbers of units by the result of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandSummary {
    /// Units changed or removed.
    pub changed: usize,
    /// Units in a state in which the command has no effect.
    pub unchanged: usize,
    /// Units left alone because of an open attempt.
    pub active: usize,
}

/// Error of a command for the queue manager.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueCommandError {
    /// Queue manager stopped before the end of the command.
    #[error("the queue manager has stopped")]
    Stopped,
    /// Error of the spool; [`SpoolError::NotFound`] for a message or unit not in the queue. Other units of the message may
    /// have been changed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Command in the inbox.
pub(crate) struct QueuedCommand {
    target: CommandTarget,
    operation: UnitCommand,
    reply: oneshot::Sender<Result<CommandSummary, SpoolError>>,
}

/// Sender of commands to the queue manager. Cheap to clone.
#[derive(Clone)]
pub struct QueueManagerHandle(mpsc::Sender<QueuedCommand>);

impl QueueManagerHandle {
    /// Creates a handle and the inbox.
    pub(crate) fn new() -> (Self, mpsc::Receiver<QueuedCommand>) {
        let (sender, inbox) = mpsc::channel(COMMANDS_MAX);
        (Self(sender), inbox)
    }

    /// Applies an operator's command to the selected units. Waits for earlier commands. Changes are synced on return.
    pub async fn apply(&self, target: CommandTarget, operation: UnitCommand) -> Result<CommandSummary, QueueCommandError> {
        let (reply, answer) = oneshot::channel();
        let command = QueuedCommand { target, operation, reply };
        self.0.send(command).await.map_err(|_| QueueCommandError::Stopped)?;
        Ok(answer.await.map_err(|_| QueueCommandError::Stopped)??)
    }
}

/// Executes a command and answers the sender.
pub(crate) async fn execute(core: Arc<DeliveryContext>, active: ActiveUnits, command: QueuedCommand) {
    let QueuedCommand { target, operation, reply } = command;
    let result = apply_to_target(&core, &active, target, &operation).await;
    // A sender that has gone needs no answer.
    let _ = reply.send(result);
}

async fn apply_to_target(
    core: &DeliveryContext,
    active: &ActiveUnits,
    target: CommandTarget,
    operation: &UnitCommand,
) -> Result<CommandSummary, SpoolError> {
    let (id, wanted) = match target {
        CommandTarget::Unit(id, number) => (id, Some(number)),
        CommandTarget::Message(id) => (id, None),
    };
    let units = core.services.spool.show(id).await?.units;
    let units = units.into_iter().filter_map(|(unit, state)| Some((unit?, state)));
    let units: Vec<_> = units.filter(|(unit, _)| wanted.is_none_or(|number| number == unit.number)).collect();
    if units.is_empty() {
        return Err(SpoolError::NotFound);
    }
    let mut summary = CommandSummary::default();
    for (unit, state) in units {
        match apply_to_unit(core, active, &unit, &state, operation.clone()).await? {
            None => summary.active += 1,
            Some(Transition::Unchanged) => summary.unchanged += 1,
            Some(Transition::Due(_) | Transition::Held { .. } | Transition::Removed) => summary.changed += 1,
        }
    }
    Ok(summary)
}

/// Applies a command to a unit; `None` if an attempt is open, or has changed the unit since the unit was read.
async fn apply_to_unit(
    core: &DeliveryContext,
    active: &ActiveUnits,
    unit: &Unit,
    state: &UnitState,
    operation: UnitCommand,
) -> Result<Option<Transition>, SpoolError> {
    let key: UnitKey = (unit.id, unit.number);
    if !active.insert(key) {
        return Ok(None);
    }
    let position = match state {
        UnitState::Incoming | UnitState::Deferred => ListKey::Due(unit.due_key()),
        UnitState::Hold(_) | UnitState::Corrupt(_) => ListKey::Suspended(unit.id, unit.number),
    };
    let target = UnitTarget { key: position, version: Some(unit.version) };
    let result = core.apply_command(target, operation).await;
    let next = FollowUp::Commanded { from: unit.due_key(), due: due_key_after(unit, state, &result) };
    // The send fails only while the server stops, after the end of the manager.
    let _ = core.finished.send(UnitFinished { key, next }).await;
    match result {
        Ok(transition) => Ok(Some(transition)),
        Err(SpoolError::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the position of the unit in the due index after the command, for the next scan. The scan passed over the unit
/// while the command was under way.
fn due_key_after(unit: &Unit, state: &UnitState, result: &Result<Transition, SpoolError>) -> Option<DueKey> {
    match (result, state) {
        (Ok(Transition::Due(unit)), _) => Some(unit.due_key()),
        (Ok(Transition::Held { .. } | Transition::Removed), _) => None,
        (Ok(Transition::Unchanged) | Err(_), UnitState::Incoming | UnitState::Deferred) => Some(unit.due_key()),
        (Ok(Transition::Unchanged) | Err(_), UnitState::Hold(_) | UnitState::Corrupt(_)) => None,
    }
}
