//! A transaction's questions, from MAIL to the end of data.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_pipeline::{ContextRecipient, Ended, Event, Hook, Role};
use waxwing_smtp::server::{Answer, MailOptions, RcptOptions};
use waxwing_types::{Address, AddressClass, Origin, Parameter, Recipient, ReversePath};

use super::SessionHost;
use crate::gate::is_postmaster;
use crate::recording::Draft;
use crate::replies::{self, is_yes, refusal};
use crate::restrict::{Case, Refusal, Stage};
use crate::transaction::{Transaction, verdict_answer};

impl SessionHost {
    pub(super) async fn mail(
        &mut self,
        sender: ReversePath,
        parameters: Vec<Parameter>,
        size: Option<u64>,
        options: MailOptions,
    ) -> Answer {
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
        let mut transaction = Box::new(Transaction::new(id, context, chain, options, origin, room));
        transaction.size = size.unwrap_or(0);
        if parts.recorder.is_some() {
            let draft = Draft::new(sender.to_string(), &transaction.context.mail_parameters);
            transaction.draft = Some(Box::new(draft));
        }
        let answer = self.begin(&mut transaction, sender).await;
        if is_yes(&answer) {
            self.transaction = Some(transaction);
        } else {
            self.context.delay_reply = transaction.context.delay_reply;
            transaction.tell_abort(&self.intake).await;
            self.refused(&mut transaction, &answer, "MAIL");
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
        if let Err(refusal) = self.restrict(transaction, Stage::Mail, None).await {
            return self.ruled_out(transaction, &format!("<{sender}>"), refusal);
        }
        self.hook(transaction, Event::Mail(sender)).await
    }

    pub(super) async fn rcpt(&mut self, recipient: Address, parameters: Vec<Parameter>, options: RcptOptions) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Reply(replies::NOT_IN_TRANSACTION) };
        if let Some(draft) = &mut transaction.draft {
            draft.recipient(recipient.to_string(), &parameters);
        }
        let answer = self.add(&mut transaction, recipient, parameters, options).await;
        if let Some(reply) = refusal(&answer) {
            if let Some(draft) = &mut transaction.draft {
                draft.refused(reply);
            }
            self.note_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
        }
        self.transaction = Some(transaction);
        answer
    }

    async fn add(
        &mut self,
        transaction: &mut Transaction,
        recipient: Address,
        parameters: Vec<Parameter>,
        options: RcptOptions,
    ) -> Answer {
        // RFC 5321 §4.5.1: postmaster without domain exists whatever `myorigin` is.
        let ours = recipient.is_bare() && is_postmaster(&recipient);
        let recipient = match self.complete(transaction, recipient, Role::EnvelopeRecipient).await {
            Ok(address) => address,
            Err(answer) => return answer,
        };
        let class = match self.admit(transaction, &recipient, ours).await {
            Ok(class) => class,
            Err(refusal) => return self.ruled_out(transaction, &recipient.to_string(), refusal),
        };
        let recipient = Recipient { address: recipient, original: options.original, notify: options.notify };
        let index = transaction.context.push_recipient(recipient, class, parameters);
        let Some(added) = transaction.context.recipients.last().cloned() else { return Answer::Ok };
        let mut answer = self.resolved(transaction, &added).await;
        if is_yes(&answer) {
            answer = self.hook(transaction, Event::Rcpt(added)).await;
        }
        if is_yes(&answer) {
            transaction.accepted.push(index);
        } else {
            // The recipient is refused; its index is not used again.
            Arc::make_mut(&mut transaction.context.recipients).retain(|recipient| recipient.index != index);
        }
        answer
    }

    /// Relay control, the operator's restrictions, and whether the recipient exists, in this order: who may not write here learns nothing
    /// of who exists.
    async fn admit(&mut self, transaction: &mut Transaction, recipient: &Address, ours: bool) -> Result<AddressClass, Refusal> {
        let by = |rule: &str, reply| Refusal { reply, rule: rule.to_owned() };
        let may = self.intake.may_write_to(&transaction.context, recipient, ours);
        let class = may.map_err(|reply| by("reject_unauth_destination", reply))?;
        self.restrict(transaction, Stage::Rcpt, Some((recipient, class))).await?;
        let there = self.intake.is_there(transaction, recipient, class).await;
        there.map(|()| class).map_err(|reply| by("reject_unlisted_recipient", reply))
    }

    /// Asks the lists of a stage; what they want beside a refusal is kept.
    async fn restrict(
        &mut self,
        transaction: &mut Transaction,
        stage: Stage,
        recipient: Option<(&Address, AddressClass)>,
    ) -> Result<(), Refusal> {
        let Transaction { chain, context, size, .. } = transaction;
        let sender = context.sender.clone();
        let case = Case { stage, context, esmtp: self.esmtp, sender: sender.as_deref(), recipient, size: *size };
        let found = self.intake.restrict(chain, &case).await;
        transaction.keep(found)
    }

    /// A refusal of the server itself: in the trace, and its rule in the log.
    fn ruled_out(&mut self, transaction: &mut Transaction, subject: &str, refusal: Refusal) -> Answer {
        let Refusal { reply, rule } = refusal;
        transaction.note(self.intake.parts.clock.now(), &rule, subject, &reply);
        self.rule = Some(rule);
        Answer::Reply(reply)
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
                transaction.note(self.intake.parts.clock.now(), "rcpt", &recipient.recipient.address.to_string(), &reply);
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
    pub(super) async fn command(&mut self, verb: &str, argument: &Bytes) -> Answer {
        let pipeline = &self.intake.parts.pipeline;
        let (chain, context) = match &mut self.transaction {
            Some(transaction) => (&mut transaction.chain, &mut transaction.context),
            None => (&mut self.chain, &mut self.context),
        };
        pipeline.command(chain, context, verb, argument).await.map_or(Answer::Ok, Answer::Reply)
    }

    pub(super) async fn data(&mut self) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Reply(replies::NOT_IN_TRANSACTION) };
        let answer = match self.restrict(&mut transaction, Stage::Data, None).await {
            Ok(()) => self.hook(&mut transaction, Event::Data).await,
            Err(refusal) => self.ruled_out(&mut transaction, "DATA", refusal),
        };
        if let Some(reply) = refusal(&answer) {
            self.note_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            if let Some(draft) = &mut transaction.draft {
                draft.refused(reply);
            }
        }
        self.transaction = Some(transaction);
        answer
    }

    pub(super) async fn end_of_data(&mut self) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Reply(replies::NOT_IN_TRANSACTION) };
        let answer = self.intake.take_in(&mut transaction).await;
        self.rule = transaction.rule.take();
        let done = match &answer {
            Answer::Committed(reply) | Answer::Discarded(reply) => Some(reply.to_string()),
            Answer::CommittedEach(replies) => Some(replies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ")),
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Reply(_)
            | Answer::Close(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Done => None,
        };
        match done {
            Some(result) => {
                self.counts.messages += 1;
                if matches!(answer, Answer::Discarded(_)) {
                    transaction.tell_abort(&self.intake).await;
                }
                transaction.record(&self.intake, Some(&answer));
                transaction.trace(&self.intake, result, self.intake.parts.clock.now());
            }
            None => {
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
}
