//! Hooks of an attempt: their context, and the effect of their answers on dispositions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use waxwing_pipeline::{
    Chain, Client, Context, ContextRecipient, Event, Failure, Fate, Hook, NextTry, Pipeline, RecipientOutcome, ReplyClass,
    Submission, TraceEntry,
};
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, NextHop, Reply, Status, Verdict};

use crate::header_of;
use crate::manager::Core;

/// Attempts with plugin calls open at a time, so that others wait for an instance instead of being deferred for lack of one.
/// Holders of a permit wait for nothing but plugins.
const CALLS_MAX: usize = 50;
/// Limit for on-scan, where plugins are slow; otherwise like [`PLUGIN_CALLS_MAX`].
const SCANS_MAX: usize = 20;

/// Limits on concurrent plugin calls.
pub(crate) struct Gates {
    pub(crate) calls: Semaphore,
    pub(crate) scans: Semaphore,
}

impl Default for Gates {
    fn default() -> Self {
        Self { calls: Semaphore::new(CALLS_MAX), scans: Semaphore::new(SCANS_MAX) }
    }
}

/// Builds the hook context of a queued message for some of its recipients.
pub(crate) fn context_of(pipeline: &Pipeline, message: &Message, recipients: &[u32]) -> Context {
    let envelope = &message.envelope;
    let origin = &envelope.origin;
    let client = |peer| Arc::new(Client { peer, name: origin.client_name.clone(), listener: "".into() });
    let mut context = Context::new(origin.via, origin.peer.map(client));
    context.id = Some(message.id);
    context.helo = origin.helo.as_deref().map(Into::into);
    context.user = origin.user.as_ref().map(|user| Arc::new((user.clone(), String::new())));
    context.sender = Some(Arc::new(envelope.sender.clone()));
    context.head = Some(Arc::new(header_of(message)));
    context.body = Some(Arc::clone(&message.body));
    context.tags = Arc::clone(&message.tags);
    let recipient = |index: &u32| {
        let recipient = envelope.recipients.get(*index as usize)?.clone();
        let class = pipeline.class_of(&recipient.address);
        Some(ContextRecipient { index: *index, recipient, class, parameters: Vec::new() })
    };
    context.recipients = Arc::new(recipients.iter().filter_map(recipient).collect());
    context.next_recipient = u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX);
    context
}

/// Hook session with all plugins about one attempt.
pub(crate) struct Hooks {
    chain: Chain,
    context: Context,
    destination: String,
}

impl Hooks {
    /// Returns none if no plugin is bound to any hook of the attempt, at no cost.
    pub(crate) fn of(core: &Core, attempt: &Attempt, message: &Message) -> Option<Self> {
        let pipeline = &core.parts.pipeline;
        let bound = [Hook::OnSend, Hook::OnReply, Hook::OnRetry, Hook::OnOutcome].into_iter().any(|hook| pipeline.has(hook));
        bound.then(|| Self {
            chain: pipeline.chain(),
            context: context_of(pipeline, message, &attempt.recipients),
            destination: attempt.hop.to_string(),
        })
    }

    /// Runs on-send: returns the edited header block, if any, or the disposition of all recipients in place of a delivery.
    pub(crate) async fn send(&mut self, core: &Core) -> Result<Option<Bytes>, Disposition> {
        if !self.chain.has(Hook::OnSend) {
            return Ok(None);
        }
        // The semaphore is never closed.
        let _permit = core.gates.calls.acquire().await;
        let before = self.context.head.clone();
        let verdict = core.parts.pipeline.outgoing(&mut self.chain, &mut self.context, &self.destination).await;
        self.chain.release();
        match verdict {
            Verdict::Continue | Verdict::Accept => {}
            Verdict::Reject(reply) | Verdict::Disconnect(reply) => return Err(Disposition::Failed(status_of(&reply, 5))),
            Verdict::Defer(reply) => return Err(Disposition::Deferred { status: status_of(&reply, 4), not_before: None }),
            Verdict::Discard { .. } | Verdict::Hold { .. } => {
                let status = Status::local(EnhancedCode::new(4, 3, 0), "a plugin returned a verdict not allowed in on-send");
                return Err(Disposition::Deferred { status, not_before: None });
            }
        }
        let edited = |before: &Arc<_>, after: &Arc<_>| !Arc::ptr_eq(before, after);
        match (&before, &self.context.head) {
            (Some(before), Some(after)) if edited(before, after) => {
                let empty = self.context.body.as_ref().is_none_or(|body| body.size() == 0);
                Ok(Some(after.to_bytes(empty)))
            }
            _ => Ok(None),
        }
    }

