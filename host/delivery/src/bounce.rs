//! DSNs to the sender about failed, delayed or delivered recipients (RFC 3461 §6, RFC 3464).

use std::sync::Arc;

use bytes::Bytes;
use waxwing_message::{Action, Report, Reported};
use waxwing_pipeline::{Generated, Hook, Prepared, Submission, SubmitError, TraceEntry};
use waxwing_queue::NewMessage;
use waxwing_types::{MemoryBody, Message, Notify, Recipient, Return, ReversePath, Status, Timestamp};

use crate::DeliverySettings;
use crate::hooks::context_of;
use crate::manager::Core;
use crate::submitted::{inherited, spooled};

/// The DSN cannot be built now, with the reason; recipients must not be failed yet.
pub(crate) struct NotNow(pub(crate) String);

/// Subject of a DSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Recipients whose delivery has failed for good.
    Failure,
    /// Recipients whose delivery is delayed.
    Delay {
        /// Time of expiry of the recipients.
        until: Timestamp,
    },
    /// Recipients delivered to their mailbox or relayed.
    Success(Action),
}

impl Kind {
    /// Name of the kind in the plugin contract.
    fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Delay { .. } => "delay",
            Self::Success(_) => "success",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Failure => Action::Failed,
            Self::Delay { until } => Action::Delayed { until },
            Self::Success(action) => action,
        }
    }

    fn is_wanted(self, notify: Notify, settings: &DeliverySettings) -> bool {
        match (self, notify) {
            (Self::Delay { .. }, notify) => settings.wants_delay(notify),
            (_, Notify::Never) => false,
            (Self::Failure, Notify::Default) => true,
            (Self::Success(_), Notify::Default) => false,
            (Self::Failure, Notify::On { failure, .. }) => failure,
            (Self::Success(_), Notify::On { success, .. }) => success,
        }
    }
}

/// Returns true if the sender requested a success DSN for the recipient (NOTIFY=SUCCESS).
pub(crate) fn wants_success(message: &Message, index: u32) -> bool {
    let recipient = message.envelope.recipients.get(index as usize);
    recipient.is_some_and(|r| matches!(r.notify, Notify::On { success: true, .. }))
}

/// Result of building DSNs.
#[derive(Default)]
pub(crate) struct Told {
    /// DSNs after all hooks, ready for commit with the settlement. Empty if none is due: the message is itself a DSN, the sender
    /// requested none, or a plugin suppressed the DSN.
    pub(crate) reports: Vec<NewMessage>,
    /// Messages submitted by plugins in on-dsn.
    pub(crate) sent: Vec<Submission>,
    /// Trace entries of on-dsn.
    pub(crate) trace: Vec<TraceEntry>,
}

impl Told {
    /// Appends the result of another DSN.
    pub(crate) fn add(&mut self, other: Self) {
        self.reports.extend(other.reports);
        self.sent.extend(other.sent);
        self.trace.extend(other.trace);
    }
}

