//! Connection setup: connect, TLS handshake, HELO and EHLO.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use waxwing_pipeline::{Client, Event, TraceEntry};
use waxwing_smtp::server::Answer;
use waxwing_types::{TlsSession, Verdict};

use super::SessionHost;
use crate::restrict::{Case, Refusal, Stage, reverse};

impl SessionHost {
    /// Handles a new client: connect, or XCLIENT by a proxy.
    pub(super) async fn connect(&mut self) -> Answer {
        self.look_up_client().await;
        match self.restrict_session(Stage::Connect).await {
            Some(answer) => answer,
            None => self.session_hook(Event::Connect).await,
        }
    }

    /// Sets the client name confirmed by forward lookup (FCrDNS). Loopback addresses need no lookup (RFC 6761 §6.3).
    async fn look_up_client(&mut self) {
        let policy = &self.intake.parts.policy;
        let (Some(time), Some(client)) = (policy.peername_timeout, self.context.client.as_deref()) else { return };
        if client.name.is_some() {
            return;
        }
        let ip = client.peer.ip().to_canonical();
        let name = match ip.is_loopback() {
            true => [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
                .contains(&ip)
                .then(|| "localhost".to_owned()),
            false => match tokio::time::timeout(time, reverse(&*policy.resolver, ip)).await {
                Ok(lookup) => lookup.confirmed,
                Err(_) => None,
            },
        };
        self.context.client = Some(Arc::new(Client { name, ..client.clone() }));
    }

    /// Evaluates restrictions before MAIL. Only refusals and HOLD have an effect at this point.
    async fn restrict_session(&mut self, stage: Stage) -> Option<Answer> {
        let context = &self.context;
        let request = Case { stage, context, esmtp: self.esmtp, sender: None, recipient: None, size: 0 };
        let outcome = self.intake.restrict(&mut self.chain, &request).await;
        self.context.hold = self.context.hold.take().or(outcome.hold);
        let Refusal { reply, rule } = outcome.refusal?;
        let now = self.intake.parts.clock.now();
        TraceEntry::step(now, "intake", rule.clone(), "", reply.to_string()).keep(&mut self.chain.trace);
        self.rule = Some(rule);
        let id = self.intake.parts.spool.ids().next(now);
        let answer = Answer::Reply(reply);
        self.refused_session(id, &answer, if stage == Stage::Connect { "CONNECT" } else { "HELO" }, now);
        Some(answer)
    }

    pub(super) async fn session_hook(&mut self, event: Event) -> Answer {
        let hook = event.hook();
        let pipeline = &self.intake.parts.pipeline;
        let answer = match pipeline.verdict(&mut self.chain, &mut self.context, event).await {
            Verdict::Continue | Verdict::Accept | Verdict::Hold { .. } | Verdict::Discard { .. } => return Answer::Ok,
            Verdict::Reject(reply) | Verdict::Defer(reply) => Answer::Reply(reply),
            Verdict::Disconnect(reply) => Answer::Close(reply),
        };
        // No queue ID exists before MAIL: the trace of a session refusal gets a fresh ID.
        let now = self.intake.parts.clock.now();
        let id = self.intake.parts.spool.ids().next(now);
        self.refused_session(id, &answer, hook.as_str(), now);
        answer
    }

    /// Handles the end of the TLS handshake: everything learned from the client before is discarded (RFC 3207 §4.2).
    pub(super) async fn secured(&mut self, tls: TlsSession) -> Answer {
        self.context.tls = Some(Arc::new(tls));
        self.forget_client_words();
        self.session_hook(Event::Tls).await
    }

    /// Resets the session context to the state before HELO.
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
        if let Some(refusal) = self.restrict_session(Stage::Helo).await {
            return refusal;
        }
        let answer = self.session_hook(Event::Helo(name)).await;
        // Clients may stay idle after HELO for a long time: plugin instances are released meanwhile.
        self.chain.release();
        if answer == Answer::Ok && !self.context.hidden_capabilities.is_empty() {
            return Answer::OkWithout(self.context.hidden_capabilities.to_vec());
        }
        answer
    }
}
