//! Delivery hooks: combines the answers of several plugins, after the commit of a message.

use std::sync::Arc;

use waxwing_types::{Disposition, EnhancedCode, NextHop, Reply, Status, Verdict};

use crate::intake_hooks::apply_fault;
use crate::pipeline::{CallResult, Rejected};
use crate::{Context, ContextRecipient, DeferralInfo, Event, Hook, HookAnswer, HookSession, NextTry, Pipeline, ReplyClass};

impl Pipeline {
    /// Returns the next hop of a recipient, if a plugin sets one (on-route). The first plugin with a next hop decides.
    pub async fn route(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        recipient: &ContextRecipient,
    ) -> Result<Option<NextHop>, Rejected> {
        let event = Event::Route(recipient.clone());
        let mut next_hop = None;
        chain.shadow_answers.clear();
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnRoute) {
            match self.call_plugin(at, chain, context, &event).await {
                Some(CallResult::Faulted(consequence)) => apply_fault(context, consequence)?,
                Some(CallResult::Returned(HookAnswer::Route(Some(hop)))) => {
                    next_hop = Some(hop);
                    break;
                }
                Some(CallResult::Returned(_)) | None => {}
            }
        }
        self.compare_shadows(chain, context, &event, &HookAnswer::Route(next_hop.clone())).await;
        Ok(next_hop)
    }

    /// Calls on-send for an attempt; each plugin may edit the header block left by the previous plugins. A fault always defers,
    /// whatever the configured fault policy: a message that should have been signed must not leave unsigned.
    pub async fn before_send(&self, chain: &mut HookSession, context: &mut Context, destination: &str) -> Verdict {
        let event = Event::Send(destination.to_owned());
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnSend) {
            match self.call_plugin(at, chain, context, &event).await {
                Some(CallResult::Faulted(_)) => {
                    return Verdict::Defer(Reply::fixed(
                        451,
                        (4, 3, 0),
                        "A plugin of this server failed at the outgoing message",
                    ));
                }
                Some(CallResult::Returned(HookAnswer::Verdict(Verdict::Next))) => {}
                Some(CallResult::Returned(HookAnswer::Verdict(verdict))) => return verdict,
                Some(CallResult::Returned(_)) | None => {}
            }
        }
        Verdict::Next
    }

    /// Classifies a remote server's reply (on-reply). The first plugin with an answer other than `AsIs` decides.
    pub async fn classify_reply(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        destination: &str,
        code: u16,
        text: &str,
    ) -> ReplyClass {
        let event = Event::Reply { destination: destination.to_owned(), code, text: text.to_owned() };
        let mut class = ReplyClass::AsIs;
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnReply) {
            if let Some(CallResult::Returned(HookAnswer::ReplyClass(answer))) = self.call_plugin(at, chain, context, &event).await
            {
                class = answer;
            }
            if class != ReplyClass::AsIs {
                break;
            }
        }
        self.compare_shadows(chain, context, &event, &HookAnswer::ReplyClass(class)).await;
        class
    }

    /// Returns the time of the next attempt of a deferred message (on-retry). The first plugin with an answer other than
    /// `AsPlanned` decides.
    pub async fn next_try(&self, chain: &mut HookSession, context: &mut Context, failure: DeferralInfo) -> NextTry {
        let event = Event::Retry(failure);
        let mut next_try = NextTry::AsPlanned;
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnRetry) {
            if let Some(CallResult::Returned(HookAnswer::NextTry(next))) = self.call_plugin(at, chain, context, &event).await {
                next_try = next;
            }
            if next_try != NextTry::AsPlanned {
                break;
            }
        }
        self.compare_shadows(chain, context, &event, &HookAnswer::NextTry(next_try.clone())).await;
        next_try
    }

    /// Calls on-dsn for a DSN about to be sent; false suppresses the DSN. Each plugin may edit the header block left by the
    /// previous plugins. The first plugin that suppresses the DSN ends the sequence.
    pub async fn should_send_dsn(&self, chain: &mut HookSession, context: &mut Context, kind: &str) -> bool {
        let event = Event::Dsn(kind.to_owned());
        let mut is_sent = true;
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnDsn) {
            if let Some(CallResult::Returned(HookAnswer::SendDsn(false))) = self.call_plugin(at, chain, context, &event).await {
                is_sent = false;
                break;
            }
        }
        self.compare_shadows(chain, context, &event, &HookAnswer::SendDsn(is_sent)).await;
        is_sent
    }

    /// Delivers a message through the named plugin transport. A fault defers all recipients, or holds the message and sets
    /// `context.hold` to the reason.
    pub async fn deliver(
        &self,
        plugin: &str,
        chain: &mut HookSession,
        context: &mut Context,
        hop: NextHop,
        recipients: Vec<ContextRecipient>,
    ) -> Vec<(u32, Disposition)> {
        let deferred = |text: String| {
            let status = Status::local(EnhancedCode::new(4, 3, 0), text);
            Disposition::Deferred { status, not_before: None }
        };
        let all: Vec<u32> = recipients.iter().map(|r| r.index).collect();
        let everyone = |text: &str| all.iter().map(|i| (*i, deferred(text.to_owned()))).collect();
        let Some(at) = chain.table.index_of(plugin) else {
            return everyone("the plugin of this transport is not loaded");
        };
        match self.call_plugin(at, chain, context, &Event::Deliver { hop, recipients }).await {
            Some(CallResult::Returned(HookAnswer::Dispositions(list))) => all
                .iter()
                .map(|index| match list.iter().find(|(i, _)| i == index) {
                    Some(disposition) => disposition.clone(),
                    None => (*index, deferred("no disposition from the transport plugin".to_owned())),
                })
                .collect(),
            Some(CallResult::Faulted(consequence)) => {
                if let Verdict::Hold { reason } = consequence {
                    context.hold.get_or_insert(reason);
                }
                everyone("the transport plugin failed")
            }
            Some(CallResult::Returned(_)) | None => everyone("the transport plugin does not take this message"),
        }
    }
}
