//! Session handler of an SMTP server session: connect and HELO in `connect.rs`, AUTH in `auth.rs`, XCLIENT in `xclient.rs`, commands of a
//! mail transaction in `mail_commands.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_net::{ConnectionEnd, SessionHandler, spawn};
use waxwing_pipeline::{AuthExchange, Context, Event, Hook, HookSession, SessionClient};
use waxwing_smtp::ServerSession;
use waxwing_smtp::server::{DropAnswer, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_types::{QueueId, Reply, ReversePath, Source, Timestamp};

use crate::Intake;
use crate::transaction::{MailTransaction, trace_record};

mod auth;
mod connect;
mod mail_commands;
mod xclient;

/// Intake's handler for the questions of a single SMTP session.
pub struct SmtpSessionHandler {
    intake: Arc<Intake>,
    /// Peer address of the TCP connection, unaffected by XCLIENT.
    connection_peer: SocketAddr,
    /// Session context before MAIL, cloned for each transaction.
    pub(crate) context: Context,
    /// Plugin sessions of the hooks before MAIL.
    hooks: HookSession,
    /// Mechanism and state of an open AUTH exchange.
    auth_exchange: Option<(String, Box<dyn AuthExchange>)>,
    transaction: Option<Box<MailTransaction>>,
    /// Rule of the last refusal by the server, until logged.
    refusing_rule: Option<String>,
    end: Option<ConnectionEnd>,
}

impl SmtpSessionHandler {
    pub(crate) fn new(intake: Arc<Intake>, client: SessionClient, source: Source) -> Self {
        let hooks = intake.services.pipeline.open_session();
        let connected = client.peer;
        let context = Context::new(source, Some(Arc::new(client)));
        Self {
            intake,
            connection_peer: connected,
            context,
            hooks,
            auth_exchange: None,
            transaction: None,
            refusing_rule: None,
            end: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn context_user(&self) -> Option<(String, String)> {
        self.context.user.as_deref().cloned()
    }

    /// Longest reply delay requested by hooks since the last reply.
    fn take_reply_delay(&mut self) -> Duration {
        let mut delay = std::mem::take(&mut self.context.delay_reply);
        if let Some(transaction) = &mut self.transaction {
            delay = delay.max(std::mem::take(&mut transaction.context.delay_reply));
        }
        delay
    }

    /// Logs and traces a refusal before the first transaction.
    fn record_session_refusal(&mut self, id: QueueId, answer: &StepAnswer, at: &str, now: Timestamp) {
        let (StepAnswer::Reply(reply) | StepAnswer::Close(reply)) = answer else { return };
        self.log_refusal(id, None, reply);
        let result = format!("refused at {at}: {reply}");
        let entries = self.hooks.trace.clone();
        self.intake.services.trace.record(trace_record(id, &self.context, &self.intake.services.settings, result, entries, now));
    }

    /// Runs the disconnect hooks in a separate task: dropping a session must not block.
    fn notify_disconnect(&mut self) {
        let transaction = self.transaction.take();
        let has_hook = self.hooks.has_hook(Hook::OnDisconnect);
        if transaction.is_none() && !has_hook {
            return;
        }
        let intake = Arc::clone(&self.intake);
        let (mut hooks, mut context) = (intake.services.pipeline.session_like(&self.hooks), self.context.clone());
        let reason = match self.end {
            Some(ConnectionEnd::Closed) => "closed",
            Some(ConnectionEnd::PeerGone) => "lost",
            Some(ConnectionEnd::WriteTimeout) => "stuck",
            None => "cut off",
        };
        drop(spawn("disconnect", async move {
            if let Some(transaction) = transaction {
                transaction.abandon(&intake).await;
            }
            if has_hook {
                intake.services.pipeline.notify(&mut hooks, &mut context, Event::Disconnect(reason.to_owned())).await;
            }
        }));
    }

    fn log_refusal(&mut self, id: QueueId, sender: Option<&ReversePath>, reply: &Reply) {
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        let sender = sender.map(ToString::to_string).unwrap_or_default();
        let helo = self.context.helo.as_deref().unwrap_or_default();
        let rule = self.refusing_rule.take().map(|rule| format!(" rule={rule:?}")).unwrap_or_default();
        tracing::info!(target: "smtpd", "{id}: reject: from {peer}: {reply}; from=<{sender}> helo=<{helo}>{rule}");
    }
}

impl SessionHandler<ServerSession> for SmtpSessionHandler {
    async fn answer(&mut self, question: ServerQuestion) -> ServerAnswer {
        // Boxed futures: otherwise the task of an idle session would reserve some tens of KiB, the size of the largest handler.
        let answer: ServerAnswer = match question {
            ServerQuestion::Connect => Box::pin(self.connect()).await.into(),
            ServerQuestion::Helo { name, esmtp } => Box::pin(self.helo(name, esmtp)).await.into(),
            ServerQuestion::Mail { sender, parameters, size, options } => {
                Box::pin(self.mail(sender, parameters, size, options)).await.into()
            }
            ServerQuestion::Rcpt { recipient, parameters, options } => {
                Box::pin(self.rcpt(recipient, parameters, options)).await.into()
            }
            ServerQuestion::Secured(tls) => Box::pin(self.start_tls(tls)).await.into(),
            ServerQuestion::Auth(step) => Box::pin(self.auth(step)).await,
            ServerQuestion::Xclient(attributes) => Box::pin(self.xclient(attributes)).await.into(),
            ServerQuestion::Command { verb, argument } => Box::pin(self.command(&verb, &argument)).await.into(),
            ServerQuestion::Data => Box::pin(self.data()).await.into(),
            ServerQuestion::EndOfData => Box::pin(self.end_of_data()).await.into(),
            ServerQuestion::Reset => {
                if let Some(transaction) = self.transaction.take() {
                    Box::pin(transaction.abandon(&self.intake)).await;
                }
                DropAnswer::Done.into()
            }
        };
        let delay = self.take_reply_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        answer
    }

    fn connection_ended(&mut self, end: ConnectionEnd) {
        self.end = Some(end);
    }

    async fn body(&mut self, piece: Bytes) {
        if let Some(transaction) = &mut self.transaction {
            Box::pin(transaction.write(&self.intake, piece)).await;
        }
    }
}

impl Drop for SmtpSessionHandler {
    /// Notifies hooks of the disconnect in a separate task.
    fn drop(&mut self) {
        self.notify_disconnect();
    }
}

impl Intake {
    /// Creates the session handler of a server session.
    #[must_use]
    pub fn session_handler(self: &Arc<Self>, client: SessionClient, source: Source) -> SmtpSessionHandler {
        SmtpSessionHandler::new(Arc::clone(self), client, source)
    }
}
