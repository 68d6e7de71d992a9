//! The end of an attempt: what follows for each recipient, who hears of it, and its synced settlement.

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

/// Tries to write down what an attempt did, when files or disk fail: the message may have been delivered.
const SETTLE_RETRIES_MAX: u32 = 5;
/// Between two of them.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// An attempt that has ended.
pub(crate) struct Tried<'a> {
    pub(crate) attempt: &'a Attempt,
    /// One for each of its recipients.
    pub(crate) dispositions: &'a [(u32, Disposition)],
    /// Who is left waits for the operator, for this reason.
    pub(crate) hold: Option<String>,
    /// How far what was delivered has come.
    pub(crate) reached: Reached,
    /// Attempts for other next hops of the unit are still under way.
    pub(crate) others_open: bool,
    pub(crate) ended_at: Timestamp,
}

/// What an attempt means for its unit, and what became of its recipients.
struct Settled {
    consequence: Consequence,
    fates: Vec<(u32, Fate, Status)>,
    told: Told,
}

impl Tried<'_> {
    /// Settles, again if files or disk fail. What plugins hear and send belongs to the first try.
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
        let mut by_plugins: Option<Vec<NewMessage>> = None;
        let mut retries = 0;
        loop {
            let Settled { consequence, fates, told } = self.settled(core, message, &standing, &retry).await;
            let made = match &by_plugins {
                Some(made) => made.clone(),
                None => {
                    let sent = std::mem::take(&mut standing.sent);
                    let made = self.hear(core, message, &fates, sent, told.sent, told.trace, hooks.take()).await;
                    by_plugins.insert(made).clone()
                }
            };
            let made = told.reports.into_iter().chain(made).collect();
            let next = match &consequence.after {
                After::At(at) => Next::DueAt(*at),
                After::Gone | After::Hold(_) | After::Corrupt(_) => Next::Nothing,
            };
            let Consequence { remaining, after, failed: _, due, late: _ } = consequence;
            let settle = Settle { unit: standing.unit.clone(), remaining, attempts: self.attempt.number, after, made };
            match core.parts.spool.settle(&core.lease, settle).await {
                Ok(unit) => {
                    self.tell(core, message, &fates, standing.hold.as_deref().filter(|_| unit.is_some() && !self.others_open));
                    let Some(unit) = unit else { return Next::Nothing };
                    (standing.unit, standing.due) = (unit, due);
                    return next;
                }
                Err(error @ (SpoolError::Io(_) | SpoolError::Full { .. })) if retries < SETTLE_RETRIES_MAX => {
                    retries += 1;
                    tracing::warn!(target: "queue", "{}: an attempt can't be settled yet: {error}", message.id);
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                Err(error) => {
                    // Without consequence in the spool the message is tried again, perhaps twice to the same recipient.
                    tracing::error!(target: "queue", "{}: an attempt can't be settled: {error}", message.id);
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

    /// on-retry, if somebody is deferred.
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

    /// What the attempt means for its unit, with the report that is due.
    async fn settled(&self, core: &Core, message: &Message, standing: &Standing, retry: &NextTry) -> Settled {
        let ways = core.ways();
        let settings = &ways.settings;
        let ended = self.ended(core, message, standing, retry);
        let mut consequence = consequence(&ended, settings);
        let mut told = Told::default();
        if !consequence.failed.is_empty() {
            match bounce::report(core, message, Kind::Failure, &consequence.failed).await {
                Ok(report) => told = report,
                Err(NotNow(why)) => {
                    tracing::warn!(target: "bounce", "{}: the sender can't be told yet: {why}", message.id);
                    consequence = consequence.without_report(&ended, settings);
                }
            }
        }
        for (kind, list) in self.good_to_know(message, &consequence, ended.received_at + settings.maximal_queue_lifetime) {
            match bounce::report(core, message, kind, &list).await {
                Ok(report) => told.add(report),
                // What was delivered stays delivered, and who waits is tried again.
                Err(NotNow(why)) => tracing::warn!(target: "bounce", "{}: the sender can't be told: {why}", message.id),
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
        Settled { consequence, fates, told }
    }

    /// Who was delivered to, unless another server tells of that, and who is late.
    fn good_to_know(&self, message: &Message, consequence: &Consequence, until: Timestamp) -> Vec<(Kind, Vec<(u32, Status)>)> {
        let mut all = Vec::new();
        let by_us = match self.reached {
            Reached::Mailbox => Some(Action::Delivered),
            Reached::Server => Some(Action::Relayed),
            Reached::ServerWithDsn => None,
        };
        if let Some(action) = by_us {
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

    /// Plugins hear of the outcomes; their mail is made ready for the commit. Then the trace is complete.
    #[allow(clippy::too_many_arguments, reason = "each is a different thing that the attempt has left")]
    async fn hear(
        &self,
        core: &Core,
        message: &Message,
        fates: &[(u32, Fate, Status)],
        mut sent: Vec<Submission>,
        sent_with_report: Vec<Submission>,
        of_report: Vec<TraceEntry>,
        hooks: Option<Hooks>,
    ) -> Vec<NewMessage> {
        let mut trace: Vec<TraceEntry> = self.dispositions.iter().map(|d| self.step(message, d)).collect();
        if let Some(mut hooks) = hooks {
            hooks.outcomes(core, fates).await;
            let (by_hooks, of_hooks) = hooks.end();
            sent.extend(by_hooks);
            of_hooks.into_iter().for_each(|entry| entry.keep(&mut trace));
        }
        sent.extend(sent_with_report);
        of_report.into_iter().for_each(|entry| entry.keep(&mut trace));
        let made = submitted::prepare(core, message, sent, &mut trace).await;
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
        made
    }

    fn step(&self, message: &Message, (index, disposition): &(u32, Disposition)) -> TraceEntry {
        let to = message.envelope.recipients.get(*index as usize).map(|r| String::from(&r.address)).unwrap_or_default();
        let status = disposition.status();
        let word = match disposition {
            Disposition::Delivered(_) => "delivered",
            Disposition::Deferred { .. } => "deferred",
            Disposition::Failed(_) => "failed",
        };
        let result = format!("{word} {} {}", status.enhanced, status.text);
        TraceEntry::step(self.ended_at, self.attempt.hop.transport.as_str(), "attempt", to, result)
    }

    /// For those who keep accounts, off the mail's way.
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
            let known = json!({
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
            events.happened(name, known.to_string());
        }
        if let Some(reason) = held {
            tell_held(core, message, reason);
        }
    }
}

/// The message, or some recipients of it, wait for the operator.
pub(crate) fn tell_held(core: &Core, message: &Message, reason: &str) {
    if core.parts.events.wanted() {
        let known = json!({
            "id": message.id.to_string(),
            "sender": message.envelope.sender.to_string(),
            "reason": reason,
            "at_ms": core.parts.clock.now().as_millis(),
        });
        core.parts.events.happened("held", known.to_string());
    }
}
