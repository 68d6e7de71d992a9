//! Settlement of an attempt: consequences for each recipient, hooks and events, and the synced write to the spool.

use std::time::Duration;

use serde_json::json;
use tokio::sync::MutexGuard;
use waxwing_message::Action;
use waxwing_pipeline::{Fate, NextTry, Reached, Submission, TraceEntry, TraceRecord};
use waxwing_queue::{After, NewMessage, Settle, SpoolError};
use waxwing_types::{Attempt, Disposition, Message, ReversePath, Status, Timestamp};

use crate::attempt::Standing;
use crate::bounce::{self, Kind, NotNow, Told};
use crate::hooks::Hooks;
use crate::manager::{Core, Next};
use crate::settle::{Consequence, Ended, consequence};
use crate::submitted;

/// Retries of a settlement after errors of files or disk; the message may have been delivered already.
const SETTLE_RETRIES_MAX: u32 = 5;
/// Pause between two tries of a settlement.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// Finished attempt, ready for settlement.
pub(crate) struct Tried<'a> {
    pub(crate) attempt: &'a Attempt,
    /// Dispositions, one for each recipient of the attempt.
    pub(crate) dispositions: &'a [(u32, Disposition)],
    /// Reason of a plugin for putting the remaining recipients on hold.
    pub(crate) hold: Option<String>,
    /// DSN action for delivered recipients (RFC 3461 §5.2).
    pub(crate) reached: Reached,
    /// True while attempts for other next hops of the unit are open.
    pub(crate) others_open: bool,
    pub(crate) ended_at: Timestamp,
}

/// Decision about the unit and the results of the recipients.
struct Settled {
    consequence: Consequence,
    fates: Vec<(u32, Fate, Status)>,
    told: Told,
}

