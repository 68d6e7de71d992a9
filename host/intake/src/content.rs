//! End of data: content hooks, trace header, header addresses, alias expansion, commit.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use waxwing_message::trace::received;
use waxwing_message::{HeaderBlock, find_addresses, rewrite_field};
use waxwing_pipeline::{Ended, Event, Hook, Role, TraceEntry};
use waxwing_smtp::server::Answer;
use waxwing_types::{Address, Recipient, Reply, Verdict, Via};

use crate::restrict::{Case, Refusal, Stage};
use crate::transaction::{Received, Transaction};
use crate::{Intake, replies};

/// Result of the content checks and hooks before the commit.
enum Content {
    /// Message is to be committed for these recipients.
    Wanted(Vec<Recipient>),
    /// Message is dropped without delivery; the client receives a positive reply.
    Discarded(String),
    /// Negative reply to the client.
    Refused(Reply),
    /// Negative reply, after which the connection is closed.
    Disconnect(Reply),
}

impl Intake {
    /// Completes the reception of a message and returns the reply to end of data.
    pub(crate) async fn take_in(&self, transaction: &mut Transaction) -> Answer {
        let Received { head, body } = match transaction.received(self).await {
            Ok(received) => received,
            Err(answer) => return answer,
        };
        if let Some(draft) = &mut transaction.draft {
            draft.message(&head, body.reader());
        }
        transaction.context.body = Some(body.reader());
        match self.consider(transaction, head).await {
            Content::Refused(reply) => Answer::Reply(reply),
            Content::Disconnect(reply) => Answer::Close(reply),
            Content::Discarded(reason) => {
                tracing::info!(target: "intake", "{}: discarded: {reason}", transaction.id);
                let answer = transaction.taken(committed(transaction));
                if let Answer::Committed(reply) = answer { Answer::Discarded(reply) } else { answer }
            }
            Content::Wanted(recipients) => {
                let count = recipients.len();
                match self.commit(transaction, recipients, body).await {
                    Ok(()) => {
                        self.log_commit(transaction, count);
                        transaction.taken(committed(transaction))
                    }
                    Err(reply) => Answer::Reply(reply),
                }
            }
        }
    }

    async fn consider(&self, transaction: &mut Transaction, mut head: HeaderBlock) -> Content {
        if head.count("Received") >= self.parts.settings.hopcount_limit {
            return Content::Refused(replies::TOO_MANY_HOPS);
        }
        if let Err(Refusal { reply, rule }) = self.is_own_header(&transaction.context, &head).await {
            transaction.note(self.parts.clock.now(), &rule, "END-OF-MESSAGE", &reply);
            transaction.rule = Some(rule);
            return Content::Refused(reply);
        }
        let recipients = transaction.context.recipients.iter().map(|r| r.recipient.clone()).collect();
        let envelope = transaction.envelope(recipients);
        head.prepend(received(&self.parts.settings.myhostname, transaction.id, &envelope, transaction.context.tls.as_deref()));
        for field in std::mem::take(&mut transaction.prepend) {
            head.prepend(field);
        }
        transaction.context.head = Some(Arc::new(head));
        if let Some(reply) = self.ruled_out_at_end(transaction).await {
            return Content::Refused(reply);
        }
        match self.run_content_hooks(transaction).await {
            Verdict::Continue | Verdict::Accept => {}
            Verdict::Reject(reply) | Verdict::Defer(reply) => return Content::Refused(reply),
            Verdict::Disconnect(reply) => return Content::Disconnect(reply),
            Verdict::Discard { reason } => return Content::Discarded(reason),
            Verdict::Hold { reason } => {
                transaction.context.hold.get_or_insert(reason);
            }
        }
        if let Some(to) = transaction.redirect.take() {
            let class = self.parts.pipeline.class_of(&to);
            transaction.context.recipients = Arc::default();
            transaction.context.push_recipient(Recipient::new(to), class, Vec::new());
        }
        if let Some(reason) = transaction.discard.take() {
            return Content::Discarded(reason);
        }
        match self.expand_all(transaction).await {
            Ok(recipients) if recipients.is_empty() => Content::Discarded("no recipients left".to_owned()),
            Ok(recipients) => Content::Wanted(recipients),
            Err(reply) => Content::Refused(reply),
        }
    }

    /// Evaluates `smtpd_end_of_data_restrictions`.
    async fn ruled_out_at_end(&self, transaction: &mut Transaction) -> Option<Reply> {
        let Transaction { chain: hooks, context, origin, .. } = &mut *transaction;
        let (sender, esmtp) = (context.sender.clone(), origin.esmtp);
        let stage = Stage::EndOfData;
        let request = Case { stage, context, esmtp, sender: sender.as_deref(), recipient: None, size: context.size() };
        let outcome = self.restrict(hooks, &request).await;
        let Err(Refusal { reply, rule }) = transaction.keep(outcome) else {
            let prepend = std::mem::take(&mut transaction.prepend);
            if let Some(head) = transaction.context.head.as_mut().filter(|_| !prepend.is_empty()) {
                prepend.into_iter().for_each(|field| Arc::make_mut(head).prepend(field));
            }
            return None;
        };
        transaction.note(self.parts.clock.now(), &rule, "END-OF-MESSAGE", &reply);
        transaction.rule = Some(rule);
        Some(reply)
    }

