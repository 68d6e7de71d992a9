//! AUTH: runs SASL exchanges and stores the authenticated user in the session context.

use std::sync::Arc;

use waxwing_pipeline::{AuthExchange, AuthProgress};
use waxwing_smtp::server::{AuthStep, AuthStepAnswer, DropAnswer, ServerAnswer};
use waxwing_types::Reply;

use super::SmtpSessionHandler;
use crate::replies;

/// Protocol of the session as shown to plugins; submission and LMTP are dialects of SMTP.
const PROTOCOL: &str = "smtp";

impl SmtpSessionHandler {
    pub(super) async fn auth(&mut self, step: AuthStep) -> ServerAnswer {
        match step {
            AuthStep::Cancel => {
                self.auth_exchange = None;
                DropAnswer::Done.into()
            }
            AuthStep::Begin(mechanism, response) => match self.begin_exchange(&mechanism) {
                Ok(exchange) => self.auth_step(mechanism, exchange, response).await.into(),
                Err(reply) => self.fail_authentication(&mechanism, reply).into(),
            },
            AuthStep::Response(response) => match self.auth_exchange.take() {
                Some((mechanism, exchange)) => self.auth_step(mechanism, exchange, Some(response)).await.into(),
                None => AuthStepAnswer::Reject(replies::NO_AUTH_EXCHANGE).into(),
            },
        }
    }

    fn begin_exchange(&self, mechanism: &str) -> Result<Box<dyn AuthExchange>, Reply> {
        let (Some(authenticator), Some(client)) = (&self.intake.services.authenticator, &self.context.client) else {
            return Err(replies::NO_AUTH);
        };
        authenticator.begin(PROTOCOL, mechanism, client.peer.ip(), self.context.tls.as_deref())
    }

    async fn auth_step(
        &mut self,
        mechanism: String,
        mut exchange: Box<dyn AuthExchange>,
        response: Option<Vec<u8>>,
    ) -> AuthStepAnswer {
        let pipeline = &self.intake.services.pipeline;
        match exchange.step(pipeline, &mut self.hooks, &mut self.context, response).await {
            AuthProgress::Challenge(challenge) => {
                self.auth_exchange = Some((mechanism, exchange));
                AuthStepAnswer::Challenge(challenge)
            }
            AuthProgress::Done { user } => {
                self.hooks.release();
                let peer = self.connection_peer.ip();
                tracing::info!(target: "smtpd", "authenticated: client={peer}, sasl_method={mechanism}, sasl_username={user}");
                self.context.user = Some(Arc::new((user, mechanism)));
                AuthStepAnswer::Authenticated
            }
            AuthProgress::Failed(reply) => {
                self.hooks.release();
                self.fail_authentication(&mechanism, reply)
            }
        }
    }

    fn fail_authentication(&mut self, mechanism: &str, reply: Reply) -> AuthStepAnswer {
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        tracing::info!(target: "smtpd", "authentication failed: client={peer}, sasl_method={mechanism}: {reply}");
        AuthStepAnswer::Reject(reply)
    }
}
