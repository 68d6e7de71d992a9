//! Session handler of a guarded session: forwards the questions of the SMTP session to intake and performs tarpit delays.

use std::time::Duration;

use bytes::Bytes;
use waxwing_net::{ConnectionEnd, SessionHandler, Shutdown};
use waxwing_smtp::server::ServerQuestion;
use waxwing_types::Reply;

use super::session::{GuardAnswer, GuardQuestion, GuardedSession};
use super::session_log::ClientIdentity;
use crate::SmtpSessionHandler;

const NO_HANDLER: Reply = Reply::fixed(421, (4, 3, 0), "Internal error, closing");

/// Answers the questions of a guarded session. `inner` is `None` for a session refused at connect.
pub struct GuardedSessionHandler {
    inner: Option<SmtpSessionHandler>,
    shutdown: Shutdown,
}

impl GuardedSessionHandler {
    /// Wraps the session handler of intake.
    #[must_use]
    pub fn new(inner: Option<SmtpSessionHandler>, shutdown: Shutdown) -> Self {
        Self { inner, shutdown }
    }

    /// Waits with a timer and without a thread; server shutdown ends the wait early.
    async fn tarpit(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.shutdown.wait() => {}
        }
    }
}

impl SessionHandler<GuardedSession> for GuardedSessionHandler {
    async fn answer(&mut self, question: GuardQuestion) -> GuardAnswer {
        match (question, &mut self.inner) {
            (GuardQuestion::Delay(time), _) => {
                self.tarpit(time).await;
                GuardAnswer::DelayOver
            }
            (GuardQuestion::Session(question), Some(inner)) => {
                let changes_client =
                    matches!(question, ServerQuestion::Connect | ServerQuestion::Auth(_) | ServerQuestion::Xclient(_));
                let answer = inner.answer(question).await;
                GuardAnswer::Session(answer, changes_client.then(|| client_identity(inner)))
            }
            (GuardQuestion::Session(question), None) => GuardAnswer::Session(question.close_with(NO_HANDLER), None),
        }
    }

    async fn body(&mut self, chunk: Bytes) {
        if let Some(inner) = &mut self.inner {
            inner.body(chunk).await;
        }
    }

    fn connection_ended(&mut self, end: ConnectionEnd) {
        if let Some(inner) = &mut self.inner {
            inner.connection_ended(end);
        }
    }
}

fn client_identity(host: &SmtpSessionHandler) -> ClientIdentity {
    let context = &host.context;
    ClientIdentity {
        name: context.client.as_ref().and_then(|client| client.name.clone()),
        user: context.user.as_ref().map(|user| user.0.clone()),
    }
}