    /// Runs the content hooks in order: message filters, score and decision, per-recipient decisions, cleanup, rewriting of header
    /// addresses. `Accept` ends only the hook that returned `Accept`.
    pub(crate) async fn run_content_hooks(&self, transaction: &mut Transaction) -> Verdict {
        match self.content_hooks(transaction).await {
            Ok(()) => Verdict::Continue,
            Err(Ended(verdict)) => verdict,
        }
    }

    async fn content_hooks(&self, transaction: &mut Transaction) -> Result<(), Ended> {
        let pipeline = &self.parts.pipeline;
        let Transaction { chain: hooks, context, .. } = &mut *transaction;
        going_on(pipeline.verdict(hooks, context, Event::Message).await)?;
        let symbols = pipeline.score(hooks, context).await?;
        going_on(pipeline.verdict(hooks, context, Event::Decide(Arc::new(symbols))).await)?;
        if context.via != Via::Dsn {
            self.ask_recipients(transaction).await?;
        }
        let Transaction { chain: hooks, context, .. } = &mut *transaction;
        going_on(pipeline.verdict(hooks, context, Event::Cleanup).await)?;
        self.rewrite_header(transaction).await
    }

    /// Runs `on-recipient-message` for each recipient of the complete message. LMTP and PRDR give a separate reply for each recipient.
    /// Plain SMTP gives a single reply for all recipients, and a DSN about a rejection could reach an innocent sender: a rejecting
    /// recipient is therefore dropped silently, and a deferring recipient puts the message on hold.
    async fn ask_recipients(&self, transaction: &mut Transaction) -> Result<(), Ended> {
        let (pipeline, now) = (&self.parts.pipeline, self.parts.clock.now());
        if !transaction.chain.has(Hook::OnRecipientMessage) || transaction.context.recipients.is_empty() {
            return Ok(());
        }
        let each = transaction.answers_each();
        // Snapshot of the recipients before the hook runs: each is handled once, additions are not.
        let recipients = Arc::clone(&transaction.context.recipients);
        for recipient in recipients.iter() {
            let Transaction { chain: hooks, context, .. } = &mut *transaction;
            let reason = match pipeline.verdict(hooks, context, Event::RecipientMessage(recipient.clone())).await {
                Verdict::Continue | Verdict::Accept => continue,
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
            let entry =
                TraceEntry::step(now, "intake", "recipient-message", to.to_string(), format!("recipient dropped: {reason}"));
            entry.keep(&mut transaction.chain.trace);
        }
        match (transaction.context.recipients.is_empty(), transaction.refused_by_all()) {
            (true, Some(reply)) => Err(Ended(Verdict::Reject(reply))),
            (true, None) => Err(Ended(Verdict::Discard { reason: "no recipient accepts the message".to_owned() })),
            (false, _) => Ok(()),
        }
    }

    /// Calls `on-rewrite-address` once for each distinct header address and writes changed addresses back.
    async fn rewrite_header(&self, transaction: &mut Transaction) -> Result<(), Ended> {
        if !transaction.chain.has(Hook::OnRewriteAddress) {
            return Ok(());
        }
        let Transaction { chain: hooks, context, .. } = transaction;
        let Some(head) = context.head.clone() else { return Ok(()) };
        for (index, field) in head.fields().iter().enumerate() {
            let Some(role) = role_of(field.name()) else { continue };
            let mut changed: HashMap<Address, Address> = HashMap::new();
            for mention in find_addresses(field.value()) {
                let new = self.parts.pipeline.rewrite(hooks, context, mention.address.clone(), role).await?;
                if new != mention.address {
                    changed.insert(mention.address, new);
                }
            }
            if changed.is_empty() {
                continue;
            }
            if let (Some(new), Some(block)) = (rewrite_field(field, |a| changed.get(a).cloned()), context.head.as_mut()) {
                Arc::make_mut(block).set(index, new);
            }
        }
        Ok(())
    }

    fn log_commit(&self, transaction: &Transaction, recipients: usize) {
        let context = &transaction.context;
        let sender: &dyn Display = context.sender.as_deref().map_or(&"", |sender| sender);
        let via = context.via.as_str();
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
fn going_on(verdict: Verdict) -> Result<(), Ended> {
    match verdict {
        Verdict::Continue | Verdict::Accept => Ok(()),
        Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } | Verdict::Hold { .. } => {
            Err(Ended(verdict))
        }
    }
}

/// Role of the addresses in a header field; `None` if addresses of the field must not be rewritten (RFC 5322 §3.6).
fn role_of(name: &str) -> Option<Role> {
    let is_any = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    if is_any(&["From", "Sender", "Reply-To", "Resent-From", "Resent-Sender", "Resent-Reply-To"]) {
        Some(Role::HeaderSender)
    } else if is_any(&["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"]) {
        Some(Role::HeaderRecipient)
    } else {
        None
    }
}

fn committed(transaction: &Transaction) -> Reply {
    let text = format!("queued as {}", transaction.id);
    Reply::new(250, Some(waxwing_types::EnhancedCode::new(2, 0, 0)), text).unwrap_or(Reply::fixed(250, (2, 0, 0), "queued"))
}
