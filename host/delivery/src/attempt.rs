//! One attempt: a message for some recipients over one next hop, from the transport's call to the synced settlement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;
use waxwing_pipeline::{Handed, TraceEntry, TraceRecord};
use waxwing_queue::{After, Settle, SpoolError, Unit};
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, NextHop, ReversePath, Status, Timestamp};

use crate::bounce;
use crate::log::{self, Times};
use crate::manager::{Core, Done};
use crate::settle::{Ended, consequence};

/// A unit with open attempts.
pub(crate) struct Active {
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
        Self { message, unit: Mutex::new(unit), open: AtomicUsize::new(attempts), taken_up, number }
    }
}

/// Tries, logs, settles; the last attempt of a unit tells the manager.
pub(crate) async fn run(core: Arc<Core>, active: Arc<Active>, hop: NextHop, recipients: Vec<u32>) {
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
    settle(&core, &active, &dispositions).await;
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

async fn settle(core: &Core, active: &Active, dispositions: &[(u32, Disposition)]) {
    let mut unit = active.unit.lock().await;
    let message = &active.message;
    let others_open = active.open.fetch_sub(1, Ordering::AcqRel) > 1;
    let ended = Ended {
        unit: &unit,
        dispositions,
        others_open,
        received_at: message.envelope.origin.received_at,
        from_null: message.envelope.sender == ReversePath::Null,
        now: core.parts.clock.now(),
    };
    let consequence = consequence(&ended, &core.parts.settings);
    let dsn = match consequence.failed.is_empty() {
        true => None,
        false => bounce::report(core, message, &consequence.failed).await,
    };
    let next_at = match &consequence.after {
        After::At(at) => Some(*at),
        After::Gone | After::Hold(_) | After::Corrupt(_) => None,
    };
    let settle =
        Settle { unit: unit.clone(), remaining: consequence.remaining, attempts: active.number, after: consequence.after, dsn };
    let next_at = match core.parts.spool.settle(&core.lease, settle).await {
        Ok(Some(settled)) => {
            *unit = settled;
            next_at
        }
        Ok(None) => None,
        Err(error) => failed(message, &error),
    };
    if !others_open {
        let key = (unit.id, unit.number);
        // The manager is gone only when the server stops.
        let _ = core.done.send(Done { key, next_at }).await;
    }
}

/// The attempt stays without consequence in the spool: the message will be tried again, perhaps twice to the same recipient.
fn failed(message: &Message, error: &SpoolError) -> Option<Timestamp> {
    tracing::error!(target: "queue", "{}: an attempt can't be settled: {error}", message.id);
    None
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
