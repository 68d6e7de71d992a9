//! Settlement of an attempt: consequences for each recipient, hooks and events, and the synced write to the spool.

use std::time::Duration;

use serde_json::json;
use tokio::sync::MutexGuard;
use waxwing_message::DsnAction;
use waxwing_pipeline::{FinalDsnAction, NextTry, RecipientFate, Submission, TraceEntry, TraceRecord};
use waxwing_spool::{NewMessage, NextState, Settlement, SpoolError};
use waxwing_types::{Attempt, Disposition, Message, ReversePath, Status, Timestamp};

use crate::attempt::UnitProgress;
use crate::attempt_hooks::AttemptHooks;
use crate::context::{DeliveryContext, FollowUp};
use crate::decide::{AttemptResult, UnitDecision, decide_unit};
use crate::dsn::{self, DsnDeferred, DsnKind, DsnResult};
use crate::submissions;

/// Retries of a settlement after errors of files or disk; the message may have been delivered already.
const SETTLE_RETRIES_MAX: u32 = 5;
/// Pause between two tries of a settlement.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// Finished attempt, ready for settlement.
pub(crate) struct FinishedAttempt<'a> {
    pub(crate) attempt: &'a Attempt,
    /// Dispositions, one for each recipient of the attempt.
    pub(crate) dispositions: &'a [(u32, Disposition)],
    /// Reason of a plugin for putting the remaining recipients on hold.
    pub(crate) hold: Option<String>,
    /// DSN action for delivered recipients (RFC 3461 §5.2).
    pub(crate) dsn_action: FinalDsnAction,
    /// True while attempts for other next hops of the unit are open.
    pub(crate) others_open: bool,
    pub(crate) ended_at: Timestamp,
}

/// Decision about the unit and the results of the recipients.
struct PlannedSettlement {
    decision: UnitDecision,
    recipient_results: Vec<(u32, RecipientFate, Status)>,
    dsns: DsnResult,
}

