//! Commands of a mail transaction, from MAIL to end of data.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_pipeline::{AddressRole, ContextRecipient, Event, Hook, Rejected};
use waxwing_smtp::server::{MailOptions, MessageAnswer, RcptOptions, StepAnswer};
use waxwing_types::{Address, AddressClass, Origin, Parameter, Recipient, ReversePath};

use super::SmtpSessionHandler;
use crate::recording::RecordingDraft;
use crate::relay_control::is_postmaster;
use crate::replies::{self, is_acceptance, message_refusal, negative_reply};
use crate::restrictions::{RestrictionRefusal, RestrictionRequest, RestrictionStage};
use crate::transaction::{MailTransaction, answer_for_verdict};

impl SmtpSessionHandler {
    pub(super) async fn mail(
        &mut self,
        sender: ReversePath,
        parameters: Vec<Parameter>,
        size: Option<u64>,
        options: MailOptions,
    ) -> StepAnswer {
        let services = &self.intake.services;
        let reservation = match services.spool.reserve_space(size.unwrap_or(0)) {
            Ok(reservation) => reservation,
            Err(error) => return StepAnswer::Reply(replies::reply_for_spool_error(&error)),
        };
        let now = services.clock.now();
        let mut context = self.context.clone();
        let id = services.spool.next_queue_id(now);
        context.id = Some(id);
        context.mail_parameters = Arc::new(parameters);
        // Submissions by session hooks before MAIL belong to no message.
        context.submissions = Arc::default();
        let origin = Origin {
            peer: context.client.as_ref().map(|c| c.peer),
            client_name: context.client.as_ref().and_then(|c| c.name.clone()),
            helo: context.helo.as_deref().map(str::to_owned),
            esmtp: context.esmtp,
            user: context.user.as_ref().map(|u| u.0.clone()),
            source: context.source,
            received_at: now,
        };
        // The transaction uses separate plugin instances and must not wait for instances held by the session.
        self.hooks.release();
        let mut hooks = services.pipeline.open_session();
        // Trace entries of the hooks before MAIL belong to each message of the session.
        hooks.trace.clone_from(&self.hooks.trace);
        let mut transaction = Box::new(MailTransaction::new(id, context, hooks, options, origin, reservation));
        transaction.size = size.unwrap_or(0);
        if services.recorder.is_some() {
            let draft = RecordingDraft::new(sender.to_string(), &transaction.context.mail_parameters);
            transaction.recording = Some(Box::new(draft));
        }
        let answer = self.start_transaction(&mut transaction, sender).await;
        if is_acceptance(&answer) {
            self.transaction = Some(transaction);
        } else {
            self.context.delay_reply = transaction.context.delay_reply;
            transaction.notify_abort(&self.intake).await;
            if let Some(refusal) = message_refusal(answer.clone()) {
                self.record_transaction_refusal(&mut transaction, &refusal, "MAIL");
            }
        }
        answer
    }

    async fn start_transaction(&mut self, transaction: &mut MailTransaction, sender: ReversePath) -> StepAnswer {
        let sender = match sender {
            ReversePath::Null => ReversePath::Null,
            ReversePath::Address(address) => match self.complete_address(transaction, address, AddressRole::EnvelopeSender).await
            {
                Ok(address) => ReversePath::Address(address),
                Err(answer) => return answer,
            },
        };
        transaction.context.sender = Some(Arc::new(sender.clone()));
        if let Err(refusal) = self.apply_restrictions(transaction, RestrictionStage::Mail, None).await {
            return self.reject_by_rule(transaction, &format!("<{sender}>"), refusal);
        }
        self.run_hook(transaction, Event::Mail(sender)).await
    }

    pub(super) async fn rcpt(&mut self, recipient: Address, parameters: Vec<Parameter>, options: RcptOptions) -> StepAnswer {
        let Some(mut transaction) = self.transaction.take() else { return StepAnswer::Reply(replies::INTERNAL_ERROR) };
        if let Some(draft) = &mut transaction.recording {
            draft.add_recipient(recipient.to_string(), &parameters);
        }
        let answer = self.add_recipient(&mut transaction, recipient, parameters, options).await;
        if let Some(reply) = negative_reply(&answer) {
            if let Some(draft) = &mut transaction.recording {
                draft.set_refusal(reply);
            }
            self.log_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
        }
        self.transaction = Some(transaction);
        answer
    }

