//! Answers the questions of a server session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_net::{End, Host, spawn};
use waxwing_pipeline::{Chain, Client, Context, ContextRecipient, Ended, Event, Hook, Role};
use waxwing_smtp::ServerSession;
use waxwing_smtp::server::{Answer, MailOptions, Question};
use waxwing_types::{Address, Origin, Parameter, QueueId, Recipient, Reply, ReversePath, Timestamp, Verdict, Via};

use crate::gate::is_postmaster;
use crate::recording::Draft;
use crate::transaction::{Transaction, record_of, verdict_answer};
use crate::{Intake, replies};

/// One session's side of intake.
pub struct SessionHost {
    intake: Arc<Intake>,
    /// What is known before MAIL; each transaction begins with a copy.
    pub(crate) context: Context,
    /// The conversations of the hooks before MAIL.
    chain: Chain,
    esmtp: bool,
    transaction: Option<Transaction>,
    counts: Counts,
    end: Option<End>,
}

/// For the session's log line.
#[derive(Default)]
struct Counts {
    messages: u64,
    refused: u64,
    last_refusal: Option<Reply>,
}

impl SessionHost {
    pub(crate) fn new(intake: Arc<Intake>, client: Client, via: Via) -> Self {
        let chain = intake.parts.pipeline.chain();
        let context = Context::new(via, Some(Arc::new(client)));
        Self { intake, context, chain, esmtp: false, transaction: None, counts: Counts::default(), end: None }
    }