impl FinishedAttempt<'_> {
    /// Settles, with retries after errors of files or disk. Outcome hooks run, and plugins submit messages, on the first try
    /// only.
    pub(crate) async fn settle(
        self,
        core: &DeliveryContext,
        message: &Message,
        mut progress: MutexGuard<'_, UnitProgress>,
        mut hooks: Option<AttemptHooks>,
    ) -> FollowUp {
        if let Some(reason) = &self.hold {
            progress.hold.get_or_insert_with(|| reason.clone());
        }
        let retry = self.run_on_retry(core, message, &progress, hooks.as_mut()).await;
        let mut submitted: Option<Vec<NewMessage>> = None;
        let mut retries = 0;
        loop {
            let PlannedSettlement { decision: consequence, recipient_results: fates, dsns } =
                self.plan_settlement(core, message, &progress, &retry).await;
            let generated = match &submitted {
                Some(generated) => generated.clone(),
                None => {
                    let sent = std::mem::take(&mut progress.submissions);
                    let generated =
                        self.run_outcome_hooks(core, message, &fates, sent, dsns.submissions, dsns.trace, hooks.take()).await;
                    submitted.insert(generated).clone()
                }
            };
            let generated = dsns.messages.into_iter().chain(generated).collect();
            let next = match &consequence.next_state {
                NextState::RetryAt(at) => FollowUp::DueAt(*at),
                NextState::Removed | NextState::Hold(_) | NextState::Corrupt(_) => FollowUp::Nothing,
            };
            let UnitDecision { remaining, next_state: after, failed: _, retry_at: due, delay_warning_due: _ } = consequence;
            let settle = Settlement {
                unit: progress.unit.clone(),
                remaining,
                attempts: self.attempt.number,
                next_state: after,
                generated,
            };
            match core.settle(settle).await {
                Ok(unit) => {
                    self.publish_events(
                        core,
                        message,
                        &fates,
                        progress.hold.as_deref().filter(|_| unit.is_some() && !self.others_open),
                    );
                    let Some(unit) = unit else { return FollowUp::Nothing };
                    (progress.unit, progress.retry_at) = (unit, due);
                    return next;
                }
                Err(error @ (SpoolError::Io(_) | SpoolError::Full { .. })) if retries < SETTLE_RETRIES_MAX => {
                    retries += 1;
                    tracing::warn!(target: "queue", "{}: settling the attempt failed, retrying: {error}", message.id);
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                Err(error) => {
                    // Without a settlement in the spool the message is tried again, perhaps twice for the same recipient.
                    tracing::error!(target: "queue", "{}: settling the attempt failed: {error}", message.id);
                    return FollowUp::Rescan(progress.unit.due_key());
                }
            }
        }
    }

    fn attempt_result<'a>(
        &'a self,
        core: &DeliveryContext,
        message: &Message,
        progress: &'a UnitProgress,
        retry: &'a NextTry,
    ) -> AttemptResult<'a> {
        let now = core.services.clock.now();
        let warning_at = core.routing().settings.delay_warning_at(&message.envelope);
        AttemptResult {
            unit: &progress.unit,
            dispositions: self.dispositions,
            others_open: self.others_open,
            retry_at: progress.retry_at,
            retry_decision: retry,
            hold: progress.hold.as_deref(),
            received_at: message.envelope.origin.received_at,
            null_sender: message.envelope.sender == ReversePath::Null,
            delay_warning_at: warning_at,
            now,
        }
    }

    /// Calls on-retry if a recipient is deferred.
    async fn run_on_retry(
        &self,
        core: &DeliveryContext,
        message: &Message,
        progress: &UnitProgress,
        hooks: Option<&mut AttemptHooks>,
    ) -> NextTry {
        let Some(hooks) = hooks else { return NextTry::AsPlanned };
        let deferred = self.dispositions.iter().find_map(|(_, disposition)| match disposition {
            Disposition::Deferred { status, .. } => Some(status),
            Disposition::Delivered(_) | Disposition::Failed(_) => None,
        });
        let ended = self.attempt_result(core, message, progress, &NextTry::AsPlanned);
        match deferred {
            Some(status) if !ended.is_expired(&core.routing().settings) => {
                hooks.run_on_retry(core, self.attempt, message, status).await
            }
            Some(_) | None => NextTry::AsPlanned,
        }
    }

    /// Decides about the unit and builds the DSNs due.
    async fn plan_settlement(
        &self,
        core: &DeliveryContext,
        message: &Message,
        progress: &UnitProgress,
        retry: &NextTry,
    ) -> PlannedSettlement {
        let routing = core.routing();
        let settings = &routing.settings;
        let ended = self.attempt_result(core, message, progress, retry);
        let mut consequence = decide_unit(&ended, settings);
        let mut dsns = DsnResult::default();
        if !consequence.failed.is_empty() {
            match dsn::build_dsn(core, message, DsnKind::Failure, &consequence.failed).await {
                Ok(result) => dsns = result,
                Err(DsnDeferred(why)) => {
                    tracing::warn!(target: "bounce", "{}: failure DSN deferred: {why}", message.id);
                    consequence = consequence.without_dsn(&ended, settings);
                }
            }
        }
        for (kind, list) in
            self.informational_dsns(message, &consequence, ended.received_at + settings.queue.maximal_queue_lifetime)
        {
            match dsn::build_dsn(core, message, kind, &list).await {
                Ok(result) => dsns.merge(result),
                // Deliveries stand and deferred recipients are retried: an informational DSN may be lost.
                Err(DsnDeferred(why)) => tracing::warn!(target: "bounce", "{}: DSN not sent: {why}", message.id),
            }
        }
        let given_up = matches!(retry, NextTry::GiveUp) && !ended.is_expired(settings);
        let fate = |(index, disposition): &(u32, Disposition)| {
            let failed = consequence.failed.iter().find(|(i, _)| i == index);
            let (fate, status) = match (failed, disposition) {
                (Some((_, status)), Disposition::Deferred { .. }) if !given_up => (RecipientFate::Expired, status),
                (Some((_, status)), _) => (RecipientFate::Failed, status),
                (None, Disposition::Delivered(status)) => (RecipientFate::Delivered, status),
                (None, Disposition::Deferred { status, .. } | Disposition::Failed(status)) => (RecipientFate::Deferred, status),
            };
            (*index, fate, status.clone())
        };
        let fates = self.dispositions.iter().map(fate).collect();
        PlannedSettlement { decision: consequence, recipient_results: fates, dsns }
    }

    /// Lists the success DSNs, unless another server sends them, and the delay DSNs.
    fn informational_dsns(
        &self,
        message: &Message,
        consequence: &UnitDecision,
        until: Timestamp,
    ) -> Vec<(DsnKind, Vec<(u32, Status)>)> {
        let mut all = Vec::new();
        let success_action = match self.dsn_action {
            FinalDsnAction::Delivered => Some(DsnAction::Delivered),
            FinalDsnAction::Relayed => Some(DsnAction::Relayed),
            FinalDsnAction::Delegated => None,
        };
        if let Some(action) = success_action {
            let delivered = |(index, disposition): &(u32, Disposition)| match disposition {
                Disposition::Delivered(status) if dsn::wants_success_dsn(message, *index) => Some((*index, status.clone())),
                Disposition::Delivered(_) | Disposition::Deferred { .. } | Disposition::Failed(_) => None,
            };
            all.push((DsnKind::Success(action), self.dispositions.iter().filter_map(delivered).collect()));
        }
        if consequence.delay_warning_due {
            let late = consequence.remaining.iter().filter_map(|r| Some((r.index, r.last_status.clone()?)));
            all.push((DsnKind::Delay { until }, late.collect()));
        }
        all.retain(|(_, list): &(DsnKind, Vec<_>)| !list.is_empty());
        all
    }

    /// Runs on-outcome, prepares submissions for the commit and records the trace.
    #[allow(clippy::too_many_arguments, reason = "each is a separate result of the attempt")]
    async fn run_outcome_hooks(
        &self,
        core: &DeliveryContext,
        message: &Message,
        fates: &[(u32, RecipientFate, Status)],
        mut sent: Vec<Submission>,
        dsn_submissions: Vec<Submission>,
        dsn_trace: Vec<TraceEntry>,
        hooks: Option<AttemptHooks>,
    ) -> Vec<NewMessage> {
        let mut trace: Vec<TraceEntry> = self.dispositions.iter().map(|d| self.trace_entry(message, d)).collect();
        if let Some(mut hooks) = hooks {
            hooks.run_on_outcome(core, fates).await;
            let (hook_submissions, hook_trace) = hooks.into_results();
            sent.extend(hook_submissions);
            hook_trace.into_iter().for_each(|entry| entry.append_to(&mut trace));
        }
        sent.extend(dsn_submissions);
        dsn_trace.into_iter().for_each(|entry| entry.append_to(&mut trace));
        let generated = submissions::prepare_all(core, message, sent, &mut trace).await;
        core.services.trace.record(TraceRecord {
            id: message.id.to_string(),
            at: self.ended_at,
            part: "delivery".into(),
            peer: self.attempt.next_hop.to_string(),
            sender: String::from(&message.envelope.sender),
            recipients: Vec::new(),
            size: message.size(),
            result: format!("attempt {}", self.attempt.number),
            entries: trace,
        });
        generated
    }

    fn trace_entry(&self, message: &Message, (index, disposition): &(u32, Disposition)) -> TraceEntry {
        let to = message.envelope.recipients.get(*index as usize).map(|r| String::from(&r.address)).unwrap_or_default();
        let status = disposition.status();
        let action = match disposition {
            Disposition::Delivered(_) => "delivered",
            Disposition::Deferred { .. } => "deferred",
            Disposition::Failed(_) => "failed",
        };
        let result = format!("{action} {} {}", status.enhanced, status.text);
        TraceEntry::server_step(self.ended_at, self.attempt.next_hop.transport.as_str(), "attempt", to, result)
    }

    /// Publishes accounting events outside the delivery path.
    fn publish_events(
        &self,
        core: &DeliveryContext,
        message: &Message,
        fates: &[(u32, RecipientFate, Status)],
        held: Option<&str>,
    ) {
        let events = &core.services.events;
        if !events.has_subscribers() {
            return;
        }
        for (index, fate, status) in fates {
            let name = match fate {
                RecipientFate::Delivered => "delivered",
                RecipientFate::Deferred => "deferred",
                RecipientFate::Failed | RecipientFate::Expired => "failed",
            };
            let recipient = message.envelope.recipients.get(*index as usize).map(|r| r.address.to_string());
            let event = json!({
                "id": message.id.to_string(),
                "sender": message.envelope.sender.to_string(),
                "recipient": recipient.unwrap_or_default(),
                "size": message.size(),
                "attempt": self.attempt.number,
                "destination": self.attempt.next_hop.to_string(),
                "remote": status.remote,
                "code": status.code,
                "status": status.enhanced.to_string(),
                "text": status.text,
                "expired": matches!(fate, RecipientFate::Expired),
                "received_at_ms": message.envelope.origin.received_at.as_millis(),
                "at_ms": self.ended_at.as_millis(),
            });
            events.publish(name, event.to_string());
        }
        if let Some(reason) = held {
            publish_held(core, message, reason);
        }
    }
}

/// Publishes the event `held`: the message, or some recipients, wait for the operator.
pub(crate) fn publish_held(core: &DeliveryContext, message: &Message, reason: &str) {
    if core.services.events.has_subscribers() {
        let event = json!({
            "id": message.id.to_string(),
            "sender": message.envelope.sender.to_string(),
            "reason": reason,
            "at_ms": core.services.clock.now().as_millis(),
        });
        core.services.events.publish("held", event.to_string());
    }
}
