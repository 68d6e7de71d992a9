//! DSNs to the sender about failed, delayed or delivered recipients (RFC 3461 §6, RFC 3464).

use bytes::Bytes;
use waxwing_generated::{OnDsnResult, prepare_dsn, run_on_dsn, store_prepared};
use waxwing_message::{DsnAction, DsnBuilder, DsnRecipient};
use waxwing_pipeline::{Hook, PreparedMessage, Submission, SubmitError, TraceEntry};
use waxwing_spool::NewMessage;
use waxwing_types::{DsnReturn, Message, Notify, Recipient, ReversePath, Status, Timestamp};

use crate::DeliverySettings;
use crate::context::DeliveryContext;

/// The DSN cannot be built now, with the reason; recipients must not be failed yet.
pub(crate) struct DsnDeferred(pub(crate) String);

/// Subject of a DSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DsnKind {
    /// Recipients whose delivery has failed for good.
    Failure,
    /// Recipients whose delivery is delayed.
    Delay {
        /// Time of expiry of the recipients.
        until: Timestamp,
    },
    /// Recipients delivered to their mailbox or relayed.
    Success(DsnAction),
}

impl DsnKind {
    /// Name of the kind in the plugin contract.
    fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Delay { .. } => "delay",
            Self::Success(_) => "success",
        }
    }

    fn action(self) -> DsnAction {
        match self {
            Self::Failure => DsnAction::Failed,
            Self::Delay { until } => DsnAction::Delayed { until },
            Self::Success(action) => action,
        }
    }

    fn is_wanted(self, notify: Notify, settings: &DeliverySettings) -> bool {
        match (self, notify) {
            (Self::Delay { .. }, notify) => settings.wants_delay_dsn(notify),
            (_, Notify::Never) => false,
            (Self::Failure, Notify::Default) => true,
            (Self::Success(_), Notify::Default) => false,
            (Self::Failure, Notify::On { failure, .. }) => failure,
            (Self::Success(_), Notify::On { success, .. }) => success,
        }
    }
}

/// Returns true if the sender requested a success DSN for the recipient (NOTIFY=SUCCESS).
pub(crate) fn wants_success_dsn(message: &Message, index: u32) -> bool {
    let recipient = message.envelope.recipients.get(index as usize);
    recipient.is_some_and(|r| matches!(r.notify, Notify::On { success: true, .. }))
}

/// Result of building DSNs.
#[derive(Default)]
pub(crate) struct DsnResult {
    /// DSNs after all hooks, ready for commit with the settlement. Empty if none is due: the message is itself a DSN, the sender
    /// requested none, or a plugin suppressed the DSN.
    pub(crate) messages: Vec<NewMessage>,
    /// Messages submitted by plugins in on-dsn.
    pub(crate) submissions: Vec<Submission>,
    /// Trace entries of on-dsn.
    pub(crate) trace: Vec<TraceEntry>,
}

impl DsnResult {
    /// Appends the result of another DSN.
    pub(crate) fn merge(&mut self, other: Self) {
        self.messages.extend(other.messages);
        self.submissions.extend(other.submissions);
        self.trace.extend(other.trace);
    }
}

/// Builds the DSN about the given recipients, if one is due. Errors if the hooks or the spool are unavailable for now.
pub(crate) async fn build_dsn(
    core: &DeliveryContext,
    message: &Message,
    kind: DsnKind,
    list: &[(u32, Status)],
) -> Result<DsnResult, DsnDeferred> {
    let ReversePath::Address(sender) = &message.envelope.sender else {
        tracing::info!(target: "bounce", "{}: double bounce suppressed", message.id);
        return Ok(DsnResult::default());
    };
    let now = core.services.clock.now();
    let wanted = |(index, status): &'_ (u32, Status)| {
        let recipient = message.envelope.recipients.get(*index as usize)?;
        kind.is_wanted(recipient.notify, &core.routing().settings).then(|| (recipient.clone(), status.clone()))
    };
    let list: Vec<(Recipient, Status)> = list.iter().filter_map(wanted).collect();
    if list.is_empty() {
        return Ok(DsnResult::default());
    }
    let recipients: Vec<DsnRecipient<'_>> = list
        .iter()
        .map(|(recipient, status)| DsnRecipient { recipient, action: kind.action(), status, last_attempt: now })
        .collect();
    let id = core.services.spool.next_queue_id(now);
    // RFC 3461 §4.3: only failure DSNs return the full message. RFC 8689 §5: REQUIRETLS messages return the header only.
    let full_body = kind == DsnKind::Failure && !message.envelope.require_tls;
    let ret = if full_body { message.envelope.ret } else { Some(DsnReturn::Headers) };
    let body = if ret == Some(DsnReturn::Headers) { None } else { returned_body(core, message).await };
    let routing = core.routing();
    let builder = DsnBuilder {
        reporting_mta: &routing.settings.myhostname,
        recipient: sender,
        dsn_queue_id: id,
        created_at: now,
        original_queue_id: message.id,
        arrived_at: message.envelope.origin.received_at,
        envid: message.envelope.envid.as_deref(),
        recipients: &recipients,
        ret,
        smtputf8: message.envelope.smtputf8,
        header: &message.header,
        body: body.as_deref(),
    };
    match prepare_dsn(&*core.services.submit, &builder, message.envelope.require_tls, &message.tags).await {
        Ok(prepared) => {
            let OnDsnResult { dsn, submissions, trace } = call_on_dsn(core, prepared, kind).await;
            let mut result = DsnResult { messages: Vec::new(), submissions, trace };
            let Some(dsn) = dsn else {
                tracing::info!(target: "bounce", "{}: a plugin suppressed the sender's notification", message.id);
                return Ok(result);
            };
            let stored = store_prepared(&*core.services.spool, dsn).await;
            result.messages.push(stored.map_err(|error| DsnDeferred(error.to_string()))?);
            let subject = match kind {
                DsnKind::Failure => "non-delivery",
                DsnKind::Delay { .. } => "delay",
                DsnKind::Success(_) => "delivery status",
            };
            tracing::info!(target: "bounce", "{}: sender {subject} notification: {id}", message.id);
            Ok(result)
        }
        Err(SubmitError::Temporary(why)) => Err(DsnDeferred(why)),
        Err(SubmitError::Refused(why) | SubmitError::Discarded(why)) => {
            tracing::error!(target: "bounce", "{}: DSN not sent: {why}", message.id);
            Ok(DsnResult::default())
        }
    }
}

/// Runs on-dsn within the limit on concurrent plugin calls.
async fn call_on_dsn(core: &DeliveryContext, prepared: PreparedMessage, kind: DsnKind) -> OnDsnResult {
    let pipeline = &core.services.pipeline;
    let permit = match pipeline.has_hook(Hook::OnDsn) {
        // The semaphore is never closed.
        true => core.plugin_limits.calls.acquire().await.ok(),
        false => None,
    };
    let result = run_on_dsn(pipeline, prepared, kind.as_str()).await;
    drop(permit);
    result
}

/// Body of the message, if within `bounce_size_limit`.
async fn returned_body(core: &DeliveryContext, message: &Message) -> Option<Bytes> {
    let limit = core.routing().settings.queue.bounce_size_limit;
    if message.size() > limit {
        return None;
    }
    let body = message.body.read(0, usize::try_from(limit).unwrap_or(usize::MAX)).await.ok()?;
    (body.len() as u64 == message.body.size()).then_some(body)
}
