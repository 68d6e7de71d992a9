//! End of data: content hooks, trace header, header addresses, alias expansion, commit.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use waxwing_message::trace_fields::received;
use waxwing_message::{HeaderBlock, find_addresses, rewrite_field};
use waxwing_pipeline::{AddressRole, Event, Hook, Rejected, TraceEntry};
use waxwing_smtp::server::MessageAnswer;
use waxwing_types::{Address, Recipient, Reply, Source, Verdict};

use crate::restrictions::{RestrictionRefusal, RestrictionRequest, RestrictionStage};
use crate::transaction::{MailTransaction, ReceivedMessage};
use crate::{Intake, replies};

/// Result of the content checks and hooks before the commit.
enum ContentOutcome {
    /// Message is to be committed for these recipients.
    Deliver(Vec<Recipient>),
    /// Message is dropped without delivery; the client receives a positive reply.
    Discarded(String),
    /// Negative reply to the client.
    Refused(Reply),
    /// Negative reply, after which the connection is closed.
    Disconnect(Reply),
}

impl Intake {
    /// Completes the reception of a message and returns the reply to end of data.
    pub(crate) async fn finish_message(&self, transaction: &mut MailTransaction) -> MessageAnswer {
        let ReceivedMessage { header: head, body } = match transaction.finish_receiving(self).await {
            Ok(received) => received,
            Err(answer) => return answer,
        };
        if let Some(draft) = &mut transaction.recording {
            draft.set_message(&head, body.reader());
        }
        transaction.context.body = Some(body.reader());
        match self.process_content(transaction, head).await {
            ContentOutcome::Refused(reply) => MessageAnswer::Reject(reply),
            ContentOutcome::Disconnect(reply) => MessageAnswer::Close(reply),
            ContentOutcome::Discarded(reason) => {
                tracing::info!(target: "intake", "{}: discarded: {reason}", transaction.id);
                let answer = transaction.accepted_answer(queued_reply(transaction));
                if let MessageAnswer::Committed(reply) = answer { MessageAnswer::Discarded(reply) } else { answer }
            }
            ContentOutcome::Deliver(recipients) => {
                let count = recipients.len();
                match self.commit(transaction, recipients, body).await {
                    Ok(()) => {
                        self.log_commit(transaction, count);
                        transaction.accepted_answer(queued_reply(transaction))
                    }
                    Err(reply) => MessageAnswer::Reject(reply),
                }
            }
        }
    }

    async fn process_content(&self, transaction: &mut MailTransaction, mut head: HeaderBlock) -> ContentOutcome {
        if head.count("Received") >= self.services.settings.hopcount_limit {
            return ContentOutcome::Refused(replies::TOO_MANY_HOPS);
        }
        if let Err(RestrictionRefusal { reply, rule }) = self.check_header_sender(&transaction.context, &head).await {
            transaction.trace_decision(self.services.clock.now(), &rule, "END-OF-MESSAGE", &reply);
            transaction.refusing_rule = Some(rule);
            return ContentOutcome::Refused(reply);
        }
        let recipients = transaction.context.recipients.iter().map(|r| r.recipient.clone()).collect();
        let envelope = transaction.envelope(recipients);
        head.prepend(received(&self.services.settings.myhostname, transaction.id, &envelope, transaction.context.tls.as_deref()));
        for field in std::mem::take(&mut transaction.prepend) {
            head.prepend(field);
        }
        transaction.context.header = Some(Arc::new(head));
        if let Some(reply) = self.apply_end_of_data_restrictions(transaction).await {
            return ContentOutcome::Refused(reply);
        }
        match self.run_content_hooks(transaction).await {
            Verdict::Next | Verdict::Accept => {}
            Verdict::Reject(reply) | Verdict::Defer(reply) => return ContentOutcome::Refused(reply),
            Verdict::Disconnect(reply) => return ContentOutcome::Disconnect(reply),
            Verdict::Discard { reason } => return ContentOutcome::Discarded(reason),
            Verdict::Hold { reason } => {
                transaction.context.hold.get_or_insert(reason);
            }
        }
        if let Some(to) = transaction.redirect.take() {
            let class = self.services.pipeline.class_of(&to);
            transaction.context.recipients = Arc::default();
            transaction.context.push_recipient(Recipient::new(to), class, Vec::new());
        }
        if let Some(reason) = transaction.discard.take() {
            return ContentOutcome::Discarded(reason);
        }
        match self.expand_all(transaction).await {
            Ok(recipients) if recipients.is_empty() => ContentOutcome::Discarded("no recipients left".to_owned()),
            Ok(recipients) => ContentOutcome::Deliver(recipients),
            Err(reply) => ContentOutcome::Refused(reply),
        }
    }

