//! Units of unreadable messages: moved to the corrupt queue.

use std::sync::Arc;

use waxwing_spool::{NextState, Settlement, SpoolError, Unit};

use crate::context::{DeliveryContext, FollowUp, UnitFinished};

/// Moves a unit to the corrupt queue.
pub(crate) async fn move_to_corrupt(core: &DeliveryContext, unit: Unit, why: &str) -> Result<(), SpoolError> {
    tracing::error!(target: "queue", "{}: moved to the corrupt queue: {why}", unit.id);
    let settle = Settlement {
        remaining: unit.recipients.clone(),
        attempts: unit.attempts,
        next_state: NextState::Corrupt(why.to_owned()),
        unit,
        generated: Vec::new(),
    };
    core.settle(settle).await.map(drop)
}

/// Moves a unit to the corrupt queue and notifies the manager.
pub(crate) async fn move_to_corrupt_and_notify(core: Arc<DeliveryContext>, unit: Unit) {
    let (key, due) = ((unit.id, unit.number), unit.due_key());
    let next = match move_to_corrupt(&core, unit, "the envelope lacks recipients of the unit").await {
        Ok(()) => FollowUp::Nothing,
        Err(error) => {
            tracing::error!(target: "queue", "{}: moving to the corrupt queue failed: {error}", due.id);
            FollowUp::Rescan(due)
        }
    };
    // The send fails only while the server stops, after the end of the manager.
    let _ = core.finished.send(UnitFinished { key, next }).await;
}
