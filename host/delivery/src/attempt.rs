//! One attempt: a message for some recipients over one next hop, from the transport's call to the synced settlement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use waxwing_net::spawn;
use waxwing_pipeline::{Handed, TraceEntry, TraceRecord};
use waxwing_queue::{After, Settle, SpoolError, Unit};
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, NextHop, ReversePath, Status, Timestamp};

use crate::bounce::{self, NotNow};
use crate::log::{self, Times};
use crate::manager::{Core, Done, Next, UnitKey};
use crate::settle::{Consequence, Ended, consequence};

/// Tries to write down what an attempt did, when files or disk fail: the message may have been delivered.
const SETTLE_RETRIES_MAX: u32 = 5;
/// Between two of them.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// A unit with open attempts.
pub(crate) struct Active {
    key: UnitKey,
    message: Message,
    /// As it was last settled; attempts of one unit settle one after the other.
    unit: Mutex<Unit>,
    open: AtomicUsize,
    taken_up: Timestamp,
    number: u32,
}

impl Active {
    pub(crate) fn new(unit: Unit, message: Message, attempts: usize, taken_up: Timestamp) -> Self {
        let number = unit.attempts.saturating_add(1);
        let key = (unit.id, unit.number);
        Self { key, message, unit: Mutex::new(unit), open: AtomicUsize::new(attempts), taken_up, number }
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
        deadline: began + core.parts.settings.attempt_seconds_max,
    };
    let handed = hand_over(&core, &attempt, &active.message).await;
    let unit = active.unit.lock().await;
    let others_open = active.leave();
    watched.others_open = Some(others_open);
    let next = if handed.cut_off {
        Next::LookAgain(unit.due_key())
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
        trace(&core, &attempt, &active.message, &dispositions, &times);
        settle(&core, &active, unit, others_open, &dispositions).await
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
                let due = active.unit.lock().await.due_key();
                tell(&core, &active, Next::LookAgain(due)).await;
            }));
        }
    }
}

async fn hand_over(core: &Core, attempt: &Attempt, message: &Message) -> Handed {
    let Some(transport) = core.parts.transports.get(&attempt.hop.transport) else {
        let status = Status::local(EnhancedCode::new(4, 3, 5), format!("no transport {}", attempt.hop.transport));
        return Handed::all(attempt, &Disposition::Deferred { status, not_before: None });
    };
    let limit = core.parts.settings.attempt_seconds_max;
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

async fn settle(
    core: &Core,
    active: &Active,
    mut unit: MutexGuard<'_, Unit>,
    others_open: bool,
    dispositions: &[(u32, Disposition)],
) -> Next {
    let mut retries = 0;
    loop {
        let (settle, next) = settlement(core, active, &unit, others_open, dispositions).await;
        match core.parts.spool.settle(&core.lease, settle).await {
            Ok(Some(settled)) => {
                *unit = settled;
                return next;
            }
            Ok(None) => return Next::Nothing,
            Err(error @ (SpoolError::Io(_) | SpoolError::Full { .. })) if retries < SETTLE_RETRIES_MAX => {
                retries += 1;
                tracing::warn!(target: "queue", "{}: an attempt can't be settled yet: {error}", unit.id);
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            Err(error) => {
                // Without consequence in the spool the message is tried again, perhaps twice to the same recipient.
                tracing::error!(target: "queue", "{}: an attempt can't be settled: {error}", unit.id);
                return Next::LookAgain(unit.due_key());
            }
        }
    }
}

/// What the attempt means for its unit, with the report that is due.
async fn settlement(
    core: &Core,
    active: &Active,
    unit: &Unit,
    others_open: bool,
    dispositions: &[(u32, Disposition)],
) -> (Settle, Next) {
    let message = &active.message;
    let settings = &core.parts.settings;
    let ended = Ended {
        unit,
        dispositions,
        others_open,
        received_at: message.envelope.origin.received_at,
        from_null: message.envelope.sender == ReversePath::Null,
        now: core.parts.clock.now(),
    };
    let mut consequence = consequence(&ended, settings);
    let mut made = Vec::new();
    if !consequence.failed.is_empty() {
        match bounce::report(core, message, &consequence.failed).await {
            Ok(report) => made.extend(report),
            Err(NotNow(why)) => {
                tracing::warn!(target: "bounce", "{}: the sender can't be told yet: {why}", message.id);
                consequence = consequence.without_report(&ended, settings);
            }
        }
    }
    let next = match &consequence.after {
        After::At(at) => Next::DueAt(*at),
        After::Gone | After::Hold(_) | After::Corrupt(_) => Next::Nothing,
    };
    let Consequence { remaining, after, failed: _ } = consequence;
    (Settle { unit: unit.clone(), remaining, attempts: active.number, after, made }, next)
}

fn trace(core: &Core, attempt: &Attempt, message: &Message, dispositions: &[(u32, Disposition)], times: &Times) {
    let envelope = &message.envelope;
    let entry = |(index, disposition): &(u32, Disposition)| {
        let to = envelope.recipients.get(*index as usize).map(|r| r.address.to_string()).unwrap_or_default();
        let status = disposition.status();
        let word = match disposition {
            Disposition::Delivered(_) => "delivered",
            Disposition::Deferred { .. } => "deferred",
            Disposition::Failed(_) => "failed",
        };
        let result = format!("{word} {} {}", status.enhanced, status.text);
        TraceEntry::step(times.ended, &attempt.hop.transport, "attempt", to, result)
    };
    core.parts.trace.record(TraceRecord {
        id: attempt.queue_id.to_string(),
        at: times.ended,
        part: "delivery".to_owned(),
        peer: attempt.hop.to_string(),
        sender: envelope.sender.to_string(),
        recipients: Vec::new(),
        size: message.size(),
        result: format!("attempt {}", attempt.number),
        entries: dispositions.iter().map(entry).collect(),
    });
}
