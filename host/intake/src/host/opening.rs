//! Connecting, the handshake, HELO: what is answered before there is a mail.

use std::sync::Arc;

use waxwing_pipeline::Event;
use waxwing_smtp::server::Answer;
use waxwing_types::{TlsSession, Verdict};

use super::SessionHost;

impl SessionHost {
    pub(super) async fn session_hook(&mut self, event: Event) -> Answer {
        let hook = event.hook();
        let pipeline = &self.intake.parts.pipeline;
        let answer = match pipeline.verdict(&mut self.chain, &mut self.context, event).await {
            Verdict::Continue | Verdict::Accept | Verdict::Hold { .. } | Verdict::Discard { .. } => return Answer::Ok,
            Verdict::Reject(reply) | Verdict::Defer(reply) => Answer::Reply(reply),
            Verdict::Disconnect(reply) => Answer::Close(reply),
        };
        // Before MAIL nothing has a name yet: the steps so far are traced under one of their own.
        let now = self.intake.parts.clock.now();
        let id = self.intake.parts.spool.ids().next(now);
        self.refused_session(id, &answer, hook.as_str(), now);
        answer
    }

    /// The connection is encrypted now: what the client said before it counts for nothing (RFC 3207 §4.2).
    pub(super) async fn secured(&mut self, tls: TlsSession) -> Answer {
        self.context.tls = Some(Arc::new(tls));
        self.forget_client_words();
        self.session_hook(Event::Tls).await
    }

    /// As if the client had said nothing yet.
    pub(super) fn forget_client_words(&mut self) {
        self.context.helo = None;
        self.context.user = None;
        self.context.hidden_capabilities = Arc::default();
        self.esmtp = false;
        self.exchange = None;
    }

    pub(super) async fn helo(&mut self, name: String, esmtp: bool) -> Answer {
        self.context.helo = Some(name.as_str().into());
        self.context.hidden_capabilities = Arc::default();
        self.esmtp = esmtp;
        let answer = self.session_hook(Event::Helo(name)).await;
        // A client may stay here for long, and has no use for the instances of the plugins meanwhile.
        self.chain.release();
        if answer == Answer::Ok && !self.context.hidden_capabilities.is_empty() {
            return Answer::OkWithout(self.context.hidden_capabilities.to_vec());
        }
        answer
    }
}