    async fn session_hook(&mut self, event: Event) -> Answer {
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

    async fn helo(&mut self, name: String, esmtp: bool) -> Answer {
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

    /// What hooks want to wait before the reply that is due now.
    fn take_delay(&mut self) -> Duration {
        let mut delay = std::mem::take(&mut self.context.delay_reply);
        if let Some(transaction) = &mut self.transaction {
            delay = delay.max(std::mem::take(&mut transaction.context.delay_reply));
        }
        delay
    }

    async fn mail(&mut self, sender: ReversePath, parameters: Vec<Parameter>, size: Option<u64>, options: MailOptions) -> Answer {
        let parts = &self.intake.parts;
        let room = match parts.spool.room(size.unwrap_or(0)) {
            Ok(room) => room,
            Err(error) => return Answer::Reply(replies::spool(&error)),
        };
        let now = parts.clock.now();
        let mut context = self.context.clone();
        let id = parts.spool.ids().next(now);
        context.id = Some(id);
        context.mail_parameters = Arc::new(parameters);
        // What a session's hooks sent before MAIL belongs to no message.
        context.submissions = Arc::default();
        let origin = Origin {
            peer: context.client.as_ref().map(|c| c.peer),
            client_name: context.client.as_ref().and_then(|c| c.name.clone()),
            helo: context.helo.as_deref().map(str::to_owned),
            esmtp: self.esmtp,
            user: context.user.as_ref().map(|u| u.0.clone()),
            via: context.via,
            received_at: now,
        };
        // The transaction has instances of its own: it must not wait for one that its own session holds.
        self.chain.release();
        let mut chain = parts.pipeline.chain();
        // What the hooks before MAIL did belongs to each message of the session.
        chain.trace.clone_from(&self.chain.trace);
        let mut transaction = Transaction::new(id, context, chain, options.body, origin, room);
        if parts.recorder.is_some() {
            let draft = Draft::new(sender.to_string(), &transaction.context.mail_parameters);
            transaction.draft = Some(Box::new(draft));
        }
        let answer = self.begin(&mut transaction, sender).await;
        match answer {
            Answer::Ok | Answer::OkWithout(_) => self.transaction = Some(transaction),
            Answer::Reply(_)
            | Answer::Close(_)
            | Answer::Committed(_)
            | Answer::CommittedEach(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Discarded(_)
            | Answer::Done => {
                self.context.delay_reply = transaction.context.delay_reply;
                transaction.tell_abort(&self.intake).await;
                self.refused(&mut transaction, &answer, "MAIL");
            }
        }
        answer
    }

    async fn begin(&mut self, transaction: &mut Transaction, sender: ReversePath) -> Answer {
        let sender = match sender {
            ReversePath::Null => ReversePath::Null,
            ReversePath::Of(address) => match self.complete(transaction, address, Role::EnvelopeSender).await {
                Ok(address) => ReversePath::Of(address),
                Err(answer) => return answer,
            },
        };
        transaction.context.sender = Some(Arc::new(sender.clone()));
        self.hook(transaction, Event::Mail(sender)).await
    }

    async fn rcpt(&mut self, recipient: Address, parameters: Vec<Parameter>) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Reply(replies::NOT_IN_TRANSACTION) };
        if let Some(draft) = &mut transaction.draft {
            draft.recipient(recipient.to_string(), &parameters);
        }
        let answer = self.add(&mut transaction, recipient, parameters).await;
        match &answer {
            Answer::Reply(reply) | Answer::Close(reply) if !reply.is_positive() => {
                if let Some(draft) = &mut transaction.draft {
                    draft.refused(reply);
                }
                self.note_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            }
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Reply(_)
            | Answer::Close(_)
            | Answer::Committed(_)
            | Answer::CommittedEach(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Discarded(_)
            | Answer::Done => {}
        }
        self.transaction = Some(transaction);
        answer
    }

    async fn add(&mut self, transaction: &mut Transaction, recipient: Address, parameters: Vec<Parameter>) -> Answer {
        // RFC 5321 §4.5.1: postmaster without domain exists whatever `myorigin` is.
        let ours = recipient.is_bare() && is_postmaster(&recipient);
        let recipient = match self.complete(transaction, recipient, Role::EnvelopeRecipient).await {
            Ok(address) => address,
            Err(answer) => return answer,
        };
        let class = match self.intake.admit(transaction, &recipient, ours).await {
            Ok(class) => class,
            Err(reply) => {
                transaction.note(self.intake.parts.clock.now(), "rcpt", &recipient, &reply);
                return Answer::Reply(reply);
            }
        };
        let index = transaction.context.push_recipient(Recipient::new(recipient), class, parameters);
        let Some(added) = transaction.context.recipients.last().cloned() else { return Answer::Ok };
        let answer = match self.resolved(transaction, &added).await {
            Answer::Ok => self.hook(transaction, Event::Rcpt(added)).await,
            refusal @ (Answer::OkWithout(_)
            | Answer::Reply(_)
            | Answer::Close(_)
            | Answer::Committed(_)
            | Answer::CommittedEach(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Discarded(_)
            | Answer::Done) => refusal,
        };
        match &answer {
            Answer::Ok | Answer::OkWithout(_) => {}
            Answer::Reply(_)
            | Answer::Close(_)
            | Answer::Committed(_)
            | Answer::CommittedEach(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Discarded(_)
            | Answer::Done => {
                // The recipient is refused; its index is not used again.
                Arc::make_mut(&mut transaction.context.recipients).retain(|recipient| recipient.index != index);
            }
        }
        answer
    }

    /// Who wants to know hears what the aliases make of the recipient.
    async fn resolved(&mut self, transaction: &mut Transaction, recipient: &ContextRecipient) -> Answer {
        if !transaction.chain.has(Hook::OnRcptResolved) {
            return Answer::Ok;
        }
        let expanded = self.intake.expand(transaction, vec![recipient.recipient.clone()]).await;
        let targets = match expanded {
            Ok(targets) => targets.into_iter().map(|(target, _)| target.address).collect(),
            Err(reply) => {
                transaction.note(self.intake.parts.clock.now(), "rcpt", &recipient.recipient.address, &reply);
                return Answer::Reply(reply);
            }
        };
        self.hook(transaction, Event::RcptResolved { recipient: recipient.clone(), targets }).await
    }

    /// The address with a domain: rewritten by plugins, completed with `myorigin` if they left it bare.
    async fn complete(&mut self, transaction: &mut Transaction, address: Address, role: Role) -> Result<Address, Answer> {
        let parts = &self.intake.parts;
        let Transaction { chain, context, .. } = &mut *transaction;
        let address = match parts.pipeline.rewrite(chain, context, address, role).await {
            Ok(address) => address,
            Err(Ended(verdict)) => return Err(verdict_answer(transaction, verdict)),
        };
        if !address.is_bare() {
            return Ok(address);
        }
        address.with_domain(&parts.settings.myorigin).map_err(|_| Answer::Reply(replies::BAD_ADDRESS))
    }

    async fn hook(&mut self, transaction: &mut Transaction, event: Event) -> Answer {
        let Transaction { chain, context, .. } = transaction;
        let verdict = self.intake.parts.pipeline.verdict(chain, context, event).await;
        verdict_answer(transaction, verdict)
    }

    /// In a transaction it is asked about with that; its reply never ends it.
    async fn command(&mut self, verb: &str, argument: &Bytes) -> Answer {
        let pipeline = &self.intake.parts.pipeline;
        let (chain, context) = match &mut self.transaction {
            Some(transaction) => (&mut transaction.chain, &mut transaction.context),
            None => (&mut self.chain, &mut self.context),
        };
        pipeline.command(chain, context, verb, argument).await.map_or(Answer::Ok, Answer::Reply)
    }

    async fn data(&mut self) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Reply(replies::NOT_IN_TRANSACTION) };
        let answer = self.hook(&mut transaction, Event::Data).await;
        if let Answer::Reply(reply) | Answer::Close(reply) = &answer {
            self.note_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            if let Some(draft) = &mut transaction.draft {
                draft.refused(reply);
            }
        }
        self.transaction = Some(transaction);
        answer
    }

    async fn end_of_data(&mut self) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Reply(replies::NOT_IN_TRANSACTION) };
        let answer = self.intake.take_in(&mut transaction).await;
        match &answer {
            Answer::Committed(reply) | Answer::Discarded(reply) => {
                self.counts.messages += 1;
                if matches!(answer, Answer::Discarded(_)) {
                    transaction.tell_abort(&self.intake).await;
                }
                transaction.record(&self.intake, Some(&answer));
                transaction.trace(&self.intake, reply.to_string(), self.intake.parts.clock.now());
            }
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Reply(_)
            | Answer::Close(_)
            | Answer::CommittedEach(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Done => {
                transaction.tell_abort(&self.intake).await;
                self.refused(&mut transaction, &answer, "DATA");
            }
        }
        self.context.delay_reply = transaction.context.delay_reply;
        answer
    }

    /// The transaction ended with a refusal: logged and traced.
    fn refused(&mut self, transaction: &mut Transaction, answer: &Answer, at: &str) {
        if let Answer::Reply(reply) | Answer::Close(reply) = answer {
            self.note_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            transaction.record(&self.intake, Some(answer));
            transaction.trace(&self.intake, format!("refused at {at}: {reply}"), self.intake.parts.clock.now());
        }
    }

    /// The session was refused before a transaction began: logged and traced.
    fn refused_session(&mut self, id: QueueId, answer: &Answer, at: &str, now: Timestamp) {
        let (Answer::Reply(reply) | Answer::Close(reply)) = answer else { return };
        self.note_refusal(id, None, reply);
        let result = format!("refused at {at}: {reply}");
        let entries = self.chain.trace.clone();
        self.intake.parts.trace.record(record_of(id, &self.context, &self.intake.parts.settings, result, entries, now));
    }

    /// Off this thread's way: who drops a session does not wait.
    fn tell_the_end(&mut self) {
        let transaction = self.transaction.take();
        let heard = self.chain.has(Hook::OnDisconnect);
        if transaction.is_none() && !heard {
            return;
        }
        let intake = Arc::clone(&self.intake);
        let (mut chain, mut context) = (intake.parts.pipeline.chain_of(&self.chain), self.context.clone());
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
            if heard {
                intake.parts.pipeline.tell(&mut chain, &mut context, Event::Disconnect(reason.to_owned())).await;
            }
        }));
    }

    fn note_refusal(&mut self, id: QueueId, sender: Option<&ReversePath>, reply: &Reply) {
        self.counts.refused += 1;
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        let sender = sender.map(ToString::to_string).unwrap_or_default();
        tracing::info!(target: "smtpd", "{id}: reject: from {peer}: {reply}; from=<{sender}>");
        self.counts.last_refusal = Some(reply.clone());
    }
}

