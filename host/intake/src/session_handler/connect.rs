//! Connection setup: connect, TLS handshake, HELO and EHLO.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use waxwing_pipeline::{Event, SessionClient, TraceEntry};
use waxwing_smtp::server::StepAnswer;
use waxwing_types::{TlsSession, Verdict};

use super::SmtpSessionHandler;
use crate::restrictions::{RestrictionRefusal, RestrictionRequest, RestrictionStage, reverse_lookup};

impl SmtpSessionHandler {
    /// Handles a new client: connect, or XCLIENT by a proxy.
    pub(super) async fn connect(&mut self) -> StepAnswer {
        self.resolve_client_name().await;
        match self.apply_session_restrictions(RestrictionStage::Connect).await {
            Some(answer) => answer,
            None => self.run_session_hook(Event::Connect).await,
        }
    }

    /// Sets the client name confirmed by forward lookup (FCrDNS). Loopback addresses need no lookup (RFC 6761 §6.3).
    async fn resolve_client_name(&mut self) {
        let policy = &self.intake.services.policy;
        let (Some(time), Some(client)) = (policy.peername_timeout, self.context.client.as_deref()) else { return };
        if client.name.is_some() {
            return;
        }
        let ip = client.peer.ip().to_canonical();
        let name = match ip.is_loopback() {
            true => [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
                .contains(&ip)
                .then(|| "localhost".to_owned()),
            false => match tokio::time::timeout(time, reverse_lookup(&*policy.resolver, ip)).await {
                Ok(lookup) => lookup.confirmed,
                Err(_) => None,
            },
        };
        self.context.client = Some(Arc::new(SessionClient { name, ..client.clone() }));
    }

    /// Evaluates restrictions before MAIL. Only refusals and HOLD have an effect at this point.
    async fn apply_session_restrictions(&mut self, stage: RestrictionStage) -> Option<StepAnswer> {
        let context = &self.context;
        let request = RestrictionRequest { stage, context, recipient: None, size: 0 };
        let outcome = self.intake.evaluate_restrictions(&mut self.hooks, &request).await;
        self.context.hold = self.context.hold.take().or(outcome.hold);
        let RestrictionRefusal { reply, rule } = outcome.refusal?;
        let now = self.intake.services.clock.now();
        TraceEntry::server_step(now, "intake", rule.clone(), "", reply.to_string()).append_to(&mut self.hooks.trace);
        self.refusing_rule = Some(rule);
        let id = self.intake.services.spool.next_queue_id(now);
        let answer = StepAnswer::Reply(reply);
        self.record_session_refusal(id, &answer, if stage == RestrictionStage::Connect { "CONNECT" } else { "HELO" }, now);
        Some(answer)
    }

    pub(super) async fn run_session_hook(&mut self, event: Event) -> StepAnswer {
        let hook = event.hook();
        let pipeline = &self.intake.services.pipeline;
        let answer = match pipeline.verdict(&mut self.hooks, &mut self.context, event).await {
            Verdict::Next | Verdict::Accept | Verdict::Hold { .. } | Verdict::Discard { .. } => return StepAnswer::Ok,
            Verdict::Reject(reply) | Verdict::Defer(reply) => StepAnswer::Reply(reply),
            Verdict::Disconnect(reply) => StepAnswer::Close(reply),
        };
        // No queue ID exists before MAIL: the trace of a session refusal gets a fresh ID.
        let now = self.intake.services.clock.now();
        let id = self.intake.services.spool.next_queue_id(now);
        self.record_session_refusal(id, &answer, hook.as_str(), now);
        answer
    }

    /// Handles the end of the TLS handshake: everything learned from the client before is discarded (RFC 3207 §4.2).
    pub(super) async fn start_tls(&mut self, tls: TlsSession) -> StepAnswer {
        self.context.tls = Some(Arc::new(tls));
        self.reset_client_state();
        self.run_session_hook(Event::Tls).await
    }

    /// Resets the session context to the state before HELO.
    pub(super) fn reset_client_state(&mut self) {
        self.context.helo = None;
        self.context.user = None;
        self.context.hidden_capabilities = Arc::default();
        self.context.esmtp = false;
        self.auth_exchange = None;
    }

    pub(super) async fn helo(&mut self, name: String, esmtp: bool) -> StepAnswer {
        self.context.helo = Some(name.as_str().into());
        self.context.hidden_capabilities = Arc::default();
        self.context.esmtp = esmtp;
        if let Some(refusal) = self.apply_session_restrictions(RestrictionStage::Helo).await {
            return refusal;
        }
        let answer = self.run_session_hook(Event::Helo(name)).await;
        // Clients may stay idle after HELO for a long time: plugin instances are released meanwhile.
        self.hooks.release();
        if answer == StepAnswer::Ok && !self.context.hidden_capabilities.is_empty() {
            return StepAnswer::OkWithoutExtensions(self.context.hidden_capabilities.to_vec());
        }
        answer
    }
}
