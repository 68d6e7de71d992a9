//! Preparation of a unit: the scan before the first attempt, and the route of each recipient.

use std::sync::Arc;

use waxwing_net::spawn;
use waxwing_pipeline::{Chain, Context, Event, Hook, TraceEntry, TraceRecord};
use waxwing_queue::{After, Settle, Unit, UnitRecipient};
use waxwing_types::{Message, NextHop, ReversePath, Status, Verdict};

use crate::attempt::{self, Active};
use crate::attempt_end::tell_held;
use crate::hooks::{context_of, status_of};
use crate::manager::{Core, Done, Next, park_and_tell};
use crate::route::ERROR;
use crate::{ScanRefusal, submitted};

/// Returns true if hooks must run before the attempts of the unit.
pub(crate) fn is_wanted(core: &Core, unit: &Unit) -> bool {
    let pipeline = &core.parts.pipeline;
    pipeline.has(Hook::OnRoute) || (unit.attempts == 0 && pipeline.has(Hook::OnScan))
}

/// Starts the attempts of a unit without hooks.
pub(crate) fn start(core: &Arc<Core>, unit: Unit, message: Message) {
    let hops = by_hop(&unit, |index| {
        let recipient = message.envelope.recipients.get(index as usize)?;
        Some(core.ways().router.route(&recipient.address))
    });
    start_with(core, unit, message, hops, Vec::new());
}

/// Starts one attempt for each next hop of the unit.
fn start_with(
    core: &Arc<Core>,
    unit: Unit,
    message: Message,
    hops: Vec<(NextHop, Vec<u32>)>,
    sent: Vec<waxwing_pipeline::Submission>,
) {
    if hops.iter().map(|(_, recipients)| recipients.len()).sum::<usize>() != unit.recipients.len() || hops.is_empty() {
        drop(spawn("park", park_and_tell(Arc::clone(core), unit)));
        return;
    }
    let active = Arc::new(Active::new(unit, message, hops.len(), core.parts.clock.now(), sent));
    for (hop, recipients) in hops {
        spawn("attempt", attempt::run(Arc::clone(core), Arc::clone(&active), hop, recipients));
    }
}

/// Groups the unit's recipients by next hop, in order of first mention.
fn by_hop(unit: &Unit, mut hop_of: impl FnMut(u32) -> Option<NextHop>) -> Vec<(NextHop, Vec<u32>)> {
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
pub(crate) async fn run(core: Arc<Core>, unit: Unit, message: Message) {
    let panic_guard = Watched { core: &core, unit: &unit };
    let indexes: Vec<u32> = unit.recipients.iter().map(|r| r.index).collect();
    let mut plan = Plan {
        chain: core.parts.pipeline.chain(),
        context: context_of(&core.parts.pipeline, &message, &indexes),
        core: &core,
        unit: &unit,
        message: &message,
    };
    let routes = match plan.scan().await {
        Some(reason) => Err(reason),
        None => plan.route().await,
    };
    match routes {
        Err(reason) => {
            let next = plan.settle(reason).await;
            let key = (unit.id, unit.number);
            // The send fails only while the server stops, after the end of the manager.
            let _ = core.done.send(Done { key, next }).await;
        }
        Ok(routes) => {
            let sent = plan.context.submissions.as_ref().clone();
            plan.trace("planned");
            drop(panic_guard);
            let hops = by_hop(&unit, |index| routes.iter().find(|(i, _)| *i == index).map(|(_, hop)| hop.clone()));
            start_with(&core, unit, message, hops, sent);
        }
    }
}

/// Panic guard for plugins in native code: without a notification the unit would count as active until the next start.
struct Watched<'a> {
    core: &'a Arc<Core>,
    unit: &'a Unit,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (core, key, due) = (Arc::clone(self.core), (self.unit.id, self.unit.number), self.unit.due_key());
            drop(spawn("plan", async move {
                let _ = core.done.send(Done { key, next: Next::LookAgain(due) }).await;
            }));
        }
    }
}

/// Reason and action in place of an attempt.
enum Instead {
    /// Scan not possible now: try again later.
    Later(Status),
    /// On hold for the operator.
    Hold(String),
    /// Discarded without a DSN.
    Discard(String),
}

struct Plan<'a> {
    core: &'a Core,
    unit: &'a Unit,
    message: &'a Message,
    chain: Chain,
    context: Context,
}