impl Host<ServerSession> for SessionHost {
    async fn answer(&mut self, question: Question) -> Answer {
        let answer = match question {
            Question::Connect => self.session_hook(Event::Connect).await,
            Question::Helo { name, esmtp } => self.helo(name, esmtp).await,
            Question::Mail { sender, parameters, size, options } => self.mail(sender, parameters, size, options).await,
            Question::Rcpt { recipient, parameters, options: _ } => self.rcpt(recipient, parameters).await,
            Question::Secured(_) | Question::Auth(_) | Question::Xclient(_) => Answer::Reply(replies::NOT_IN_TRANSACTION),
            Question::Command { verb, argument } => self.command(&verb, &argument).await,
            Question::Data => self.data().await,
            Question::EndOfData => self.end_of_data().await,
            Question::Reset => {
                if let Some(transaction) = self.transaction.take() {
                    transaction.given_up(&self.intake).await;
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

    fn ended(&mut self, how: End) {
        self.end = Some(how);
    }

    async fn body(&mut self, piece: Bytes) {
        if let Some(transaction) = &mut self.transaction {
            transaction.write(&self.intake, piece).await;
        }
    }
}

impl Drop for SessionHost {
    /// The session's one line. What hooks have to be told of is told off this thread's way.
    fn drop(&mut self) {
        self.tell_the_end();
        let peer = self.context.client.as_ref().map(|c| c.peer.to_string()).unwrap_or_default();
        let helo = self.context.helo.as_deref().unwrap_or("-");
        let Counts { messages, refused, last_refusal } = &self.counts;
        let why = last_refusal.as_ref().map(|r| format!(" last refusal: {r}")).unwrap_or_default();
        tracing::debug!(target: "smtpd", "disconnect from {peer} helo={helo} messages={messages} refused={refused}{why}");
    }
}
