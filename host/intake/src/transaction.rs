//! Mail transaction, from MAIL to the commit.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_message::{Field, HeadSplitter, HeaderBlock, Split};
use waxwing_pipeline::{Chain, Context, Ended, Event, Hook, Placement, TraceEntry, TraceRecord};
use waxwing_queue::{BodyWriter, NewBody, NewMessage, Reservation, SpoolError};
use waxwing_smtp::server::{Answer, MailOptions};
use waxwing_types::{Address, Envelope, Origin, QueueId, Recipient, Reply, ReversePath, Timestamp, Verdict, Via};

use crate::expanded::Expanded;
use crate::recording::Draft;
use crate::restrict::{Found, Refusal};
use crate::{Intake, IntakeSettings, along, replies};

/// Maximum number of header fields added to a message by restrictions.
const PREPENDED_MAX: usize = 100;

/// State of a mail transaction. The queue ID is assigned at MAIL, so that refused messages can be traced too.
pub(crate) struct Transaction {
    pub(crate) id: QueueId,
    pub(crate) context: Context,
    pub(crate) chain: Chain,
    /// Parsed MAIL parameters.
    pub(crate) options: MailOptions,
    pub(crate) origin: Origin,
    /// Indexes of the recipients accepted at RCPT, in order.
    pub(crate) accepted: Vec<u32>,
    /// Replies at end of data to recipients excluded from delivery, for sessions with a reply per recipient.
    pub(crate) refusals: Vec<(u32, Reply)>,
    /// Size declared by the SIZE parameter, in bytes.
    pub(crate) size: u64,
    /// Rule of the server that refused the message, for the log.
    pub(crate) rule: Option<String>,
    /// Header fields prepended by restrictions.
    pub(crate) prepend: Vec<Field>,
    /// Recipient from a REDIRECT action, replacing all recipients.
    pub(crate) redirect: Option<Address>,
    /// Reason of an earlier `Discard` verdict: reply 250 and no delivery.
    pub(crate) discard: Option<String>,
    /// Aliases to report in an expanded DSN.
    pub(crate) expanded: Expanded,
    /// Recording of the client input, if enabled.
    pub(crate) draft: Option<Box<Draft>>,
    receiving: Receiving,
}

/// Progress of the message data.
enum Receiving {
    /// No data received yet.
    Waiting(Reservation),
    /// Header block incomplete.
    Head(HeadSplitter, Reservation),
    /// Header block complete, body being written to the spool.
    Body(HeaderBlock, BodyWriter),
    /// Refused; the remaining data is discarded.
    Refused(Answer),
}

/// Completely received message.
pub(crate) struct Received {
    pub(crate) head: HeaderBlock,
    pub(crate) body: NewBody,
}

impl Transaction {
    pub(crate) fn new(
        id: QueueId,
        context: Context,
        hooks: Chain,
        options: MailOptions,
        origin: Origin,
        reservation: Reservation,
    ) -> Self {
        Self {
            id,
            context,
            chain: hooks,
            options,
            origin,
            accepted: Vec::new(),
            refusals: Vec::new(),
            size: 0,
            rule: None,
            prepend: Vec::new(),
            redirect: None,
            discard: None,
            expanded: Expanded::default(),
            draft: None,
            receiving: Receiving::Waiting(reservation),
        }
    }

    /// Applies the effects of restrictions; a refusal becomes the error.
    pub(crate) fn keep(&mut self, outcome: Found) -> Result<(), Refusal> {
        if let Some(refusal) = outcome.refusal {
            return Err(refusal);
        }
        self.prepend.extend(outcome.prepend.into_iter().take(PREPENDED_MAX.saturating_sub(self.prepend.len())));
        self.redirect = outcome.redirect.or(self.redirect.take());
        self.discard = self.discard.take().or(outcome.discard);
        self.context.hold = self.context.hold.take().or(outcome.hold);
        Ok(())
    }

    /// Returns whether the session replies for each recipient separately (RFC 2033 §4.2, PRDR).
    pub(crate) fn answers_each(&self) -> bool {
        self.options.each_recipient || self.context.via == Via::Lmtp
    }

    /// Answer to a committed message: a common reply, or separate replies if recipients were refused.
    pub(crate) fn taken(&self, reply: Reply) -> Answer {
        if self.refusals.is_empty() {
            return Answer::Committed(reply);
        }
        let refusal = |index| self.refusals.iter().find(|(refused, _)| *refused == index).map(|(_, reply)| reply.clone());
        Answer::CommittedEach(self.accepted.iter().map(|index| refusal(*index).unwrap_or_else(|| reply.clone())).collect())
    }