impl Tried<'_> {
    /// Settles, with retries after errors of files or disk. Outcome hooks run, and plugins submit messages, on the first try
    /// only.
    pub(crate) async fn settle(
        self,
        core: &Core,
        message: &Message,
        mut standing: MutexGuard<'_, Standing>,
        mut hooks: Option<Hooks>,
    ) -> Next {
        if let Some(reason) = &self.hold {
            standing.hold.get_or_insert_with(|| reason.clone());
        }
        let retry = self.next_try(core, message, &standing, hooks.as_mut()).await;
        let mut submitted: Option<Vec<NewMessage>> = None;
        let mut retries = 0;
        loop {
            let Settled { consequence, fates, told: dsns } = self.settled(core, message, &standing, &retry).await;
            let generated = match &submitted {
                Some(generated) => generated.clone(),
                None => {
                    let sent = std::mem::take(&mut standing.sent);
                    let generated = self.hear(core, message, &fates, sent, dsns.sent, dsns.trace, hooks.take()).await;
                    submitted.insert(generated).clone()
                }
            };
            let generated = dsns.reports.into_iter().chain(generated).collect();
            let next = match &consequence.after {
                After::At(at) => Next::DueAt(*at),
                After::Gone | After::Hold(_) | After::Corrupt(_) => Next::Nothing,
            };
            let Consequence { remaining, after, failed: _, due, late: _ } = consequence;
            let settle = Settle { unit: standing.unit.clone(), remaining, attempts: self.attempt.number, after, made: generated };
            match core.parts.spool.settle(&core.lease, settle).await {
                Ok(unit) => {
                    self.tell(core, message, &fates, standing.hold.as_deref().filter(|_| unit.is_some() && !self.others_open));
                    let Some(unit) = unit else { return Next::Nothing };
                    (standing.unit, standing.due) = (unit, due);
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
                    return Next::LookAgain(standing.unit.due_key());
                }
            }
        }
    }

    fn ended<'a>(&'a self, core: &Core, message: &Message, standing: &'a Standing, retry: &'a NextTry) -> Ended<'a> {
        let now = core.parts.clock.now();
        let warning_at = core.ways().settings.warning_at(&message.envelope);
        Ended {
            unit: &standing.unit,
            dispositions: self.dispositions,
            others_open: self.others_open,
            due: standing.due,
            retry,
            hold: standing.hold.as_deref(),
            received_at: message.envelope.origin.received_at,
            from_null: message.envelope.sender == ReversePath::Null,
            warning_at,
            now,
        }
    }

    /// Calls on-retry if a recipient is deferred.
    async fn next_try(&self, core: &Core, message: &Message, standing: &Standing, hooks: Option<&mut Hooks>) -> NextTry {
        let Some(hooks) = hooks else { return NextTry::AsPlanned };
        let deferred = self.dispositions.iter().find_map(|(_, disposition)| match disposition {
            Disposition::Deferred { status, .. } => Some(status),
            Disposition::Delivered(_) | Disposition::Failed(_) => None,
        });
        let ended = self.ended(core, message, standing, &NextTry::AsPlanned);
        match deferred {
            Some(status) if !ended.is_expired(&core.ways().settings) => hooks.retry(core, self.attempt, message, status).await,
            Some(_) | None => NextTry::AsPlanned,
        }
    }

    /// Decides about the unit and builds the DSNs due.
    async fn settled(&self, core: &Core, message: &Message, standing: &Standing, retry: &NextTry) -> Settled {
        let ways = core.ways();
        let settings = &ways.settings;
        let ended = self.ended(core, message, standing, retry);
        let mut consequence = consequence(&ended, settings);
        let mut dsns = Told::default();
        if !consequence.failed.is_empty() {
            match bounce::report(core, message, Kind::Failure, &consequence.failed).await {
                Ok(result) => dsns = result,
                Err(NotNow(why)) => {
                    tracing::warn!(target: "bounce", "{}: failure DSN deferred: {why}", message.id);
                    consequence = consequence.without_report(&ended, settings);
                }
            }
        }
        for (kind, list) in self.good_to_know(message, &consequence, ended.received_at + settings.maximal_queue_lifetime) {
            match bounce::report(core, message, kind, &list).await {
                Ok(result) => dsns.add(result),
                // Deliveries stand and deferred recipients are retried: an informational DSN may be lost.
                Err(NotNow(why)) => tracing::warn!(target: "bounce", "{}: DSN not sent: {why}", message.id),
            }
        }
        let given_up = matches!(retry, NextTry::GiveUp) && !ended.is_expired(settings);
        let fate = |(index, disposition): &(u32, Disposition)| {
            let failed = consequence.failed.iter().find(|(i, _)| i == index);
            let (fate, status) = match (failed, disposition) {
                (Some((_, status)), Disposition::Deferred { .. }) if !given_up => (Fate::Expired, status),
                (Some((_, status)), _) => (Fate::Failed, status),
                (None, Disposition::Delivered(status)) => (Fate::Delivered, status),
                (None, Disposition::Deferred { status, .. } | Disposition::Failed(status)) => (Fate::Deferred, status),
            };
            (*index, fate, status.clone())
        };
        let fates = self.dispositions.iter().map(fate).collect();
        Settled { consequence, fates, told: dsns }
    }

    /// Lists the success DSNs, unless another server sends them, and the delay DSNs.
    fn good_to_know(&self, message: &Message, consequence: &Consequence, until: Timestamp) -> Vec<(Kind, Vec<(u32, Status)>)> {
        let mut all = Vec::new();
        let success_action = match self.reached {
            Reached::Mailbox => Some(Action::Delivered),
            Reached::Server => Some(Action::Relayed),
            Reached::ServerWithDsn => None,
        };
        if let Some(action) = success_action {
            let delivered = |(index, disposition): &(u32, Disposition)| match disposition {
                Disposition::Delivered(status) if bounce::wants_success(message, *index) => Some((*index, status.clone())),
                Disposition::Delivered(_) | Disposition::Deferred { .. } | Disposition::Failed(_) => None,
            };
            all.push((Kind::Success(action), self.dispositions.iter().filter_map(delivered).collect()));
        }
        if consequence.late {
            let late = consequence.remaining.iter().filter_map(|r| Some((r.index, r.last.clone()?)));
            all.push((Kind::Delay { until }, late.collect()));
        }
        all.retain(|(_, list): &(Kind, Vec<_>)| !list.is_empty());
        all
    }

    /// Runs on-outcome, prepares submissions for the commit and records the trace.
    #[allow(clippy::too_many_arguments, reason = "each is a separate result of the attempt")]
    async fn hear(
        &self,
        core: &Core,
        message: &Message,
        fates: &[(u32, Fate, Status)],
        mut sent: Vec<Submission>,
        dsn_submissions: Vec<Submission>,
        dsn_trace: Vec<TraceEntry>,
        hooks: Option<Hooks>,
    ) -> Vec<NewMessage> {
        let mut trace: Vec<TraceEntry> = self.dispositions.iter().map(|d| self.step(message, d)).collect();
        if let Some(mut hooks) = hooks {
            hooks.outcomes(core, fates).await;
            let (hook_submissions, hook_trace) = hooks.end();
            sent.extend(hook_submissions);
            hook_trace.into_iter().for_each(|entry| entry.keep(&mut trace));
        }
        sent.extend(dsn_submissions);
        dsn_trace.into_iter().for_each(|entry| entry.keep(&mut trace));
        let generated = submitted::prepare(core, message, sent, &mut trace).await;
        core.parts.trace.record(TraceRecord {
            id: message.id.to_string(),
            at: self.ended_at,
            part: "delivery".into(),
            peer: self.attempt.hop.to_string(),
            sender: String::from(&message.envelope.sender),
            recipients: Vec::new(),
            size: message.size(),
            result: format!("attempt {}", self.attempt.number),
            entries: trace,
        });
        generated
    }

    fn step(&self, message: &Message, (index, disposition): &(u32, Disposition)) -> TraceEntry {
        let to = message.envelope.recipients.get(*index as usize).map(|r| String::from(&r.address)).unwrap_or_default();
        let status = disposition.status();
        let action = match disposition {
            Disposition::Delivered(_) => "delivered",
            Disposition::Deferred { .. } => "deferred",
            Disposition::Failed(_) => "failed",
        };
        let result = format!("{action} {} {}", status.enhanced, status.text);
        TraceEntry::step(self.ended_at, self.attempt.hop.transport.as_str(), "attempt", to, result)
    }

    /// Publishes accounting events outside the delivery path.
    fn tell(&self, core: &Core, message: &Message, fates: &[(u32, Fate, Status)], held: Option<&str>) {
        let events = &core.parts.events;
        if !events.wanted() {
            return;
        }
        for (index, fate, status) in fates {
            let name = match fate {
                Fate::Delivered => "delivered",
                Fate::Deferred => "deferred",
                Fate::Failed | Fate::Expired => "failed",
            };
            let recipient = message.envelope.recipients.get(*index as usize).map(|r| r.address.to_string());
            let event = json!({
                "id": message.id.to_string(),
                "sender": message.envelope.sender.to_string(),
                "recipient": recipient.unwrap_or_default(),
                "size": message.size(),
                "attempt": self.attempt.number,
                "destination": self.attempt.hop.to_string(),
                "remote": status.remote,
                "code": status.code,
                "status": status.enhanced.to_string(),
                "text": status.text,
                "expired": matches!(fate, Fate::Expired),
                "received_at_ms": message.envelope.origin.received_at.as_millis(),
                "at_ms": self.ended_at.as_millis(),
            });
            events.happened(name, event.to_string());
        }
        if let Some(reason) = held {
            tell_held(core, message, reason);
        }
    }
}

/// Publishes the event `held`: the message, or some recipients, wait for the operator.
pub(crate) fn tell_held(core: &Core, message: &Message, reason: &str) {
    if core.parts.events.wanted() {
        let event = json!({
            "id": message.id.to_string(),
            "sender": message.envelope.sender.to_string(),
            "reason": reason,
            "at_ms": core.parts.clock.now().as_millis(),
        });
        core.parts.events.happened("held", event.to_string());
    }
}