/// Builds the DSN about the given recipients, if one is due. Errors if the hooks or the spool are unavailable for now.
pub(crate) async fn report(core: &Core, message: &Message, kind: Kind, list: &[(u32, Status)]) -> Result<Told, NotNow> {
    let ReversePath::Of(sender) = &message.envelope.sender else {
        tracing::info!(target: "bounce", "{}: double bounce suppressed", message.id);
        return Ok(Told::default());
    };
    let now = core.parts.clock.now();
    let wanted = |(index, status): &'_ (u32, Status)| {
        let recipient = message.envelope.recipients.get(*index as usize)?;
        kind.is_wanted(recipient.notify, &core.ways().settings).then(|| (recipient.clone(), status.clone()))
    };
    let list: Vec<(Recipient, Status)> = list.iter().filter_map(wanted).collect();
    if list.is_empty() {
        return Ok(Told::default());
    }
    let recipients: Vec<Reported<'_>> =
        list.iter().map(|(recipient, status)| Reported { recipient, action: kind.action(), status, last_attempt: now }).collect();
    let id = core.parts.spool.ids().next(now);
    // RFC 3461 §4.3: only failure DSNs return the full message. RFC 8689 §5: REQUIRETLS messages return the header only.
    let full_body = kind == Kind::Failure && !message.envelope.require_tls;
    let ret = if full_body { message.envelope.ret } else { Some(Return::Headers) };
    let body = if ret == Some(Return::Headers) { None } else { returned_body(core, message).await };
    let ways = core.ways();
    let dsn = Report {
        reporting_mta: &ways.settings.myhostname,
        to: sender,
        id,
        at: now,
        about: message.id,
        arrived: message.envelope.origin.received_at,
        envid: message.envelope.envid.as_deref(),
        recipients: &recipients,
        ret,
        smtputf8: message.envelope.smtputf8,
        head: &message.head,
        body: body.as_deref(),
    }
    .print();
    let envelope = dsn.envelope(sender.clone(), message.envelope.require_tls, now);
    let mail = Generated { id, envelope, content: dsn.content, cause: Some(message.id), tags: inherited(message) };
    match core.parts.submit.prepare(mail).await {
        Ok(prepared) => {
            let (prepared, mut result) = last_look(core, prepared, kind).await;
            let Some(prepared) = prepared else {
                tracing::info!(target: "bounce", "{}: a plugin suppressed the sender's notification", message.id);
                return Ok(result);
            };
            result.reports.push(spooled(core, prepared).await.map_err(|error| NotNow(error.to_string()))?);
            let subject = match kind {
                Kind::Failure => "non-delivery",
                Kind::Delay { .. } => "delay",
                Kind::Success(_) => "delivery status",
            };
            tracing::info!(target: "bounce", "{}: sender {subject} notification: {id}", message.id);
            Ok(result)
        }
        Err(SubmitError::Temporary(why)) => Err(NotNow(why)),
        Err(SubmitError::Refused(why) | SubmitError::Discarded(why)) => {
            tracing::error!(target: "bounce", "{}: DSN not sent: {why}", message.id);
            Ok(Told::default())
        }
    }
}

/// Runs on-dsn: returns the DSN as edited, or none if suppressed.
async fn last_look(core: &Core, mut prepared: Prepared, kind: Kind) -> (Option<Prepared>, Told) {
    let pipeline = &core.parts.pipeline;
    let mut chain = pipeline.chain();
    if !chain.has(Hook::OnDsn) {
        return (Some(prepared), Told::default());
    }
    let dsn = Message {
        id: prepared.id,
        envelope: Arc::new(prepared.envelope.clone()),
        head: prepared.head.clone(),
        body: Arc::new(MemoryBody::new(prepared.body.clone())),
        tags: Arc::new(prepared.tags.clone()),
    };
    let all_recipients: Vec<u32> = (0..).take(dsn.envelope.recipients.len()).collect();
    let mut context = context_of(pipeline, &dsn, &all_recipients);
    let before = context.head.clone();
    // The semaphore is never closed.
    let permit = core.gates.calls.acquire().await;
    let keep = pipeline.report(&mut chain, &mut context, kind.word()).await;
    chain.release();
    drop(permit);
    if let (Some(before), Some(after)) = (&before, &context.head)
        && !Arc::ptr_eq(before, after)
    {
        prepared.head = after.to_bytes(prepared.body.is_empty());
    }
    let result = Told { reports: Vec::new(), sent: context.submissions.as_ref().clone(), trace: chain.trace };
    (keep.then_some(prepared), result)
}

/// Body of the message, if within `bounce_size_limit`.
async fn returned_body(core: &Core, message: &Message) -> Option<Bytes> {
    let limit = core.ways().settings.bounce_size_limit;
    if message.size() > limit as u64 {
        return None;
    }
    let body = message.body.read(0, limit).await.ok()?;
    (body.len() as u64 == message.body.size()).then_some(body)
}
