//! Session handler of an SMTP server session: connect and HELO in `connect.rs`, AUTH in `auth.rs`, XCLIENT in `xclient.rs`, commands of a
//! mail transaction in `mail_commands.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_net::{End, Host, spawn};
use waxwing_pipeline::{AuthExchange, Chain, Client, Context, Event, Hook};
use waxwing_smtp::ServerSession;
use waxwing_smtp::server::{Answer, Question};
use waxwing_types::{QueueId, Reply, ReversePath, Timestamp, Via};

use crate::Intake;
use crate::transaction::{Transaction, record_of};

mod auth;
mod opening;
mod transacting;
mod xclient;

/// Intake's handler for the questions of a single SMTP session.
pub struct SessionHost {
    intake: Arc<Intake>,
    /// Peer address of the TCP connection, unaffected by XCLIENT.
    connected: SocketAddr,
    /// Session context before MAIL, cloned for each transaction.
    pub(crate) context: Context,
    /// Plugin sessions of the hooks before MAIL.
    chain: Chain,
    esmtp: bool,
    /// Mechanism and state of an open AUTH exchange.
    exchange: Option<(String, Box<dyn AuthExchange>)>,
    transaction: Option<Box<Transaction>>,
    /// Rule of the last refusal by the server, until logged.
    rule: Option<String>,
    counts: Counts,
    end: Option<End>,
}

/// Counters for the session's debug log line.
#[derive(Default)]
struct Counts {
    messages: u64,
    refused: u64,
    last_refusal: Option<Reply>,
}

impl SessionHost {
    pub(crate) fn new(intake: Arc<Intake>, client: Client, via: Via) -> Self {
        let hooks = intake.parts.pipeline.chain();
        let connected = client.peer;
        let context = Context::new(via, Some(Arc::new(client)));
        Self {
            intake,
            connected,
            context,
            chain: hooks,
            esmtp: false,
            exchange: None,
            transaction: None,
            rule: None,
            counts: Counts::default(),
            end: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn context_user(&self) -> Option<(String, String)> {
        self.context.user.as_deref().cloned()
    }

    /// Longest reply delay requested by hooks since the last reply.
    fn take_delay(&mut self) -> Duration {
        let mut delay = std::mem::take(&mut self.context.delay_reply);
        if let Some(transaction) = &mut self.transaction {
            delay = delay.max(std::mem::take(&mut transaction.context.delay_reply));
        }
        delay
    }

    /// Logs and traces a refusal before the first transaction.
    fn refused_session(&mut self, id: QueueId, answer: &Answer, at: &str, now: Timestamp) {
        let (Answer::Reply(reply) | Answer::Close(reply)) = answer else { return };
        self.note_refusal(id, None, reply);
        let result = format!("refused at {at}: {reply}");
        let entries = self.chain.trace.clone();
        self.intake.parts.trace.record(record_of(id, &self.context, &self.intake.parts.settings, result, entries, now));
    }

    /// Runs the disconnect hooks in a separate task: dropping a session must not block.
    fn tell_the_end(&mut self) {
        let transaction = self.transaction.take();
        let has_hook = self.chain.has(Hook::OnDisconnect);
        if transaction.is_none() && !has_hook {
            return;
        }
        let intake = Arc::clone(&self.intake);
        let (mut hooks, mut context) = (intake.parts.pipeline.chain_of(&self.chain), self.context.clone());
        let reason = match self.end {
            Some(End::Closed) => "closed",
            Some(End::PeerGone) => "lost",
            Some(End::PeerStuck) => "stuck",
            None => "cut off",
        };
        drop(spawn("disconnect", async move {
            if let Some(transaction) = transaction {
                transaction.given_up(&intake).await;
            }
            if has_hook {
                intake.parts.pipeline.tell(&mut hooks, &mut context, Event::Disconnect(reason.to_owned())).await;
            }
        }));
    }

    fn note_refusal(&mut self, id: QueueId, sender: Option<&ReversePath>, reply: &Reply) {
        self.counts.refused += 1;
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        let sender = sender.map(ToString::to_string).unwrap_or_default();
        let helo = self.context.helo.as_deref().unwrap_or_default();
        let rule = self.rule.take().map(|rule| format!(" rule={rule:?}")).unwrap_or_default();
        tracing::info!(target: "smtpd", "{id}: reject: from {peer}: {reply}; from=<{sender}> helo=<{helo}>{rule}");
        self.counts.last_refusal = Some(reply.clone());
    }
}

impl Host<ServerSession> for SessionHost {
    async fn answer(&mut self, question: Question) -> Answer {
        // Boxed futures: otherwise the task of an idle session would reserve some tens of KiB, the size of the largest handler.
        let answer = match question {
            Question::Connect => Box::pin(self.connect()).await,
            Question::Helo { name, esmtp } => Box::pin(self.helo(name, esmtp)).await,
            Question::Mail { sender, parameters, size, options } => Box::pin(self.mail(sender, parameters, size, options)).await,
            Question::Rcpt { recipient, parameters, options } => Box::pin(self.rcpt(recipient, parameters, options)).await,
            Question::Secured(tls) => Box::pin(self.secured(tls)).await,
            Question::Auth(step) => Box::pin(self.auth(step)).await,
            Question::Xclient(attributes) => Box::pin(self.xclient(attributes)).await,
            Question::Command { verb, argument } => Box::pin(self.command(&verb, &argument)).await,
            Question::Data => Box::pin(self.data()).await,
            Question::EndOfData => Box::pin(self.end_of_data()).await,
            Question::Reset => {
                if let Some(transaction) = self.transaction.take() {
                    Box::pin(transaction.given_up(&self.intake)).await;
                }
                Answer::Done
            }
        };
        let delay = self.take_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        answer
    }

    fn ended(&mut self, end: End) {
        self.end = Some(end);
    }

    async fn body(&mut self, piece: Bytes) {
        if let Some(transaction) = &mut self.transaction {
            Box::pin(transaction.write(&self.intake, piece)).await;
        }
    }
}

impl Drop for SessionHost {
    /// Writes a debug log line and notifies hooks of the disconnect in a separate task.
    fn drop(&mut self) {
        self.tell_the_end();
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        let helo = self.context.helo.as_deref().unwrap_or("-");
        let Counts { messages, refused, last_refusal } = &self.counts;
        let quoted = last_refusal.as_ref().map(|r| format!(" last refusal: {r}")).unwrap_or_default();
        tracing::debug!(target: "smtpd", "disconnect from {peer} helo={helo} messages={messages} refused={refused}{quoted}");
    }
}
