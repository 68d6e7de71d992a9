//! Delivery attempt: a message for some recipients over one next hop, from the transport's call to the synced settlement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;
use waxwing_net::spawn;
use waxwing_pipeline::{Handed, Submission};
use waxwing_queue::Unit;
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, NextHop, Status, Timestamp};

use crate::attempt_end::Tried;
use crate::hooks::Hooks;
use crate::log::{self, Times};
use crate::manager::{Core, Done, Next, UnitKey};

/// Delivery unit with open attempts.
pub(crate) struct Active {
    key: UnitKey,
    pub(crate) message: Message,
    /// Progress of the unit; the lock makes attempts of one unit settle one after the other.
    standing: Mutex<Standing>,
    open: AtomicUsize,
    taken_up: Timestamp,
    number: u32,
}

/// State of a unit between the settlements of its attempts.
pub(crate) struct Standing {
    /// Unit as of the last settlement.
    pub(crate) unit: Unit,
    /// Retry time of the recipients deferred so far by attempts of the unit.
    pub(crate) due: Option<Timestamp>,
    /// Reason of a plugin for putting the remaining recipients on hold.
    pub(crate) hold: Option<String>,
    /// Messages submitted by plugins before the attempts; the first settlement commits them.
    pub(crate) sent: Vec<Submission>,
}

impl Active {
    pub(crate) fn new(unit: Unit, message: Message, attempts: usize, taken_up: Timestamp, sent: Vec<Submission>) -> Self {
        let number = unit.attempts.saturating_add(1);
        let key = (unit.id, unit.number);
        let standing = Mutex::new(Standing { unit, due: None, hold: None, sent });
        Self { key, message, standing, open: AtomicUsize::new(attempts), taken_up, number }
    }

    /// Counts one attempt as ended; returns true while others are open.
    fn leave(&self) -> bool {
        self.open.fetch_sub(1, Ordering::AcqRel) > 1
    }
}

/// Runs the hooks and the transport, logs and settles; the last attempt of a unit notifies the manager.
pub(crate) async fn run(core: Arc<Core>, active: Arc<Active>, hop: NextHop, recipients: Vec<u32>) {
    let mut panic_guard = Watched { core: &core, active: &active, others_open: None };
    let clock = &core.parts.clock;
    let started_at = clock.now();
    let attempt = Attempt {
        queue_id: active.message.id,
        hop,
        recipients,
        number: active.number,
        deadline: started_at + core.ways().settings.attempt_seconds_max,
    };
    let mut hooks = Hooks::of(&core, &attempt, &active.message);
    let result = attempt_it(&core, &attempt, &active.message, hooks.as_mut()).await;
    let standing = active.standing.lock().await;
    let others_open = active.leave();
    panic_guard.others_open = Some(others_open);
    let next = if result.cut_off {
        Next::LookAgain(standing.unit.due_key())
    } else {
        let times = Times {
            received: active.message.envelope.origin.received_at,
            active: active.taken_up,
            began: started_at,
            ended: clock.now(),
            setup: result.setup,
        };
        let dispositions = complete(&attempt, result.dispositions);
        for (index, disposition) in &dispositions {
            log::disposition(&attempt, &active.message, *index, disposition, &times);
        }
        let finished = Tried {
            attempt: &attempt,
            dispositions: &dispositions,
            hold: result.hold,
            reached: result.reached,
            others_open,
            ended_at: times.ended,
        };
        finished.settle(&core, &active.message, standing, hooks).await
    };
    if !others_open {
        tell(&core, &active, next).await;
    }
}

/// Reports to the manager the end of the unit's last attempt.
async fn tell(core: &Core, active: &Active, next: Next) {
    // The send fails only while the server stops, after the end of the manager.
    let _ = core.done.send(Done { key: active.key, next }).await;
}

/// Panic guard for transports: without a notification the unit would count as active until the next start.
struct Watched<'a> {
    core: &'a Arc<Core>,
    active: &'a Arc<Active>,
    /// Set as soon as the attempt no longer counts as open.
    others_open: Option<bool>,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.others_open.unwrap_or_else(|| self.active.leave()) {
            let (core, active) = (Arc::clone(self.core), Arc::clone(self.active));
            drop(spawn("attempt", async move {
                let due = active.standing.lock().await.unit.due_key();
                tell(&core, &active, Next::LookAgain(due)).await;
            }));
        }
    }
}

/// Calls the transport between the hooks on-send and on-reply.
async fn attempt_it(core: &Core, attempt: &Attempt, message: &Message, hooks: Option<&mut Hooks>) -> Handed {
    if let Some(suspended) = core.resting.word(&attempt.hop, core.parts.clock.now()) {
        return Handed::all(attempt, &suspended);
    }
    let Some(hooks) = hooks else { return hand_over(core, attempt, message).await };
    let mut result = match hooks.send(core).await {
        Ok(None) => hand_over(core, attempt, message).await,
        Ok(Some(head)) => hand_over(core, attempt, &Message { head, ..message.clone() }).await,
        Err(disposition) => return Handed::all(attempt, &disposition),
    };
    if !result.cut_off {
        hooks.replies(core, &attempt.hop, &mut result.dispositions).await;
    }
    result
}

async fn hand_over(core: &Core, attempt: &Attempt, message: &Message) -> Handed {
    let ways = core.ways();
    let Some(transport) = ways.transports.get(&attempt.hop.transport) else {
        let status = Status::local(EnhancedCode::new(4, 3, 5), format!("no transport {} is configured", attempt.hop.transport));
        return Handed::all(attempt, &Disposition::Deferred { status, not_before: None });
    };
    let limit = core.ways().settings.attempt_seconds_max;
    tokio::time::timeout(limit, transport.deliver(attempt, message)).await.unwrap_or_else(|_| {
        let status = Status::local(EnhancedCode::new(4, 4, 7), format!("attempt timed out after {} seconds", limit.as_secs()));
        Handed::all(attempt, &Disposition::Deferred { status, not_before: None })
    })
}

/// Returns one disposition for each recipient: recipients without one from the transport are deferred.
fn complete(attempt: &Attempt, reported: Vec<(u32, Disposition)>) -> Vec<(u32, Disposition)> {
    if reported.len() == attempt.recipients.len() && reported.iter().zip(&attempt.recipients).all(|((a, _), b)| a == b) {
        return reported;
    }
    let missing = || {
        let status = Status::local(EnhancedCode::new(4, 3, 0), "the transport returned no disposition for the recipient");
        Disposition::Deferred { status, not_before: None }
    };
    let find = |index: &u32| reported.iter().find(|(i, _)| i == index).map_or_else(missing, |(_, d)| d.clone());
    attempt.recipients.iter().map(|index| (*index, find(index))).collect()
}
