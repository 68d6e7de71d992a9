//! Commands of a mail transaction, from MAIL to end of data.

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
        let services = &self.intake.parts;
        let reservation = match services.spool.room(size.unwrap_or(0)) {
            Ok(reservation) => reservation,
            Err(error) => return Answer::Reply(replies::spool(&error)),
        };
        let now = services.clock.now();
        let mut context = self.context.clone();
        let id = services.spool.ids().next(now);
        context.id = Some(id);
        context.mail_parameters = Arc::new(parameters);
        // Submissions by session hooks before MAIL belong to no message.
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
        // The transaction uses separate plugin instances and must not wait for instances held by the session.
        self.chain.release();
        let mut hooks = services.pipeline.chain();
        // Trace entries of the hooks before MAIL belong to each message of the session.
        hooks.trace.clone_from(&self.chain.trace);
        let mut transaction = Box::new(Transaction::new(id, context, hooks, options, origin, reservation));
        transaction.size = size.unwrap_or(0);
        if services.recorder.is_some() {
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
        // RFC 5321 §4.5.1: postmaster without a domain exists, whatever `myorigin` is.
        let is_local_postmaster = recipient.is_bare() && is_postmaster(&recipient);
        let recipient = match self.complete(transaction, recipient, Role::EnvelopeRecipient).await {
            Ok(address) => address,
            Err(answer) => return answer,
        };
        let class = match self.admit(transaction, &recipient, is_local_postmaster).await {
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
            // Refused recipient: the index is not reused.
            Arc::make_mut(&mut transaction.context.recipients).retain(|recipient| recipient.index != index);
        }
        answer
    }

    /// Checks relay control, restrictions and existence of the recipient, in this order: a client without relay permission learns nothing
    /// about existing recipients.
    async fn admit(
        &mut self,
        transaction: &mut Transaction,
        recipient: &Address,
        is_local_postmaster: bool,
    ) -> Result<AddressClass, Refusal> {
        let by = |rule: &str, reply| Refusal { reply, rule: rule.to_owned() };
        let relay = self.intake.may_write_to(&transaction.context, recipient, is_local_postmaster);
        let class = relay.map_err(|reply| by("reject_unauth_destination", reply))?;
        self.restrict(transaction, Stage::Rcpt, Some((recipient, class))).await?;
        let exists = self.intake.is_there(transaction, recipient, class).await;
        exists.map(|()| class).map_err(|reply| by("reject_unlisted_recipient", reply))
    }

    /// Evaluates the restrictions of a stage and stores effects other than refusals in the transaction.
    async fn restrict(
        &mut self,
        transaction: &mut Transaction,
        stage: Stage,
        recipient: Option<(&Address, AddressClass)>,
    ) -> Result<(), Refusal> {
        let Transaction { chain: hooks, context, size, .. } = transaction;
        let sender = context.sender.clone();
        let request = Case { stage, context, esmtp: self.esmtp, sender: sender.as_deref(), recipient, size: *size };
        let outcome = self.intake.restrict(hooks, &request).await;
        transaction.keep(outcome)
    }

    /// Records a refusal by the server: entry in the trace, rule in the log.
    fn ruled_out(&mut self, transaction: &mut Transaction, subject: &str, refusal: Refusal) -> Answer {
        let Refusal { reply, rule } = refusal;
        transaction.note(self.intake.parts.clock.now(), &rule, subject, &reply);
        self.rule = Some(rule);
        Answer::Reply(reply)
    }

    /// Runs `on-rcpt-resolved` with the alias expansion of the recipient, if any plugin has the hook.
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

    /// Rewrites the address by plugins and completes an address without a domain with `myorigin`.
    async fn complete(&mut self, transaction: &mut Transaction, address: Address, role: Role) -> Result<Address, Answer> {
        let services = &self.intake.parts;
        let Transaction { chain: hooks, context, .. } = &mut *transaction;
        let address = match services.pipeline.rewrite(hooks, context, address, role).await {
            Ok(address) => address,
            Err(Ended(verdict)) => return Err(verdict_answer(transaction, verdict)),
        };
        if !address.is_bare() {
            return Ok(address);
        }
        address.with_domain(&services.settings.myorigin).map_err(|_| Answer::Reply(replies::BAD_ADDRESS))
    }

    async fn hook(&mut self, transaction: &mut Transaction, event: Event) -> Answer {
        let Transaction { chain: hooks, context, .. } = transaction;
        let verdict = self.intake.parts.pipeline.verdict(hooks, context, event).await;
        verdict_answer(transaction, verdict)
    }

    /// Runs the command hook, with the transaction's context if a transaction is open. A reply of the hook never ends the transaction.
    pub(super) async fn command(&mut self, verb: &str, argument: &Bytes) -> Answer {
        let pipeline = &self.intake.parts.pipeline;
        let (hooks, context) = match &mut self.transaction {
            Some(transaction) => (&mut transaction.chain, &mut transaction.context),
            None => (&mut self.chain, &mut self.context),
        };
        pipeline.command(hooks, context, verb, argument).await.map_or(Answer::Ok, Answer::Reply)
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

    /// Logs and traces the refusal that ended a transaction.
    fn refused(&mut self, transaction: &mut Transaction, answer: &Answer, at: &str) {
        if let Answer::Reply(reply) | Answer::Close(reply) = answer {
            self.note_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            transaction.record(&self.intake, Some(answer));
            transaction.trace(&self.intake, format!("refused at {at}: {reply}"), self.intake.parts.clock.now());
        }
    }
}
