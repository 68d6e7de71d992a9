//! Preparation of a unit: the scan before the first attempt, and the route of each recipient.

use std::sync::Arc;

use waxwing_config::ScanRejectAction;
use waxwing_net::spawn;
use waxwing_pipeline::{Context, Event, Hook, HookSession, TraceEntry, TraceRecord};
use waxwing_spool::{NextState, Settlement, Unit, UnitRecipient};
use waxwing_types::{Message, NextHop, ReversePath, Status, Verdict};

use crate::attempt::{self, OpenUnit};
use crate::attempt_hooks::{hook_context, status_from_reply};
use crate::context::{DeliveryContext, FollowUp, UnitFinished};
use crate::corrupt::move_to_corrupt_and_notify;
use crate::router::ERROR_TRANSPORT;
use crate::settlement::publish_held;
use crate::submissions;

/// Returns true if hooks must run before the attempts of the unit.
pub(crate) fn needs_hooks(core: &DeliveryContext, unit: &Unit) -> bool {
    let pipeline = &core.services.pipeline;
    pipeline.has_hook(Hook::OnRoute) || (unit.attempts == 0 && pipeline.has_hook(Hook::OnScan))
}

/// Starts the attempts of a unit without hooks.
pub(crate) fn start_without_hooks(core: &Arc<DeliveryContext>, unit: Unit, message: Message) {
    let hops = group_by_next_hop(&unit, |index| {
        let recipient = message.envelope.recipients.get(index as usize)?;
        Some(core.routing().router.route(&recipient.address))
    });
    spawn_attempts(core, unit, message, hops, Vec::new());
}

/// Starts one attempt for each next hop of the unit.
fn spawn_attempts(
    core: &Arc<DeliveryContext>,
    unit: Unit,
    message: Message,
    hops: Vec<(NextHop, Vec<u32>)>,
    sent: Vec<waxwing_pipeline::Submission>,
) {
    if hops.iter().map(|(_, recipients)| recipients.len()).sum::<usize>() != unit.recipients.len() || hops.is_empty() {
        drop(spawn("park", move_to_corrupt_and_notify(Arc::clone(core), unit)));
        return;
    }
    let active = Arc::new(OpenUnit::new(unit, message, hops.len(), core.services.clock.now(), sent));
    for (hop, recipients) in hops {
        spawn("attempt", attempt::run_attempt(Arc::clone(core), Arc::clone(&active), hop, recipients));
    }
}

/// Groups the unit's recipients by next hop, in order of first mention.
fn group_by_next_hop(unit: &Unit, mut hop_of: impl FnMut(u32) -> Option<NextHop>) -> Vec<(NextHop, Vec<u32>)> {
    let mut hops: Vec<(NextHop, Vec<u32>)> = Vec::with_capacity(1);
    for recipient in &unit.recipients {
        let Some(hop) = hop_of(recipient.index) else { continue };
        match hops.iter_mut().find(|(h, _)| *h == hop) {
            Some((_, list)) => list.push(recipient.index),
            None => hops.push((hop, vec![recipient.index])),
        }
    }
    hops
}

/// Runs on-scan before the first attempt, then on-route; afterwards starts the attempts, or settles the unit without an attempt.
pub(crate) async fn run_hooks(core: Arc<DeliveryContext>, unit: Unit, message: Message) {
    let panic_guard = PreparePanicGuard { context: &core, unit: &unit };
    let indexes: Vec<u32> = unit.recipients.iter().map(|r| r.index).collect();
    let mut plan = Preparation {
        session: core.services.pipeline.open_session(),
        context: hook_context(&core.services.pipeline, &message, &indexes),
        delivery: &core,
        unit: &unit,
        message: &message,
    };
    let routes = match plan.run_on_scan().await {
        Some(reason) => Err(reason),
        None => plan.run_on_route().await,
    };
    match routes {
        Err(reason) => {
            let next = plan.settle_without_attempt(reason).await;
            let key = (unit.id, unit.number);
            // The send fails only while the server stops, after the end of the manager.
            let _ = core.finished.send(UnitFinished { key, next }).await;
        }
        Ok(routes) => {
            let sent = plan.context.submissions.as_ref().clone();
            plan.record_trace("planned");
            drop(panic_guard);
            let hops = group_by_next_hop(&unit, |index| routes.iter().find(|(i, _)| *i == index).map(|(_, hop)| hop.clone()));
            spawn_attempts(&core, unit, message, hops, sent);
        }
    }
}

/// Panic guard for plugins in native code: without a notification the unit would count as active until the next start.
struct PreparePanicGuard<'a> {
    context: &'a Arc<DeliveryContext>,
    unit: &'a Unit,
}

impl Drop for PreparePanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (core, key, due) = (Arc::clone(self.context), (self.unit.id, self.unit.number), self.unit.due_key());
            drop(spawn("plan", async move {
                let _ = core.finished.send(UnitFinished { key, next: FollowUp::Rescan(due) }).await;
            }));
        }
    }
}

/// Reason and action in place of an attempt.
enum SkipReason {
    /// Scan not possible now: try again later.
    Retry(Status),
    /// On hold for the operator.
    Hold(String),
    /// Discarded without a DSN.
    Discard(String),
}

struct Preparation<'a> {
    delivery: &'a DeliveryContext,
    unit: &'a Unit,
    message: &'a Message,
    session: HookSession,
    context: Context,
}

