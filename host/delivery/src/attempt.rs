//! One attempt: a message for some recipients over one next hop, from the transport's call to the synced settlement.

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

/// A unit with open attempts.
pub(crate) struct Active {
    key: UnitKey,
    pub(crate) message: Message,
    /// Attempts of one unit settle one after the other.
    standing: Mutex<Standing>,
    open: AtomicUsize,
    taken_up: Timestamp,
    number: u32,
}

/// How a unit stands between the settlements of its attempts.
pub(crate) struct Standing {
    /// As it was last settled.
    pub(crate) unit: Unit,
    /// When those are tried again whom its attempts have deferred so far.
    pub(crate) due: Option<Timestamp>,
    /// Who is left waits for the operator, for this reason.
    pub(crate) hold: Option<String>,
    /// Mail that plugins sent before the attempts; the first settlement commits it.
    pub(crate) sent: Vec<Submission>,
}

impl Active {
    pub(crate) fn new(unit: Unit, message: Message, attempts: usize, taken_up: Timestamp, sent: Vec<Submission>) -> Self {
        let number = unit.attempts.saturating_add(1);
        let key = (unit.id, unit.number);
        let standing = Mutex::new(Standing { unit, due: None, hold: None, sent });
        Self { key, message, standing, open: AtomicUsize::new(attempts), taken_up, number }
    }

    /// One attempt less is open; whether others are.
    fn leave(&self) -> bool {
        self.open.fetch_sub(1, Ordering::AcqRel) > 1
    }
}

/// Tries, logs, settles; the last attempt of a unit tells the manager.
pub(crate) async fn run(core: Arc<Core>, active: Arc<Active>, hop: NextHop, recipients: Vec<u32>) {
    let mut watched = Watched { core: &core, active: &active, others_open: None };
    let clock = &core.parts.clock;
    let began = clock.now();
    let attempt = Attempt {
        queue_id: active.message.id,
        hop,
        recipients,
        number: active.number,
        deadline: began + core.ways().settings.attempt_seconds_max,
    };
    let mut hooks = Hooks::of(&core, &attempt, &active.message);
    let handed = attempt_it(&core, &attempt, &active.message, hooks.as_mut()).await;
    let standing = active.standing.lock().await;
    let others_open = active.leave();
    watched.others_open = Some(others_open);
    let next = if handed.cut_off {
        Next::LookAgain(standing.unit.due_key())
    } else {
        let times = Times {
            received: active.message.envelope.origin.received_at,
            active: active.taken_up,
            began,
            ended: clock.now(),
            setup: handed.setup,
        };
        let dispositions = complete(&attempt, handed.dispositions);
        for (index, disposition) in &dispositions {
            log::disposition(&attempt, &active.message, *index, disposition, &times);
        }
        let tried = Tried {
            attempt: &attempt,
            dispositions: &dispositions,
            hold: handed.hold,
            reached: handed.reached,
            others_open,
            ended_at: times.ended,
        };
        tried.settle(&core, &active.message, standing, hooks).await
    };
    if !others_open {
        tell(&core, &active, next).await;
    }
}

/// No attempt of the unit is open any more.
async fn tell(core: &Core, active: &Active, next: Next) {
    // The manager is gone only when the server stops.
    let _ = core.done.send(Done { key: active.key, next }).await;
}

/// Notices a panic in a transport: without a word the unit would count as active until the next start.
struct Watched<'a> {
    core: &'a Arc<Core>,
    active: &'a Arc<Active>,
    /// Known once the attempt does not count as open any more.
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

/// The transport's call, with what plugins say before and after it.
async fn attempt_it(core: &Core, attempt: &Attempt, message: &Message, hooks: Option<&mut Hooks>) -> Handed {
    if let Some(rests) = core.resting.word(&attempt.hop, core.parts.clock.now()) {
        return Handed::all(attempt, &rests);
    }
    let Some(hooks) = hooks else { return hand_over(core, attempt, message).await };
    let mut handed = match hooks.send(core).await {
        Ok(None) => hand_over(core, attempt, message).await,
        Ok(Some(head)) => hand_over(core, attempt, &Message { head, ..message.clone() }).await,
        Err(disposition) => return Handed::all(attempt, &disposition),
    };
    if !handed.cut_off {
        hooks.replies(core, &attempt.hop, &mut handed.dispositions).await;
    }
    handed
}

async fn hand_over(core: &Core, attempt: &Attempt, message: &Message) -> Handed {
    let ways = core.ways();
    let Some(transport) = ways.transports.get(&attempt.hop.transport) else {
        let status = Status::local(EnhancedCode::new(4, 3, 5), format!("no transport {} is configured", attempt.hop.transport));
        return Handed::all(attempt, &Disposition::Deferred { status, not_before: None });
    };
    let limit = core.ways().settings.attempt_seconds_max;
    tokio::time::timeout(limit, transport.deliver(attempt, message)).await.unwrap_or_else(|_| {
        let status = Status::local(EnhancedCode::new(4, 4, 7), format!("no answer within {} seconds", limit.as_secs()));
        Handed::all(attempt, &Disposition::Deferred { status, not_before: None })
    })
}

/// One disposition for each recipient: what a transport left out is deferred.
fn complete(attempt: &Attempt, said: Vec<(u32, Disposition)>) -> Vec<(u32, Disposition)> {
    if said.len() == attempt.recipients.len() && said.iter().zip(&attempt.recipients).all(|((a, _), b)| a == b) {
        return said;
    }
    let missing = || {
        let status = Status::local(EnhancedCode::new(4, 3, 0), "the transport said nothing about this recipient");
        Disposition::Deferred { status, not_before: None }
    };
    let find = |index: &u32| said.iter().find(|(i, _)| i == index).map_or_else(missing, |(_, d)| d.clone());
    attempt.recipients.iter().map(|index| (*index, find(index))).collect()
}