    /// Runs on-reply once for each distinct reply of the remote server. Accepted recipients stay delivered.
    pub(crate) async fn replies(&mut self, core: &Core, hop: &NextHop, dispositions: &mut [(u32, Disposition)]) {
        if !self.chain.has(Hook::OnReply) {
            return;
        }
        let _permit = core.gates.calls.acquire().await;
        let mut classified: Vec<(u16, String, ReplyClass)> = Vec::new();
        for (_, disposition) in dispositions {
            let status = disposition.status();
            let (Some(code), Some(_)) = (status.code, &status.remote) else { continue };
            let class = match classified.iter().find(|(c, text, _)| *c == code && *text == status.text) {
                Some((_, _, class)) => *class,
                None => {
                    let (chain, context) = (&mut self.chain, &mut self.context);
                    let class = core.parts.pipeline.class_of_reply(chain, context, &self.destination, code, &status.text).await;
                    classified.push((code, status.text.clone(), class));
                    class
                }
            };
            let mut not_before = None;
            if class == ReplyClass::DestinationDead {
                let now = core.parts.clock.now();
                let until = now + core.ways().settings.minimal_backoff_time;
                core.resting.begin(hop, now, until, &format!("{code} {}", status.text));
                not_before = Some(until);
            }
            match class {
                ReplyClass::AsIs => {}
                ReplyClass::Temporary | ReplyClass::DestinationDead => {
                    if let Disposition::Failed(status) | Disposition::Deferred { status, .. } = disposition {
                        *disposition = Disposition::Deferred { status: with_class(status, 4), not_before };
                    }
                }
                ReplyClass::Permanent => {
                    if let Disposition::Deferred { status, .. } = disposition {
                        *disposition = Disposition::Failed(with_class(status, 5));
                    }
                }
            }
        }
        self.chain.release();
    }

    /// Runs on-retry for the first deferred recipient.
    pub(crate) async fn retry(&mut self, core: &Core, attempt: &Attempt, message: &Message, deferred: &Status) -> NextTry {
        if !self.chain.has(Hook::OnRetry) {
            return NextTry::AsPlanned;
        }
        let failure = Failure {
            attempt: attempt.number,
            age: core.parts.clock.now().since(message.envelope.origin.received_at),
            destination: self.destination.clone(),
            status: deferred.enhanced.to_string(),
            text: deferred.text.clone(),
        };
        let _permit = core.gates.calls.acquire().await;
        let next = core.parts.pipeline.next_try(&mut self.chain, &mut self.context, failure).await;
        self.chain.release();
        next
    }

    /// Runs on-outcome for each recipient.
    pub(crate) async fn outcomes(&mut self, core: &Core, fates: &[(u32, Fate, Status)]) {
        if !self.chain.has(Hook::OnOutcome) {
            return;
        }
        let _permit = core.gates.calls.acquire().await;
        for (index, fate, status) in fates {
            let Some(recipient) = self.context.recipients.iter().find(|r| r.index == *index).cloned() else { continue };
            let outcome = RecipientOutcome {
                recipient,
                fate: *fate,
                destination: self.destination.clone(),
                status: status.enhanced.to_string(),
                text: status.text.clone(),
            };
            core.parts.pipeline.tell(&mut self.chain, &mut self.context, Event::Outcome(outcome)).await;
        }
        self.chain.release();
    }

    /// Returns the submissions and trace entries of all plugins.
    pub(crate) fn end(self) -> (Vec<Submission>, Vec<TraceEntry>) {
        (self.context.submissions.as_ref().clone(), self.chain.trace)
    }
}

/// Converts a plugin's reply to a status of the given class.
pub(crate) fn status_of(reply: &Reply, class: u8) -> Status {
    let enhanced = reply.enhanced().filter(|e| e.class == class).unwrap_or(EnhancedCode::new(class, 7, 1));
    Status::local(enhanced, reply.text().replace('\n', " "))
}

fn with_class(status: &Status, class: u8) -> Status {
    Status { enhanced: EnhancedCode { class, ..status.enhanced }, ..status.clone() }
}