    async fn add_recipient(
        &mut self,
        transaction: &mut MailTransaction,
        recipient: Address,
        parameters: Vec<Parameter>,
        options: RcptOptions,
    ) -> StepAnswer {
        // RFC 5321 §4.5.1: postmaster without a domain exists, whatever `myorigin` is.
        let is_local_postmaster = recipient.has_no_domain() && is_postmaster(&recipient);
        let recipient = match self.complete_address(transaction, recipient, AddressRole::EnvelopeRecipient).await {
            Ok(address) => address,
            Err(answer) => return answer,
        };
        let class = match self.check_recipient(transaction, &recipient, is_local_postmaster).await {
            Ok(class) => class,
            Err(refusal) => return self.reject_by_rule(transaction, &recipient.to_string(), refusal),
        };
        let recipient = Recipient { original: options.orcpt, notify: options.notify, ..Recipient::new(recipient) };
        let index = transaction.context.push_recipient(recipient, class, parameters);
        let Some(added) = transaction.context.recipients.last().cloned() else { return StepAnswer::Ok };
        let mut answer = self.run_rcpt_resolved_hook(transaction, &added).await;
        if is_acceptance(&answer) {
            answer = self.run_hook(transaction, Event::Rcpt(added)).await;
        }
        if is_acceptance(&answer) {
            transaction.accepted.push(index);
        } else {
            // Refused recipient: the index is not reused.
            Arc::make_mut(&mut transaction.context.recipients).retain(|recipient| recipient.index != index);
        }
        answer
    }

    /// Checks relay control, restrictions and existence of the recipient, in this order: a client without relay permission learns nothing
    /// about existing recipients.
    async fn check_recipient(
        &mut self,
        transaction: &mut MailTransaction,
        recipient: &Address,
        is_local_postmaster: bool,
    ) -> Result<AddressClass, RestrictionRefusal> {
        let by = |rule: &str, reply| RestrictionRefusal { reply, rule: rule.to_owned() };
        let relay = self.intake.check_relay(&transaction.context, recipient, is_local_postmaster);
        let class = relay.map_err(|reply| by("reject_unauth_destination", reply))?;
        self.apply_restrictions(transaction, RestrictionStage::Rcpt, Some((recipient, class))).await?;
        let exists = self.intake.check_recipient_exists(transaction, recipient, class).await;
        exists.map(|()| class).map_err(|reply| by("reject_unlisted_recipient", reply))
    }

    /// Evaluates the restrictions of a stage and stores effects other than refusals in the transaction.
    async fn apply_restrictions(
        &mut self,
        transaction: &mut MailTransaction,
        stage: RestrictionStage,
        recipient: Option<(&Address, AddressClass)>,
    ) -> Result<(), RestrictionRefusal> {
        let MailTransaction { hooks, context, size, .. } = transaction;
        let request = RestrictionRequest { stage, context, recipient, size: *size };
        let outcome = self.intake.evaluate_restrictions(hooks, &request).await;
        transaction.apply_restriction_outcome(outcome)
    }

    /// Records a refusal by the server: entry in the trace, rule in the log.
    fn reject_by_rule(&mut self, transaction: &mut MailTransaction, subject: &str, refusal: RestrictionRefusal) -> StepAnswer {
        let RestrictionRefusal { reply, rule } = refusal;
        transaction.trace_decision(self.intake.services.clock.now(), &rule, subject, &reply);
        self.refusing_rule = Some(rule);
        StepAnswer::Reply(reply)
    }

    /// Runs `on-rcpt-resolved` with the alias expansion of the recipient, if any plugin has the hook.
    async fn run_rcpt_resolved_hook(&mut self, transaction: &mut MailTransaction, recipient: &ContextRecipient) -> StepAnswer {
        if !transaction.hooks.has_hook(Hook::OnRcptResolved) {
            return StepAnswer::Ok;
        }
        let expanded = self.intake.expand(transaction, vec![recipient.recipient.clone()]).await;
        let targets = match expanded {
            Ok(targets) => targets.into_iter().map(|(target, _)| target.address).collect(),
            Err(reply) => {
                transaction.trace_decision(
                    self.intake.services.clock.now(),
                    "rcpt",
                    &recipient.recipient.address.to_string(),
                    &reply,
                );
                return StepAnswer::Reply(reply);
            }
        };
        self.run_hook(transaction, Event::RcptResolved { recipient: recipient.clone(), targets }).await
    }

