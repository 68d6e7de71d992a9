//! Effect of the operator's commands on a unit, independent of the engine.

use waxwing_types::Timestamp;

use crate::listing_types::{ListKey, UnitState};
use crate::unit::Unit;

/// Operator's command for a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitCommand {
    /// Puts a due unit on hold, with the reason.
    Hold {
        /// Reason for the operator.
        reason: String,
    },
    /// Ends the hold; the unit is due at its former time.
    Release,
    /// Makes the unit due now, as if the message had just arrived: attempts and statuses are forgotten. Ends a hold, and tries
    /// a message again that could not be read.
    Requeue,
    /// Removes the unit without a report to the sender.
    Delete,
    /// Makes a unit that waits for its next attempt due now. A unit on hold stays on hold.
    Flush,
}

/// Unit that a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitTarget {
    /// Position of the unit in the queue listing.
    pub key: ListKey,
    /// Version of the unit as read; `None` for a unit whose record cannot be read, which can only be deleted.
    pub version: Option<u64>,
}

/// State of a unit after a command. A changed unit has the next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Command without effect in the state of the unit.
    Unchanged,
    /// Unit due at its `next_at`.
    Due(Unit),
    /// Unit on hold.
    Held {
        /// Unit in the new version.
        unit: Unit,
        /// Reason for the operator.
        reason: String,
    },
    /// Unit removed.
    Removed,
}

/// Applies a command to a unit in the given state. `now` is the time at which flushed and requeued units become due.
#[must_use]
pub fn apply(unit: &Unit, state: &UnitState, command: &UnitCommand, now: Timestamp) -> Transition {
    let next = || Unit { version: unit.version.wrapping_add(1), ..unit.clone() };
    match (command, state) {
        (UnitCommand::Delete, _) => Transition::Removed,
        (UnitCommand::Hold { reason }, UnitState::Incoming | UnitState::Deferred) => {
            Transition::Held { unit: next(), reason: reason.clone() }
        }
        (UnitCommand::Release, UnitState::Hold(_)) => Transition::Due(next()),
        (UnitCommand::Requeue, _) => {
            let mut unit = Unit { attempts: 0, next_at: now, ..next() };
            for recipient in &mut unit.recipients {
                recipient.last_status = None;
            }
            Transition::Due(unit)
        }
        (UnitCommand::Flush, UnitState::Incoming | UnitState::Deferred) if unit.next_at > now => {
            Transition::Due(Unit { next_at: now, ..next() })
        }
        (UnitCommand::Hold { .. }, UnitState::Hold(_) | UnitState::Corrupt(_))
        | (UnitCommand::Release, UnitState::Incoming | UnitState::Deferred | UnitState::Corrupt(_))
        | (UnitCommand::Flush, _) => Transition::Unchanged,
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::{EnhancedCode, QueueId, Status};

    use super::*;
    use crate::unit::UnitRecipient;

    const NOW: Timestamp = Timestamp::from_millis(1000);

    fn unit(next_at: u64) -> Unit {
        let last_status = Some(Status::local(EnhancedCode::new(4, 4, 1), "no answer"));
        Unit {
            id: QueueId::from_u64(7),
            number: 0,
            recipients: vec![UnitRecipient { index: 0, last_status }],
            attempts: 3,
            next_at: Timestamp::from_millis(next_at),
            version: 5,
            unit_count: 1,
            has_body_file: false,
        }
    }

    fn states() -> [UnitState; 4] {
        [UnitState::Incoming, UnitState::Deferred, UnitState::Hold("spam".to_owned()), UnitState::Corrupt("no CRC".to_owned())]
    }

    #[test]
    fn hold_applies_to_due_units_only_and_release_to_held_units_only() {
        let unit = unit(5000);
        let held = Transition::Held { unit: Unit { version: 6, ..unit.clone() }, reason: "look".to_owned() };
        let due = Transition::Due(Unit { version: 6, ..unit.clone() });
        let hold = UnitCommand::Hold { reason: "look".to_owned() };
        let after = |command: &UnitCommand| states().map(|state| apply(&unit, &state, command, NOW));
        assert_eq!(after(&hold), [held.clone(), held, Transition::Unchanged, Transition::Unchanged]);
        assert_eq!(
            after(&UnitCommand::Release),
            [Transition::Unchanged, Transition::Unchanged, due, Transition::Unchanged],
            "the schedule is kept"
        );
    }

    #[test]
    fn flush_makes_waiting_units_due_and_leaves_the_attempts() {
        let due = Transition::Due(Unit { version: 6, next_at: NOW, ..unit(5000) });
        let after = |unit: Unit| states().map(|state| apply(&unit, &state, &UnitCommand::Flush, NOW));
        assert_eq!(after(unit(5000)), [due.clone(), due, Transition::Unchanged, Transition::Unchanged]);
        assert_eq!(after(unit(1000)), [const { Transition::Unchanged }; 4], "due already");
    }

    #[test]
    fn requeue_starts_again_from_every_state() {
        for state in states() {
            let Transition::Due(next) = apply(&unit(5000), &state, &UnitCommand::Requeue, NOW) else { panic!("{state:?}") };
            assert_eq!((next.attempts, next.next_at, next.version), (0, NOW, 6));
            assert!(next.recipients.iter().all(|recipient| recipient.last_status.is_none()));
        }
    }

    #[test]
    fn delete_removes_from_every_state() {
        for state in states() {
            assert_eq!(apply(&unit(5000), &state, &UnitCommand::Delete, NOW), Transition::Removed);
        }
    }
}
