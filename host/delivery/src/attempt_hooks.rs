//! Hooks of an attempt: their context, and the effect of their answers on dispositions.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{
    Context, ContextRecipient, DeferralInfo, Event, Hook, HookSession, NextTry, Pipeline, RecipientFate, RecipientOutcome,
    ReplyClass, SessionClient, Submission, TraceEntry,
};
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, NextHop, Reply, Status, Verdict};

use crate::context::DeliveryContext;

/// Builds the hook context of a queued message for some of its recipients.
pub(crate) fn hook_context(pipeline: &Pipeline, message: &Message, recipients: &[u32]) -> Context {
    let envelope = &message.envelope;
    let origin = &envelope.origin;
    let client = |peer| Arc::new(SessionClient { peer, name: origin.client_name.clone(), listener: "".into() });
    let mut context = Context::new(origin.source, origin.peer.map(client));
    context.id = Some(message.id);
    context.helo = origin.helo.as_deref().map(Into::into);
    context.esmtp = origin.esmtp;
    context.user = origin.user.as_ref().map(|user| Arc::new((user.clone(), String::new())));
    context.sender = Some(Arc::new(envelope.sender.clone()));
    context.header = Some(Arc::new(HeaderBlock::split(message.header.clone()).0));
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
pub(crate) struct AttemptHooks {
    session: HookSession,
    context: Context,
    destination: String,
}

impl AttemptHooks {
    /// Returns none if no plugin is bound to any hook of the attempt, at no cost.
    pub(crate) fn for_attempt(core: &DeliveryContext, attempt: &Attempt, message: &Message) -> Option<Self> {
        let pipeline = &core.services.pipeline;
        let bound = [Hook::OnSend, Hook::OnReply, Hook::OnRetry, Hook::OnOutcome].into_iter().any(|hook| pipeline.has_hook(hook));
        bound.then(|| Self {
            session: pipeline.open_session(),
            context: hook_context(pipeline, message, &attempt.recipients),
            destination: attempt.next_hop.to_string(),
        })
    }

    /// Runs on-send: returns the edited header block, if any, or the disposition of all recipients in place of a delivery.
    pub(crate) async fn run_on_send(&mut self, core: &DeliveryContext) -> Result<Option<Bytes>, Disposition> {
        if !self.session.has_hook(Hook::OnSend) {
            return Ok(None);
        }
        // The semaphore is never closed.
        let _permit = core.plugin_limits.calls.acquire().await;
        let before = self.context.header.clone();
        let verdict = core.services.pipeline.before_send(&mut self.session, &mut self.context, &self.destination).await;
        self.session.release();
        match verdict {
            Verdict::Next | Verdict::Accept => {}
            Verdict::Reject(reply) | Verdict::Disconnect(reply) => return Err(Disposition::Failed(status_from_reply(&reply, 5))),
            Verdict::Defer(reply) => {
                return Err(Disposition::Deferred { status: status_from_reply(&reply, 4), not_before: None });
            }
            Verdict::Discard { .. } | Verdict::Hold { .. } => {
                let status = Status::local(EnhancedCode::new(4, 3, 0), "a plugin returned a verdict not allowed in on-send");
                return Err(Disposition::Deferred { status, not_before: None });
            }
        }
        let edited = |before: &Arc<_>, after: &Arc<_>| !Arc::ptr_eq(before, after);
        match (&before, &self.context.header) {
            (Some(before), Some(after)) if edited(before, after) => {
                let empty = self.context.body.as_ref().is_none_or(|body| body.size() == 0);
                Ok(Some(after.to_bytes(empty)))
            }
            _ => Ok(None),
        }
    }

    /// Runs on-reply once for each distinct reply of the remote server. Accepted recipients stay delivered.
    pub(crate) async fn run_on_reply(&mut self, core: &DeliveryContext, hop: &NextHop, dispositions: &mut [(u32, Disposition)]) {
        if !self.session.has_hook(Hook::OnReply) {
            return;
        }
        let _permit = core.plugin_limits.calls.acquire().await;
        let mut classified: Vec<(u16, String, ReplyClass)> = Vec::new();
        for (_, disposition) in dispositions {
            let status = disposition.status();
            let (Some(code), Some(_)) = (status.code, &status.remote) else { continue };
            let class = match classified.iter().find(|(c, text, _)| *c == code && *text == status.text) {
                Some((_, _, class)) => *class,
                None => {
                    let (chain, context) = (&mut self.session, &mut self.context);
                    let class =
                        core.services.pipeline.classify_reply(chain, context, &self.destination, code, &status.text).await;
                    classified.push((code, status.text.clone(), class));
                    class
                }
            };
            let mut not_before = None;
            if class == ReplyClass::DestinationDead {
                let now = core.services.clock.now();
                let until = now + core.routing().settings.queue.minimal_backoff_time;
                core.dead_destinations.suspend(hop, now, until, &format!("{code} {}", status.text));
                not_before = Some(until);
            }
            match class {
                ReplyClass::AsIs => {}
                ReplyClass::Temporary | ReplyClass::DestinationDead => {
                    if let Disposition::Failed(status) | Disposition::Deferred { status, .. } = disposition {
                        *disposition = Disposition::Deferred { status: status_with_class(status, 4), not_before };
                    }
                }
                ReplyClass::Permanent => {
                    if let Disposition::Deferred { status, .. } = disposition {
                        *disposition = Disposition::Failed(status_with_class(status, 5));
                    }
                }
            }
        }
        self.session.release();
    }

    /// Runs on-retry for the first deferred recipient.
    pub(crate) async fn run_on_retry(
        &mut self,
        core: &DeliveryContext,
        attempt: &Attempt,
        message: &Message,
        deferred: &Status,
    ) -> NextTry {
        if !self.session.has_hook(Hook::OnRetry) {
            return NextTry::AsPlanned;
        }
        let failure = DeferralInfo {
            attempt: attempt.number,
            age: core.services.clock.now().since(message.envelope.origin.received_at),
            destination: self.destination.clone(),
            status: deferred.enhanced.to_string(),
            text: deferred.text.clone(),
        };
        let _permit = core.plugin_limits.calls.acquire().await;
        let next = core.services.pipeline.next_try(&mut self.session, &mut self.context, failure).await;
        self.session.release();
        next
    }

    /// Runs on-outcome for each recipient.
    pub(crate) async fn run_on_outcome(&mut self, core: &DeliveryContext, fates: &[(u32, RecipientFate, Status)]) {
        if !self.session.has_hook(Hook::OnOutcome) {
            return;
        }
        let _permit = core.plugin_limits.calls.acquire().await;
        for (index, fate, status) in fates {
            let Some(recipient) = self.context.recipients.iter().find(|r| r.index == *index).cloned() else { continue };
            let outcome = RecipientOutcome {
                recipient,
                fate: *fate,
                destination: self.destination.clone(),
                status: status.enhanced.to_string(),
                text: status.text.clone(),
            };
            core.services.pipeline.notify(&mut self.session, &mut self.context, Event::Outcome(outcome)).await;
        }
        self.session.release();
    }

    /// Returns the submissions and trace entries of all plugins.
    pub(crate) fn into_results(self) -> (Vec<Submission>, Vec<TraceEntry>) {
        (self.context.submissions.as_ref().clone(), self.session.trace)
    }
}

/// Converts a plugin's reply to a status of the given class.
pub(crate) fn status_from_reply(reply: &Reply, class: u8) -> Status {
    let enhanced = reply.enhanced().filter(|e| e.class == class).unwrap_or(EnhancedCode::new(class, 7, 1));
    Status::local(enhanced, reply.text().replace('\n', " "))
}

fn status_with_class(status: &Status, class: u8) -> Status {
    Status { enhanced: EnhancedCode { class, ..status.enhanced }, ..status.clone() }
}
