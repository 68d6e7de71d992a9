//! Connecting, the handshake, HELO: what is answered before there is a mail.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use waxwing_pipeline::{Client, Event, TraceEntry};
use waxwing_smtp::server::Answer;
use waxwing_types::{TlsSession, Verdict};

use super::SessionHost;
use crate::restrict::{Case, Refusal, Stage, reverse};

impl SessionHost {
    /// A client has come, or one that a proxy speaks for.
    pub(super) async fn connect(&mut self) -> Answer {
        self.look_up_client().await;
        match self.restrict_session(Stage::Connect).await {
            Some(answer) => answer,
            None => self.session_hook(Event::Connect).await,
        }
    }

    /// The client's name that leads back to its address. This machine is known without asking (RFC 6761 §6.3).
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
                Ok(found) => found.confirmed,
                Err(_) => None,
            },
        };
        self.context.client = Some(Arc::new(Client { name, ..client.clone() }));
    }

    /// The lists that are asked before MAIL. Beside a refusal only HOLD means anything there.
    async fn restrict_session(&mut self, stage: Stage) -> Option<Answer> {
        let context = &self.context;
        let case = Case { stage, context, esmtp: self.esmtp, sender: None, recipient: None, size: 0 };
        let found = self.intake.restrict(&mut self.chain, &case).await;
        self.context.hold = self.context.hold.take().or(found.hold);
        let Refusal { reply, rule } = found.refusal?;
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
        if let Some(refusal) = self.restrict_session(Stage::Helo).await {
            return refusal;
        }
        let answer = self.session_hook(Event::Helo(name)).await;
        // A client may stay here for long, and has no use for the instances of the plugins meanwhile.
        self.chain.release();
        if answer == Answer::Ok && !self.context.hidden_capabilities.is_empty() {
            return Answer::OkWithout(self.context.hidden_capabilities.to_vec());
        }
        answer
    }
}