    /// Rewrites the address by plugins and completes an address without a domain with `myorigin`.
    async fn complete_address(
        &mut self,
        transaction: &mut MailTransaction,
        address: Address,
        role: AddressRole,
    ) -> Result<Address, StepAnswer> {
        let services = &self.intake.services;
        let MailTransaction { hooks, context, .. } = &mut *transaction;
        let address = match services.pipeline.rewrite(hooks, context, address, role).await {
            Ok(address) => address,
            Err(Rejected(verdict)) => return Err(answer_for_verdict(transaction, verdict)),
        };
        if !address.has_no_domain() {
            return Ok(address);
        }
        address.with_domain(&services.settings.myorigin).map_err(|_| StepAnswer::Reply(replies::BAD_ADDRESS))
    }

    async fn run_hook(&mut self, transaction: &mut MailTransaction, event: Event) -> StepAnswer {
        let MailTransaction { hooks, context, .. } = transaction;
        let verdict = self.intake.services.pipeline.verdict(hooks, context, event).await;
        answer_for_verdict(transaction, verdict)
    }

    /// Runs the command hook, with the transaction's context if a transaction is open. A reply of the hook never ends the transaction.
    pub(super) async fn command(&mut self, verb: &str, argument: &Bytes) -> StepAnswer {
        let pipeline = &self.intake.services.pipeline;
        let (hooks, context) = match &mut self.transaction {
            Some(transaction) => (&mut transaction.hooks, &mut transaction.context),
            None => (&mut self.hooks, &mut self.context),
        };
        pipeline.command_reply(hooks, context, verb, argument).await.map_or(StepAnswer::Ok, StepAnswer::Reply)
    }

    pub(super) async fn data(&mut self) -> StepAnswer {
        let Some(mut transaction) = self.transaction.take() else { return StepAnswer::Reply(replies::INTERNAL_ERROR) };
        let answer = match self.apply_restrictions(&mut transaction, RestrictionStage::Data, None).await {
            Ok(()) => self.run_hook(&mut transaction, Event::Data).await,
            Err(refusal) => self.reject_by_rule(&mut transaction, "DATA", refusal),
        };
        if let Some(reply) = negative_reply(&answer) {
            self.log_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            if let Some(draft) = &mut transaction.recording {
                draft.set_refusal(reply);
            }
        }
        self.transaction = Some(transaction);
        answer
    }

    pub(super) async fn end_of_data(&mut self) -> MessageAnswer {
        let Some(mut transaction) = self.transaction.take() else { return MessageAnswer::Reject(replies::INTERNAL_ERROR) };
        let answer = self.intake.finish_message(&mut transaction).await;
        self.refusing_rule = transaction.refusing_rule.take();
        let done = match &answer {
            MessageAnswer::Committed(reply) | MessageAnswer::Discarded(reply) => Some(reply.to_string()),
            MessageAnswer::CommittedPerRecipient(replies) => {
                Some(replies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "))
            }
            MessageAnswer::Reject(_) | MessageAnswer::Close(_) => None,
        };
        match done {
            Some(result) => {
                if matches!(answer, MessageAnswer::Discarded(_)) {
                    transaction.notify_abort(&self.intake).await;
                }
                transaction.submit_recording(&self.intake, Some(&answer));
                transaction.record_trace(&self.intake, result, self.intake.services.clock.now());
            }
            None => {
                transaction.notify_abort(&self.intake).await;
                self.record_transaction_refusal(&mut transaction, &answer, "DATA");
            }
        }
        self.context.delay_reply = transaction.context.delay_reply;
        answer
    }

    /// Logs and traces the refusal that ended a transaction.
    fn record_transaction_refusal(&mut self, transaction: &mut MailTransaction, answer: &MessageAnswer, at: &str) {
        if let MessageAnswer::Reject(reply) | MessageAnswer::Close(reply) = answer {
            self.log_refusal(transaction.id, transaction.context.sender.as_deref(), reply);
            transaction.submit_recording(&self.intake, Some(answer));
            transaction.record_trace(&self.intake, format!("refused at {at}: {reply}"), self.intake.services.clock.now());
        }
    }
}