impl Preparation<'_> {
    /// Runs on-scan; returns none if the message passes.
    async fn run_on_scan(&mut self) -> Option<SkipReason> {
        if self.unit.attempts > 0 || !self.session.has_hook(Hook::OnScan) {
            return None;
        }
        // The semaphore is never closed.
        let permit = self.delivery.plugin_limits.scans.acquire().await;
        let verdict = self.delivery.services.pipeline.verdict(&mut self.session, &mut self.context, Event::Scan).await;
        self.session.release();
        drop(permit);
        match verdict {
            Verdict::Next | Verdict::Accept => self.context.hold.take().map(SkipReason::Hold),
            Verdict::Hold { reason } => Some(SkipReason::Hold(reason)),
            Verdict::Discard { reason } => Some(self.apply_scan_refusal(reason)),
            Verdict::Reject(reply) | Verdict::Disconnect(reply) => Some(self.apply_scan_refusal(reply.to_string())),
            Verdict::Defer(reply) => {
                let routing = self.delivery.routing();
                let settings = &routing.settings;
                let is_report = self.message.envelope.sender == ReversePath::Null;
                let lifetime =
                    if is_report { settings.queue.bounce_queue_lifetime } else { settings.queue.maximal_queue_lifetime };
                let age = self.delivery.services.clock.now().since(self.message.envelope.origin.received_at);
                Some(match age >= lifetime {
                    true => SkipReason::Hold(format!("not scanned within the queue lifetime: {reply}")),
                    false => SkipReason::Retry(status_from_reply(&reply, 4)),
                })
            }
        }
    }

    /// Applies `scan_refusal`. The sender is unauthenticated, perhaps forged, and gets no DSN.
    fn apply_scan_refusal(&self, why: String) -> SkipReason {
        match self.delivery.routing().settings.queue.scan_refusal {
            ScanRejectAction::Hold => SkipReason::Hold(format!("refused by on-scan: {why}")),
            ScanRejectAction::Discard => SkipReason::Discard(why),
        }
    }

    /// Runs on-route for each recipient; the configuration decides where plugins do not.
    async fn run_on_route(&mut self) -> Result<Vec<(u32, NextHop)>, SkipReason> {
        let core = self.delivery;
        let mut routes = Vec::with_capacity(self.unit.recipients.len());
        let permit = if self.session.has_hook(Hook::OnRoute) { core.plugin_limits.calls.acquire().await.ok() } else { None };
        let recipients = Arc::clone(&self.context.recipients);
        for recipient in recipients.iter() {
            let hop = match core.services.pipeline.route(&mut self.session, &mut self.context, recipient).await {
                Ok(Some(hop)) => core.routing().router.complete_next_hop(hop, &recipient.recipient.address),
                Ok(None) => core.routing().router.route(&recipient.recipient.address),
                Err(_) => NextHop {
                    transport: ERROR_TRANSPORT.to_owned(),
                    host: "4.3.0 a plugin that routes failed".to_owned(),
                    port: None,
                },
            };
            routes.push((recipient.index, hop));
        }
        self.session.release();
        drop(permit);
        match self.context.hold.take() {
            Some(reason) => Err(SkipReason::Hold(reason)),
            None => Ok(routes),
        }
    }

    /// Settles the unit without an attempt.
    async fn settle_without_attempt(&mut self, reason: SkipReason) -> FollowUp {
        let (core, unit, message) = (self.delivery, self.unit, self.message);
        let remaining = unit.recipients.clone();
        // A held unit counts as tried, so that its release by the operator does not repeat the scan.
        let tried = unit.attempts.max(1);
        let (result, after, attempts, remaining) = match reason {
            SkipReason::Retry(status) => {
                let at = core.services.clock.now() + core.routing().settings.queue.minimal_backoff_time;
                let result = format!("scan deferred: {}", status.text);
                let waiting = |r: UnitRecipient| UnitRecipient { last_status: Some(status.clone()), ..r };
                (result, NextState::RetryAt(at), unit.attempts, remaining.into_iter().map(waiting).collect())
            }
            SkipReason::Hold(reason) => (format!("held: {reason}"), NextState::Hold(reason), tried, remaining),
            SkipReason::Discard(why) => (format!("discarded: {why}"), NextState::Removed, tried, Vec::new()),
        };
        tracing::info!(target: "delivery", "{}: {result}", message.id);
        let sent = self.context.submissions.as_ref().clone();
        let generated = submissions::prepare_all(core, message, sent, &mut self.session.trace).await;
        self.record_trace(&result);
        let held = if let NextState::Hold(reason) = &after { Some(reason.clone()) } else { None };
        let next = if let NextState::RetryAt(at) = after { FollowUp::DueAt(at) } else { FollowUp::Nothing };
        let settle = Settlement { unit: unit.clone(), remaining, attempts, next_state: after, generated };
        match core.settle(settle).await {
            Ok(_) => {
                if let Some(reason) = held {
                    publish_held(core, message, &reason);
                }
                next
            }
            Err(error) => {
                tracing::error!(target: "queue", "{}: settling a scan or route failed: {error}", message.id);
                FollowUp::Rescan(unit.due_key())
            }
        }
    }

    fn record_trace(&mut self, result: &str) {
        let entries: Vec<TraceEntry> = std::mem::take(&mut self.session.trace);
        self.delivery.services.trace.record(TraceRecord {
            id: self.message.id.to_string(),
            at: self.delivery.services.clock.now(),
            part: "delivery".into(),
            peer: "queue".to_owned(),
            sender: self.message.envelope.sender.to_string(),
            recipients: Vec::new(),
            size: self.message.size(),
            result: result.to_owned(),
            entries,
        });
    }
}