    /// Evaluates `smtpd_end_of_data_restrictions`.
    async fn apply_end_of_data_restrictions(&self, transaction: &mut MailTransaction) -> Option<Reply> {
        let MailTransaction { hooks, context, .. } = &mut *transaction;
        let stage = RestrictionStage::EndOfData;
        let request = RestrictionRequest { stage, context, recipient: None, size: context.size() };
        let outcome = self.evaluate_restrictions(hooks, &request).await;
        let Err(RestrictionRefusal { reply, rule }) = transaction.apply_restriction_outcome(outcome) else {
            let prepend = std::mem::take(&mut transaction.prepend);
            if let Some(head) = transaction.context.header.as_mut().filter(|_| !prepend.is_empty()) {
                prepend.into_iter().for_each(|field| Arc::make_mut(head).prepend(field));
            }
            return None;
        };
        transaction.trace_decision(self.services.clock.now(), &rule, "END-OF-MESSAGE", &reply);
        transaction.refusing_rule = Some(rule);
        Some(reply)
    }

    /// Runs the content hooks in order: message filters, score and decision, per-recipient decisions, cleanup, rewriting of header
    /// addresses. `Accept` ends only the hook that returned `Accept`.
    pub(crate) async fn run_content_hooks(&self, transaction: &mut MailTransaction) -> Verdict {
        match self.call_content_hooks(transaction).await {
            Ok(()) => Verdict::Next,
            Err(Rejected(verdict)) => verdict,
        }
    }

    async fn call_content_hooks(&self, transaction: &mut MailTransaction) -> Result<(), Rejected> {
        let pipeline = &self.services.pipeline;
        let MailTransaction { hooks, context, .. } = &mut *transaction;
        into_result(pipeline.verdict(hooks, context, Event::Message).await)?;
        let symbols = pipeline.score(hooks, context).await?;
        into_result(pipeline.verdict(hooks, context, Event::Decide(Arc::new(symbols))).await)?;
        if context.source != Source::Dsn {
            self.run_recipient_message_hooks(transaction).await?;
        }
        let MailTransaction { hooks, context, .. } = &mut *transaction;
        into_result(pipeline.verdict(hooks, context, Event::Cleanup).await)?;
        self.rewrite_header_addresses(transaction).await
    }

    /// Runs `on-recipient-message` for each recipient of the complete message. LMTP and PRDR give a separate reply for each recipient.
    /// Plain SMTP gives a single reply for all recipients, and a DSN about a rejection could reach an innocent sender: a rejecting
    /// recipient is therefore dropped silently, and a deferring recipient puts the message on hold.
    async fn run_recipient_message_hooks(&self, transaction: &mut MailTransaction) -> Result<(), Rejected> {
        let (pipeline, now) = (&self.services.pipeline, self.services.clock.now());
        if !transaction.hooks.has_hook(Hook::OnRecipientMessage) || transaction.context.recipients.is_empty() {
            return Ok(());
        }
        let each = transaction.replies_per_recipient();
        // Snapshot of the recipients before the hook runs: each is handled once, additions are not.
        let recipients = Arc::clone(&transaction.context.recipients);
        for recipient in recipients.iter() {
            let MailTransaction { hooks, context, .. } = &mut *transaction;
            let reason = match pipeline.verdict(hooks, context, Event::RecipientMessage(recipient.clone())).await {
                Verdict::Next | Verdict::Accept => continue,
                Verdict::Hold { reason } => {
                    context.hold.get_or_insert(reason);
                    continue;
                }
                Verdict::Reject(reply) | Verdict::Disconnect(reply) | Verdict::Defer(reply) if each => {
                    transaction.refusals.push((recipient.index, reply.clone()));
                    reply.to_string()
                }
                Verdict::Defer(reply) => {
                    context.hold.get_or_insert_with(|| format!("{}: {reply}", recipient.recipient.address));
                    continue;
                }
                Verdict::Reject(reply) | Verdict::Disconnect(reply) => reply.to_string(),
                Verdict::Discard { reason } => reason,
            };
            Arc::make_mut(&mut transaction.context.recipients).retain(|r| r.index != recipient.index);
            let (id, to) = (transaction.id, &recipient.recipient.address);
            tracing::info!(target: "intake", "{id}: to=<{to}>: recipient dropped: {reason}");
            let entry = TraceEntry::server_step(
                now,
                "intake",
                "recipient-message",
                to.to_string(),
                format!("recipient dropped: {reason}"),
            );
            entry.append_to(&mut transaction.hooks.trace);
        }
        match (transaction.context.recipients.is_empty(), transaction.refusal_by_all()) {
            (true, Some(reply)) => Err(Rejected(Verdict::Reject(reply))),
            (true, None) => Err(Rejected(Verdict::Discard { reason: "no recipient accepts the message".to_owned() })),
            (false, _) => Ok(()),
        }
    }