    /// Reply to a message without remaining recipients, if every accepted recipient was refused and none discarded.
    pub(crate) fn refused_by_all(&self) -> Option<Reply> {
        let is_refused = |index: &u32| self.refusals.iter().any(|(refused, _)| refused == index);
        self.refusals.first().filter(|_| self.accepted.iter().all(is_refused)).map(|(_, reply)| reply.clone())
    }

    /// Consumes a chunk of message data. Errors are reported at end of data.
    pub(crate) async fn write(&mut self, intake: &Intake, piece: Bytes) {
        let state = std::mem::replace(&mut self.receiving, Receiving::Refused(Answer::Reply(replies::NOT_IN_TRANSACTION)));
        let limit = intake.parts.settings.header_size_limit;
        self.receiving = match state {
            Receiving::Waiting(reservation) => self.head(intake, HeadSplitter::new(limit), reservation, piece).await,
            Receiving::Head(splitter, reservation) => self.head(intake, splitter, reservation, piece).await,
            Receiving::Body(head, writer) => body(head, writer, piece).await,
            Receiving::Refused(answer) => Receiving::Refused(answer),
        };
    }

    async fn head(&mut self, intake: &Intake, mut splitter: HeadSplitter, reservation: Reservation, piece: Bytes) -> Receiving {
        match splitter.push(piece) {
            Ok(Split::More) => Receiving::Head(splitter, reservation),
            Ok(Split::Done(head, rest)) => match self.headers(intake, head).await {
                Ok(head) => body(head, intake.parts.spool.body_writer(self.id, reservation), rest).await,
                Err(answer) => Receiving::Refused(answer),
            },
            Err(_) => Receiving::Refused(Answer::Reply(replies::HEADER_TOO_LARGE)),
        }
    }

    /// Runs `on-headers` on the complete header block; a negative verdict refuses the message before the body arrives.
    async fn headers(&mut self, intake: &Intake, head: HeaderBlock) -> Result<HeaderBlock, Answer> {
        if !self.chain.has(Hook::OnHeaders) {
            return Ok(head);
        }
        let head = Arc::new(head);
        self.context.head = Some(Arc::clone(&head));
        let verdict = intake.parts.pipeline.verdict(&mut self.chain, &mut self.context, Event::Headers).await;
        self.context.head = None;
        let answer = verdict_answer(self, verdict);
        if answer == Answer::Ok { Ok(Arc::unwrap_or_clone(head)) } else { Err(answer) }
    }

    /// Completes the reception after the last data byte.
    pub(crate) async fn received(&mut self, intake: &Intake) -> Result<Received, Answer> {
        let failed = |error: SpoolError| Answer::Reply(replies::spool(&error));
        let state = std::mem::replace(&mut self.receiving, Receiving::Refused(Answer::Reply(replies::NOT_IN_TRANSACTION)));
        let (head, writer) = match state {
            Receiving::Waiting(reservation) => {
                (self.headers(intake, HeaderBlock::default()).await?, intake.parts.spool.body_writer(self.id, reservation))
            }
            Receiving::Head(splitter, reservation) => {
                let (head, rest) = splitter.finish();
                let head = self.headers(intake, head).await?;
                let mut writer = intake.parts.spool.body_writer(self.id, reservation);
                writer.write(rest).await.map_err(failed)?;
                (head, writer)
            }
            Receiving::Body(head, writer) => (head, writer),
            Receiving::Refused(answer) => return Err(answer),
        };
        let body = writer.finish().await.inspect_err(cannot_spool).map_err(failed)?;
        Ok(Received { head, body })
    }

    /// Envelope with all changes by hooks, for the given recipients.
    pub(crate) fn envelope(&self, recipients: Vec<Recipient>) -> Envelope {
        Envelope {
            sender: self.context.sender.as_deref().cloned().unwrap_or(ReversePath::Null),
            recipients,
            body_type: self.options.body,
            ret: self.options.ret,
            envid: self.options.envid.clone(),
            smtputf8: self.options.smtputf8,
            require_tls: self.options.require_tls,
            origin: self.origin.clone(),
        }
    }

    /// Notifies hooks that the transaction ended without a message.
    pub(crate) async fn tell_abort(&mut self, intake: &Intake) {
        intake.parts.pipeline.tell(&mut self.chain, &mut self.context, Event::Abort).await;
    }

    /// Ends a transaction abandoned by the client: notifies hooks, and records a trace if any entry exists.
    pub(crate) async fn given_up(mut self, intake: &Intake) {
        self.tell_abort(intake).await;
        self.record(intake, None);
        if !self.chain.trace.is_empty() {
            self.trace(intake, "ended without a message".to_owned(), intake.parts.clock.now());
        }
    }

