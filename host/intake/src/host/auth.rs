//! AUTH: runs SASL exchanges and stores the authenticated user in the session context.

use std::sync::Arc;

use waxwing_pipeline::{AuthExchange, AuthProgress};
use waxwing_smtp::server::{Answer, AuthStep};
use waxwing_types::Reply;

use super::SessionHost;
use crate::replies;

impl SessionHost {
    pub(super) async fn auth(&mut self, step: AuthStep) -> Answer {
        match step {
            AuthStep::Cancel => {
                self.exchange = None;
                Answer::Done
            }
            AuthStep::Begin(mechanism, response) => match self.begin_exchange(&mechanism) {
                Ok(exchange) => self.auth_step(mechanism, exchange, response).await,
                Err(reply) => self.not_authenticated(&mechanism, reply),
            },
            AuthStep::Response(response) => match self.exchange.take() {
                Some((mechanism, exchange)) => self.auth_step(mechanism, exchange, Some(response)).await,
                None => Answer::Reply(replies::NO_EXCHANGE),
            },
        }
    }

    fn begin_exchange(&self, mechanism: &str) -> Result<Box<dyn AuthExchange>, Reply> {
        let (Some(authenticator), Some(client)) = (&self.intake.parts.authenticator, &self.context.client) else {
            return Err(replies::NO_AUTH);
        };
        authenticator.begin(mechanism, client.peer.ip(), self.context.tls.as_deref())
    }

    async fn auth_step(&mut self, mechanism: String, mut exchange: Box<dyn AuthExchange>, response: Option<Vec<u8>>) -> Answer {
        let pipeline = &self.intake.parts.pipeline;
        match exchange.step(pipeline, &mut self.chain, &mut self.context, response).await {
            AuthProgress::Challenge(challenge) => {
                self.exchange = Some((mechanism, exchange));
                Answer::Challenge(challenge)
            }
            AuthProgress::Done { user } => {
                self.chain.release();
                let peer = self.connected.ip();
                tracing::info!(target: "smtpd", "authenticated: client={peer}, sasl_method={mechanism}, sasl_username={user}");
                self.context.user = Some(Arc::new((user, mechanism)));
                Answer::Authenticated
            }
            AuthProgress::Failed(reply) => {
                self.chain.release();
                self.not_authenticated(&mechanism, reply)
            }
        }
    }

    fn not_authenticated(&mut self, mechanism: &str, reply: Reply) -> Answer {
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        tracing::info!(target: "smtpd", "authentication failed: client={peer}, sasl_method={mechanism}: {reply}");
        self.counts.refused += 1;
        self.counts.last_refusal = Some(reply.clone());
        Answer::Reply(reply)
    }
}