    /// Calls `on-rewrite-address` once for each distinct header address and writes changed addresses back.
    async fn rewrite_header_addresses(&self, transaction: &mut MailTransaction) -> Result<(), Rejected> {
        if !transaction.hooks.has_hook(Hook::OnRewriteAddress) {
            return Ok(());
        }
        let MailTransaction { hooks, context, .. } = transaction;
        let Some(head) = context.header.clone() else { return Ok(()) };
        for (index, field) in head.fields().iter().enumerate() {
            let Some(role) = address_role(field.name()) else { continue };
            let mut changed: HashMap<Address, Address> = HashMap::new();
            for mention in find_addresses(field.value()) {
                let new = self.services.pipeline.rewrite(hooks, context, mention.address.clone(), role).await?;
                if new != mention.address {
                    changed.insert(mention.address, new);
                }
            }
            if changed.is_empty() {
                continue;
            }
            if let (Some(new), Some(block)) = (rewrite_field(field, |a| changed.get(a).cloned()), context.header.as_mut()) {
                Arc::make_mut(block).set(index, new);
            }
        }
        Ok(())
    }

    fn log_commit(&self, transaction: &MailTransaction, recipients: usize) {
        let context = &transaction.context;
        let sender: &dyn Display = context.sender.as_deref().map_or(&"", |sender| sender);
        let via = context.source.as_str();
        let from: &dyn Display = context.client.as_deref().map_or(&via, |client| &client.peer);
        let held = context.hold.as_ref().map(|reason| format!(", hold={reason}")).unwrap_or_default();
        tracing::info!(
            target: "intake",
            "{}: from=<{sender}>, size={}, nrcpt={recipients}, client={from}{held}",
            transaction.id,
            context.size(),
        );
    }
}

/// Turns a verdict that ends the message into an error.
fn into_result(verdict: Verdict) -> Result<(), Rejected> {
    match verdict {
        Verdict::Next | Verdict::Accept => Ok(()),
        Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } | Verdict::Hold { .. } => {
            Err(Rejected(verdict))
        }
    }
}

/// Role of the addresses in a header field; `None` if addresses of the field must not be rewritten (RFC 5322 §3.6).
fn address_role(name: &str) -> Option<AddressRole> {
    let is_any = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    if is_any(&["From", "Sender", "Reply-To", "Resent-From", "Resent-Sender", "Resent-Reply-To"]) {
        Some(AddressRole::HeaderSender)
    } else if is_any(&["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"]) {
        Some(AddressRole::HeaderRecipient)
    } else {
        None
    }
}

fn queued_reply(transaction: &MailTransaction) -> Reply {
    let text = format!("queued as {}", transaction.id);
    Reply::new(250, Some(waxwing_types::EnhancedCode::new(2, 0, 0)), text).unwrap_or(Reply::fixed(250, (2, 0, 0), "queued"))
}
