//! One transaction, from MAIL to the commit.

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

/// Fields that restrictions put on one message.
const PREPENDED_MAX: usize = 100;

/// A transaction under way. Its queue id is known from MAIL on, so that a refused message can be traced too.
pub(crate) struct Transaction {
    pub(crate) id: QueueId,
    pub(crate) context: Context,
    pub(crate) chain: Chain,
    /// What the parameters of MAIL mean.
    pub(crate) options: MailOptions,
    pub(crate) origin: Origin,
    /// The recipients that the client heard a yes for, in order, by index.
    pub(crate) accepted: Vec<u32>,
    /// What those of them hear at the end who do not get the message, where each gets a reply of its own.
    pub(crate) refusals: Vec<(u32, Reply)>,
    /// What the client declared by SIZE, in octets.
    pub(crate) size: u64,
    /// Which rule of the server refused it, for the log.
    pub(crate) rule: Option<String>,
    /// Fields that restrictions want above all others.
    pub(crate) prepend: Vec<Field>,
    /// Restrictions want all of it to go there.
    pub(crate) redirect: Option<Address>,
    /// A hook said at an earlier step: 250, and away with it.
    pub(crate) discard: Option<String>,
    /// Aliases whose expansion the sender is to hear of.
    pub(crate) expanded: Expanded,
    /// What the client said, if it is recorded.
    pub(crate) draft: Option<Box<Draft>>,
    receiving: Receiving,
}

/// How far the message's octets have come.
enum Receiving {
    /// Waiting for DATA.
    Waiting(Reservation),
    /// In the header.
    Head(HeadSplitter, Reservation),
    /// In the body.
    Body(HeaderBlock, BodyWriter),
    /// It cannot be taken; the rest of its octets is passed over.
    Refused(Answer),
}

/// A message whose octets are all here.
pub(crate) struct Received {
    pub(crate) head: HeaderBlock,
    pub(crate) body: NewBody,
}

impl Transaction {
    pub(crate) fn new(
        id: QueueId,
        context: Context,
        chain: Chain,
        options: MailOptions,
        origin: Origin,
        room: Reservation,
    ) -> Self {
        Self {
            id,
            context,
            chain,
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
            receiving: Receiving::Waiting(room),
        }
    }

    /// Keeps what restrictions want beside a refusal.
    pub(crate) fn keep(&mut self, found: Found) -> Result<(), Refusal> {
        if let Some(refusal) = found.refusal {
            return Err(refusal);
        }
        self.prepend.extend(found.prepend.into_iter().take(PREPENDED_MAX.saturating_sub(self.prepend.len())));
        self.redirect = found.redirect.or(self.redirect.take());
        self.discard = self.discard.take().or(found.discard);
        self.context.hold = self.context.hold.take().or(found.hold);
        Ok(())
    }

    /// The client hears of each recipient apart (RFC 2033 §4.2, PRDR).
    pub(crate) fn answers_each(&self) -> bool {
        self.options.each_recipient || self.context.via == Via::Lmtp
    }

    /// A message was taken: one reply for all recipients, or each one's own if they differ.
    pub(crate) fn taken(&self, reply: Reply) -> Answer {
        if self.refusals.is_empty() {
            return Answer::Committed(reply);
        }
        let refusal = |index| self.refusals.iter().find(|(refused, _)| *refused == index).map(|(_, reply)| reply.clone());
        Answer::CommittedEach(self.accepted.iter().map(|index| refusal(*index).unwrap_or_else(|| reply.clone())).collect())
    }

    /// Nobody is left: what the client hears if everybody refused, and did not throw it away.
    pub(crate) fn refused_by_all(&self) -> Option<Reply> {
        let is_refused = |index: &u32| self.refusals.iter().any(|(refused, _)| refused == index);
        self.refusals.first().filter(|_| self.accepted.iter().all(is_refused)).map(|(_, reply)| reply.clone())
    }

    /// Takes a piece of the message. What goes wrong is said at the end of data.
    pub(crate) async fn write(&mut self, intake: &Intake, piece: Bytes) {
        let before = std::mem::replace(&mut self.receiving, Receiving::Refused(Answer::Reply(replies::NOT_IN_TRANSACTION)));
        let limit = intake.parts.settings.header_size_limit;
        self.receiving = match before {
            Receiving::Waiting(room) => self.head(intake, HeadSplitter::new(limit), room, piece).await,
            Receiving::Head(splitter, room) => self.head(intake, splitter, room, piece).await,
            Receiving::Body(head, writer) => body(head, writer, piece).await,
            Receiving::Refused(answer) => Receiving::Refused(answer),
        };
    }