impl Plan<'_> {
    /// Runs on-scan; returns none if the message passes.
    async fn scan(&mut self) -> Option<Instead> {
        if self.unit.attempts > 0 || !self.chain.has(Hook::OnScan) {
            return None;
        }
        // The semaphore is never closed.
        let permit = self.core.gates.scans.acquire().await;
        let verdict = self.core.parts.pipeline.verdict(&mut self.chain, &mut self.context, Event::Scan).await;
        self.chain.release();
        drop(permit);
        match verdict {
            Verdict::Continue | Verdict::Accept => self.context.hold.take().map(Instead::Hold),
            Verdict::Hold { reason } => Some(Instead::Hold(reason)),
            Verdict::Discard { reason } => Some(self.refused(reason)),
            Verdict::Reject(reply) | Verdict::Disconnect(reply) => Some(self.refused(reply.to_string())),
            Verdict::Defer(reply) => {
                let ways = self.core.ways();
                let settings = &ways.settings;
                let is_report = self.message.envelope.sender == ReversePath::Null;
                let lifetime = if is_report { settings.bounce_queue_lifetime } else { settings.maximal_queue_lifetime };
                let age = self.core.parts.clock.now().since(self.message.envelope.origin.received_at);
                Some(match age >= lifetime {
                    true => Instead::Hold(format!("not scanned within the queue lifetime: {reply}")),
                    false => Instead::Later(status_of(&reply, 4)),
                })
            }
        }
    }

    /// Applies `scan_refusal`. The sender is unauthenticated, perhaps forged, and gets no DSN.
    fn refused(&self, why: String) -> Instead {
        match self.core.ways().settings.scan_refusal {
            ScanRefusal::Hold => Instead::Hold(format!("refused by on-scan: {why}")),
            ScanRefusal::Discard => Instead::Discard(why),
        }
    }

    /// Runs on-route for each recipient; the configuration decides where plugins do not.
    async fn route(&mut self) -> Result<Vec<(u32, NextHop)>, Instead> {
        let core = self.core;
        let mut routes = Vec::with_capacity(self.unit.recipients.len());
        let permit = if self.chain.has(Hook::OnRoute) { core.gates.calls.acquire().await.ok() } else { None };
        let recipients = Arc::clone(&self.context.recipients);
        for recipient in recipients.iter() {
            let hop = match core.parts.pipeline.route(&mut self.chain, &mut self.context, recipient).await {
                Ok(Some(hop)) => core.ways().router.complete(hop, &recipient.recipient.address),
                Ok(None) => core.ways().router.route(&recipient.recipient.address),
                Err(_) => {
                    NextHop { transport: ERROR.to_owned(), host: "4.3.0 a plugin that routes failed".to_owned(), port: None }
                }
            };
            routes.push((recipient.index, hop));
        }
        self.chain.release();
        drop(permit);
        match self.context.hold.take() {
            Some(reason) => Err(Instead::Hold(reason)),
            None => Ok(routes),
        }
    }

    /// Settles the unit without an attempt.
    async fn settle(&mut self, reason: Instead) -> Next {
        let (core, unit, message) = (self.core, self.unit, self.message);
        let remaining = unit.recipients.clone();
        // A held unit counts as tried, so that its release by the operator does not repeat the scan.
        let tried = unit.attempts.max(1);
        let (result, after, attempts, remaining) = match reason {
            Instead::Later(status) => {
                let at = core.parts.clock.now() + core.ways().settings.minimal_backoff_time;
                let result = format!("scan deferred: {}", status.text);
                let waiting = |r: UnitRecipient| UnitRecipient { last: Some(status.clone()), ..r };
                (result, After::At(at), unit.attempts, remaining.into_iter().map(waiting).collect())
            }
            Instead::Hold(reason) => (format!("held: {reason}"), After::Hold(reason), tried, remaining),
            Instead::Discard(why) => (format!("discarded: {why}"), After::Gone, tried, Vec::new()),
        };
        tracing::info!(target: "delivery", "{}: {result}", message.id);
        let sent = self.context.submissions.as_ref().clone();
        let generated = submitted::prepare(core, message, sent, &mut self.chain.trace).await;
        self.trace(&result);
        let held = if let After::Hold(reason) = &after { Some(reason.clone()) } else { None };
        let next = if let After::At(at) = after { Next::DueAt(at) } else { Next::Nothing };
        let settle = Settle { unit: unit.clone(), remaining, attempts, after, made: generated };
        match core.parts.spool.settle(&core.lease, settle).await {
            Ok(_) => {
                if let Some(reason) = held {
                    tell_held(core, message, &reason);
                }
                next
            }
            Err(error) => {
                tracing::error!(target: "queue", "{}: settling a scan or route failed: {error}", message.id);
                Next::LookAgain(unit.due_key())
            }
        }
    }

    fn trace(&mut self, result: &str) {
        let entries: Vec<TraceEntry> = std::mem::take(&mut self.chain.trace);
        self.core.parts.trace.record(TraceRecord {
            id: self.message.id.to_string(),
            at: self.core.parts.clock.now(),
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
