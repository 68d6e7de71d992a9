//! Session handler of a guarded session: forwards the questions of the SMTP session to intake and performs tarpit delays.

use std::time::Duration;

use bytes::Bytes;
use waxwing_net::{End, Host, Shutdown};
use waxwing_smtp::server::{Answer, Question};
use waxwing_types::Reply;

use super::notes::Known;
use super::session::{DoorAnswer, DoorQuestion, GuardedSession};
use crate::SessionHost;

const NOBODY_ANSWERS: Reply = Reply::fixed(421, (4, 3, 0), "Internal error, closing");

/// Answers the questions of a guarded session. `inner` is `None` for a session refused at connect.
pub struct GuardedHost {
    inner: Option<SessionHost>,
    shutdown: Shutdown,
}

impl GuardedHost {
    /// Wraps the session handler of intake.
    #[must_use]
    pub fn new(inner: Option<SessionHost>, shutdown: Shutdown) -> Self {
        Self { inner, shutdown }
    }

    /// Waits with a timer and without a thread; server shutdown ends the wait early.
    async fn rest(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.shutdown.wait() => {}
        }
    }
}

impl Host<GuardedSession> for GuardedHost {
    async fn answer(&mut self, question: DoorQuestion) -> DoorAnswer {
        match (question, &mut self.inner) {
            (DoorQuestion::Rest(time), _) => {
                self.rest(time).await;
                DoorAnswer::Rested
            }
            (DoorQuestion::Asked(question), Some(inner)) => {
                let changes_client = matches!(question, Question::Connect | Question::Auth(_) | Question::Xclient(_));
                let answer = inner.answer(question).await;
                DoorAnswer::Answered(answer, changes_client.then(|| known(inner)))
            }
            (DoorQuestion::Asked(_), None) => DoorAnswer::Answered(Answer::Close(NOBODY_ANSWERS), None),
        }
    }

    async fn body(&mut self, chunk: Bytes) {
        if let Some(inner) = &mut self.inner {
            inner.body(chunk).await;
        }
    }

    fn ended(&mut self, end: End) {
        if let Some(inner) = &mut self.inner {
            inner.ended(end);
        }
    }
}

fn known(host: &SessionHost) -> Known {
    let context = &host.context;
    Known {
        name: context.client.as_ref().and_then(|client| client.name.clone()),
        user: context.user.as_ref().map(|user| user.0.clone()),
    }
}