    /// Adds a decision of the server to the trace.
    pub(crate) fn note(&mut self, at: Timestamp, step: &str, subject: &str, reply: &Reply) {
        let entry = TraceEntry::step(at, "intake", step.to_owned(), subject, reply.to_string());
        entry.keep(&mut self.chain.trace);
    }

    /// Records the trace of hook calls with the final result.
    pub(crate) fn trace(&mut self, intake: &Intake, result: String, at: Timestamp) {
        let entries = std::mem::take(&mut self.chain.trace);
        intake.parts.trace.record(record_of(self.id, &self.context, &intake.parts.settings, result, entries, at));
    }
}

/// Trace record of a transaction or session.
pub(crate) fn record_of(
    id: QueueId,
    context: &Context,
    settings: &IntakeSettings,
    result: String,
    entries: Vec<TraceEntry>,
    at: Timestamp,
) -> TraceRecord {
    let recipients = context.recipients.iter().take(settings.trace_recipients_max);
    TraceRecord {
        id: id.to_string(),
        at,
        part: "intake".into(),
        peer: context.client.as_ref().map_or_else(|| "internal".to_owned(), |c| c.peer.to_string()),
        sender: context.sender.as_deref().map(String::from).unwrap_or_default(),
        recipients: recipients.map(|r| String::from(&r.recipient.address)).collect(),
        size: context.size(),
        result,
        entries,
    }
}

async fn body(head: HeaderBlock, mut writer: BodyWriter, piece: Bytes) -> Receiving {
    match writer.write(piece).await {
        Ok(()) => Receiving::Body(head, writer),
        Err(error) => {
            cannot_spool(&error);
            Receiving::Refused(Answer::Reply(replies::spool(&error)))
        }
    }
}

fn cannot_spool(error: &SpoolError) {
    tracing::warn!(target: "intake", "write to spool failed: {error}");
}

/// Answer to a command before end of data, from a verdict.
pub(crate) fn verdict_answer(transaction: &mut Transaction, verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Continue | Verdict::Accept => Answer::Ok,
        Verdict::Reject(reply) | Verdict::Defer(reply) => Answer::Reply(reply),
        Verdict::Disconnect(reply) => Answer::Close(reply),
        Verdict::Discard { reason } => {
            transaction.discard.get_or_insert(reason);
            Answer::Ok
        }
        Verdict::Hold { reason } => {
            transaction.context.hold.get_or_insert(reason);
            Answer::Ok
        }
    }
}

impl Intake {
    /// Commits the message with all submissions and DSNs. On return without error the message is synced to disk.
    pub(crate) async fn commit(
        &self,
        transaction: &mut Transaction,
        recipients: Vec<Recipient>,
        body: NewBody,
    ) -> Result<(), Reply> {
        let Placement { hold, not_before, priority } = self.placement(transaction).await.map_err(ended)?;
        let mut submissions = self.along(transaction).await.map_err(|error| along::reply_of(&error))?;
        submissions.extend(self.report_expanded(transaction).await.map_err(|error| along::reply_of(&error))?);
        let submissions = self.spooled(submissions).await.map_err(|error| replies::spool(&error))?;
        let context = &transaction.context;
        let body = match &context.replaced_body {
            Some(bytes) => {
                NewBody::of(&*self.parts.spool, transaction.id, bytes.clone()).await.map_err(|e| replies::spool(&e))?
            }
            None => body,
        };
        let head = context.head.as_ref().map(|h| h.to_bytes(body.size() == 0)).unwrap_or_default();
        let message = NewMessage {
            id: transaction.id,
            envelope: transaction.envelope(recipients),
            head,
            body,
            tags: Arc::unwrap_or_clone(Arc::clone(&context.tags)),
            hold,
            not_before,
            priority,
            with: submissions,
        };
        self.parts.spool.enqueue(message).await.map_err(|error| {
            tracing::error!(target: "intake", "{}: enqueue failed: {error}", transaction.id);
            replies::spool(&error)
        })
    }

    /// Enqueue options set by plugins. A hold reason from any hook takes precedence.
    pub(crate) async fn placement(&self, transaction: &mut Transaction) -> Result<Placement, Ended> {
        let Transaction { chain: hooks, context, .. } = transaction;
        let mut placement = self.parts.pipeline.placement(hooks, context).await?;
        placement.hold = context.hold.clone().or(placement.hold);
        context.hold.clone_from(&placement.hold);
        Ok(placement)
    }
}

/// Reply to the client when a plugin fault before the commit rejects the message.
fn ended(ended: Ended) -> Reply {
    match ended.0 {
        Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => reply,
        Verdict::Continue | Verdict::Accept | Verdict::Hold { .. } | Verdict::Discard { .. } => replies::NOT_IN_TRANSACTION,
    }
}