    async fn head(&mut self, intake: &Intake, mut splitter: HeadSplitter, room: Reservation, piece: Bytes) -> Receiving {
        match splitter.push(piece) {
            Ok(Split::More) => Receiving::Head(splitter, room),
            Ok(Split::Done(head, rest)) => match self.headers(intake, head).await {
                Ok(head) => body(head, intake.parts.spool.body_writer(self.id, room), rest).await,
                Err(answer) => Receiving::Refused(answer),
            },
            Err(_) => Receiving::Refused(Answer::Reply(replies::HEADER_TOO_LARGE)),
        }
    }

    /// The header is complete: who wants to hear of it before the body comes can end it here.
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

    /// All octets have come.
    pub(crate) async fn received(&mut self, intake: &Intake) -> Result<Received, Answer> {
        let failed = |error: SpoolError| Answer::Reply(replies::spool(&error));
        let before = std::mem::replace(&mut self.receiving, Receiving::Refused(Answer::Reply(replies::NOT_IN_TRANSACTION)));
        let (head, writer) = match before {
            Receiving::Waiting(room) => {
                (self.headers(intake, HeaderBlock::default()).await?, intake.parts.spool.body_writer(self.id, room))
            }
            Receiving::Head(splitter, room) => {
                let (head, rest) = splitter.finish();
                let head = self.headers(intake, head).await?;
                let mut writer = intake.parts.spool.body_writer(self.id, room);
                writer.write(rest).await.map_err(failed)?;
                (head, writer)
            }
            Receiving::Body(head, writer) => (head, writer),
            Receiving::Refused(answer) => return Err(answer),
        };
        let body = writer.finish().await.inspect_err(cannot_spool).map_err(failed)?;
        Ok(Received { head, body })
    }

    /// The envelope as the hooks left it, with these recipients.
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

    /// Tells who wants to hear of it that no message came of this.
    pub(crate) async fn tell_abort(&mut self, intake: &Intake) {
        intake.parts.pipeline.tell(&mut self.chain, &mut self.context, Event::Abort).await;
    }

    /// The client gave it up: told, and if anything was decided in it, that is worth a trace.
    pub(crate) async fn given_up(mut self, intake: &Intake) {
        self.tell_abort(intake).await;
        self.record(intake, None);
        if !self.chain.trace.is_empty() {
            self.trace(intake, "ended without a message".to_owned(), intake.parts.clock.now());
        }
    }

    /// Writes a decision of the server itself into the trace.
    pub(crate) fn note(&mut self, at: Timestamp, step: &str, subject: &str, reply: &Reply) {
        let entry = TraceEntry::step(at, "intake", step.to_owned(), subject, reply.to_string());
        entry.keep(&mut self.chain.trace);
    }

    /// Writes down what the hooks did and how it ended.
    pub(crate) fn trace(&mut self, intake: &Intake, result: String, at: Timestamp) {
        let entries = std::mem::take(&mut self.chain.trace);
        intake.parts.trace.record(record_of(self.id, &self.context, &intake.parts.settings, result, entries, at));
    }
}

/// The record of what hooks did, as far as things came.
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
    tracing::warn!(target: "intake", "a body can't be spooled: {error}");
}

/// The answer before the end of data that follows from a verdict.
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
    /// Takes responsibility: synced when this returns without error.
    pub(crate) async fn commit(
        &self,
        transaction: &mut Transaction,
        recipients: Vec<Recipient>,
        body: NewBody,
    ) -> Result<(), Reply> {
        let Placement { hold, not_before, priority } = self.placement(transaction).await.map_err(ended)?;
        let mut with = self.along(transaction).await.map_err(|error| along::reply_of(&error))?;
        with.extend(self.report_expanded(transaction).await.map_err(|error| along::reply_of(&error))?);
        let with = self.spooled(with).await.map_err(|error| replies::spool(&error))?;
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
            with,
        };
        self.parts.spool.enqueue(message).await.map_err(|error| {
            tracing::error!(target: "intake", "{}: can't be queued: {error}", transaction.id);
            replies::spool(&error)
        })
    }

    /// Where plugins want it in the queue, or held by whatever hook said so.
    pub(crate) async fn placement(&self, transaction: &mut Transaction) -> Result<Placement, Ended> {
        let Transaction { chain, context, .. } = transaction;
        let mut placement = self.parts.pipeline.placement(chain, context).await?;
        placement.hold = context.hold.clone().or(placement.hold);
        context.hold.clone_from(&placement.hold);
        Ok(placement)
    }
}

/// What the client hears when a fault before the commit has a consequence.
fn ended(ended: Ended) -> Reply {
    match ended.0 {
        Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => reply,
        Verdict::Continue | Verdict::Accept | Verdict::Hold { .. } | Verdict::Discard { .. } => replies::NOT_IN_TRANSACTION,
    }
}
