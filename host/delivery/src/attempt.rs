//! Delivery attempt: a message for some recipients over one next hop, from the transport's call to the synced settlement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;
use waxwing_net::spawn;
use waxwing_pipeline::{DeliveryResult, Submission};
use waxwing_spool::Unit;
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, NextHop, Status, Timestamp};

use crate::attempt_hooks::AttemptHooks;
use crate::attempt_log::{self, AttemptTimes};
use crate::context::{DeliveryContext, FollowUp, UnitFinished, UnitKey};
use crate::settlement::FinishedAttempt;

/// Delivery unit with open attempts.
pub(crate) struct OpenUnit {
    key: UnitKey,
    pub(crate) message: Message,
    /// Progress of the unit; the lock makes attempts of one unit settle one after the other.
    progress: Mutex<UnitProgress>,
    open_attempts: AtomicUsize,
    activated_at: Timestamp,
    attempt_number: u32,
}

/// State of a unit between the settlements of its attempts.
pub(crate) struct UnitProgress {
    /// Unit as of the last settlement.
    pub(crate) unit: Unit,
    /// Retry time of the recipients deferred so far by attempts of the unit.
    pub(crate) retry_at: Option<Timestamp>,
    /// Reason of a plugin for putting the remaining recipients on hold.
    pub(crate) hold: Option<String>,
    /// Messages submitted by plugins before the attempts; the first settlement commits them.
    pub(crate) submissions: Vec<Submission>,
}

impl OpenUnit {
    pub(crate) fn new(unit: Unit, message: Message, attempts: usize, taken_up: Timestamp, sent: Vec<Submission>) -> Self {
        let number = unit.attempts.saturating_add(1);
        let key = (unit.id, unit.number);
        let progress = Mutex::new(UnitProgress { unit, retry_at: None, hold: None, submissions: sent });
        Self { key, message, progress, open_attempts: AtomicUsize::new(attempts), activated_at: taken_up, attempt_number: number }
    }

    /// Counts one attempt as ended; returns true while others are open.
    fn close_one(&self) -> bool {
        self.open_attempts.fetch_sub(1, Ordering::AcqRel) > 1
    }
}

/// Runs the hooks and the transport, logs and settles; the last attempt of a unit notifies the manager.
pub(crate) async fn run_attempt(core: Arc<DeliveryContext>, active: Arc<OpenUnit>, hop: NextHop, recipients: Vec<u32>) {
    let mut panic_guard = AttemptPanicGuard { context: &core, unit: &active, others_open: None };
    let clock = &core.services.clock;
    let started_at = clock.now();
    let attempt = Attempt {
        queue_id: active.message.id,
        next_hop: hop,
        recipients,
        number: active.attempt_number,
        deadline: started_at + core.routing().settings.attempt_time_max,
    };
    let mut hooks = AttemptHooks::for_attempt(&core, &attempt, &active.message);
    let result = run_hooks_and_deliver(&core, &attempt, &active.message, hooks.as_mut()).await;
    let progress = active.progress.lock().await;
    let others_open = active.close_one();
    panic_guard.others_open = Some(others_open);
    let next = if result.aborted {
        FollowUp::Rescan(progress.unit.due_key())
    } else {
        let times = AttemptTimes {
            received_at: active.message.envelope.origin.received_at,
            activated_at: active.activated_at,
            started_at,
            ended_at: clock.now(),
            setup: result.setup_time,
        };
        let dispositions = fill_missing_dispositions(&attempt, result.dispositions);
        for (index, disposition) in &dispositions {
            attempt_log::log_disposition(&attempt, &active.message, *index, disposition, &times);
        }
        let finished = FinishedAttempt {
            attempt: &attempt,
            dispositions: &dispositions,
            hold: result.hold,
            dsn_action: result.final_dsn,
            others_open,
            ended_at: times.ended_at,
        };
        finished.settle(&core, &active.message, progress, hooks).await
    };
    if !others_open {
        notify_manager(&core, &active, next).await;
    }
}

/// Reports to the manager the end of the unit's last attempt.
async fn notify_manager(core: &DeliveryContext, active: &OpenUnit, next: FollowUp) {
    // The send fails only while the server stops, after the end of the manager.
    let _ = core.finished.send(UnitFinished { key: active.key, next }).await;
}

/// Panic guard for transports: without a notification the unit would count as active until the next start.
struct AttemptPanicGuard<'a> {
    context: &'a Arc<DeliveryContext>,
    unit: &'a Arc<OpenUnit>,
    /// Set as soon as the attempt no longer counts as open.
    others_open: Option<bool>,
}

impl Drop for AttemptPanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.others_open.unwrap_or_else(|| self.unit.close_one()) {
            let (core, active) = (Arc::clone(self.context), Arc::clone(self.unit));
            drop(spawn("attempt", async move {
                let due = active.progress.lock().await.unit.due_key();
                notify_manager(&core, &active, FollowUp::Rescan(due)).await;
            }));
        }
    }
}

/// Calls the transport between the hooks on-send and on-reply.
async fn run_hooks_and_deliver(
    core: &DeliveryContext,
    attempt: &Attempt,
    message: &Message,
    hooks: Option<&mut AttemptHooks>,
) -> DeliveryResult {
    if let Some(suspended) = core.dead_destinations.check(&attempt.next_hop, core.services.clock.now()) {
        return DeliveryResult::for_all(attempt, &suspended);
    }
    let Some(hooks) = hooks else { return call_transport(core, attempt, message).await };
    let mut result = match hooks.run_on_send(core).await {
        Ok(None) => call_transport(core, attempt, message).await,
        Ok(Some(head)) => call_transport(core, attempt, &Message { header: head, ..message.clone() }).await,
        Err(disposition) => return DeliveryResult::for_all(attempt, &disposition),
    };
    if !result.aborted {
        hooks.run_on_reply(core, &attempt.next_hop, &mut result.dispositions).await;
    }
    result
}

async fn call_transport(core: &DeliveryContext, attempt: &Attempt, message: &Message) -> DeliveryResult {
    let routing = core.routing();
    let Some(transport) = routing.transports.get(&attempt.next_hop.transport) else {
        let status =
            Status::local(EnhancedCode::new(4, 3, 5), format!("no transport {} is configured", attempt.next_hop.transport));
        return DeliveryResult::for_all(attempt, &Disposition::Deferred { status, not_before: None });
    };
    let limit = core.routing().settings.attempt_time_max;
    tokio::time::timeout(limit, transport.deliver(attempt, message)).await.unwrap_or_else(|_| {
        let status = Status::local(EnhancedCode::new(4, 4, 7), format!("attempt timed out after {} seconds", limit.as_secs()));
        DeliveryResult::for_all(attempt, &Disposition::Deferred { status, not_before: None })
    })
}

/// Returns one disposition for each recipient: recipients without one from the transport are deferred.
fn fill_missing_dispositions(attempt: &Attempt, reported: Vec<(u32, Disposition)>) -> Vec<(u32, Disposition)> {
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
