//! One transaction, from MAIL to the commit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_message::{HeadSplitter, HeaderBlock, Split};
use waxwing_pipeline::{Chain, Context, Event, TraceEntry, TraceRecord};
use waxwing_queue::{BodyWriter, NewBody, NewMessage, Reservation};
use waxwing_types::{Address, BodyType, Envelope, Origin, QueueId, Recipient, Reply, ReversePath, Timestamp};

use crate::recording::Draft;
use crate::{Intake, IntakeSettings, replies};

/// A transaction under way. Its queue id is known from MAIL on, so that a refused message can be traced too.
pub(crate) struct Transaction {
    pub(crate) id: QueueId,
    pub(crate) context: Context,
    pub(crate) chain: Chain,
    pub(crate) body_type: BodyType,
    pub(crate) origin: Origin,
    /// A hook said at an earlier step: 250, and away with it.
    pub(crate) discard: Option<String>,
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
    Refused(Reply),
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
        body_type: BodyType,
        origin: Origin,
        room: Reservation,
    ) -> Self {
        Self { id, context, chain, body_type, origin, discard: None, draft: None, receiving: Receiving::Waiting(room) }
    }

    /// Takes a piece of the message. What goes wrong is said at the end of data.
    pub(crate) async fn write(&mut self, intake: &Intake, piece: Bytes) {
        let before = std::mem::replace(&mut self.receiving, Receiving::Refused(replies::NOT_IN_TRANSACTION));
        let limit = intake.parts.settings.header_size_limit;
        self.receiving = match before {
            Receiving::Waiting(room) => head(intake, self.id, HeadSplitter::new(limit), room, piece).await,
            Receiving::Head(splitter, room) => head(intake, self.id, splitter, room, piece).await,
            Receiving::Body(head, writer) => body(head, writer, piece).await,
            Receiving::Refused(reply) => Receiving::Refused(reply),
        };
    }

    /// All octets have come.
    pub(crate) async fn received(&mut self, intake: &Intake) -> Result<Received, Reply> {
        let spool = &intake.parts.spool;
        match std::mem::replace(&mut self.receiving, Receiving::Refused(replies::NOT_IN_TRANSACTION)) {
            Receiving::Waiting(room) => finish(HeaderBlock::default(), spool.body_writer(self.id, room)).await,
            Receiving::Head(splitter, room) => {
                let (head, rest) = splitter.finish();
                let mut writer = spool.body_writer(self.id, room);
                writer.write(rest).await.map_err(|e| replies::spool(&e))?;
                finish(head, writer).await
            }
            Receiving::Body(head, writer) => finish(head, writer).await,
            Receiving::Refused(reply) => Err(reply),
        }
    }

    /// The envelope as the hooks left it, with these recipients.
    pub(crate) fn envelope(&self, recipients: Vec<Recipient>) -> Envelope {
        Envelope {
            sender: self.context.sender.as_deref().cloned().unwrap_or(ReversePath::Null),
            recipients,
            body_type: self.body_type,
            ret: None,
            envid: None,
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
    pub(crate) fn note(&mut self, at: Timestamp, step: &str, subject: &Address, reply: &Reply) {
        let entry = TraceEntry::step(at, "intake", step, subject.to_string(), reply.to_string());
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
        part: "intake".to_owned(),
        peer: context.client.as_ref().map_or_else(|| "internal".to_owned(), |c| c.peer.to_string()),
        sender: context.sender.as_ref().map(|s| s.to_string()).unwrap_or_default(),
        recipients: recipients.map(|r| r.recipient.address.to_string()).collect(),
        size: context.size(),
        result,
        entries,
    }
}

async fn head(intake: &Intake, id: QueueId, mut splitter: HeadSplitter, room: Reservation, piece: Bytes) -> Receiving {
    match splitter.push(piece) {
        Ok(Split::More) => Receiving::Head(splitter, room),
        Ok(Split::Done(head, rest)) => body(head, intake.parts.spool.body_writer(id, room), rest).await,
        Err(_) => Receiving::Refused(replies::HEADER_TOO_LARGE),
    }
}

async fn body(head: HeaderBlock, mut writer: BodyWriter, piece: Bytes) -> Receiving {
    match writer.write(piece).await {
        Ok(()) => Receiving::Body(head, writer),
        Err(error) => {
            tracing::warn!(target: "intake", "a body can't be spooled: {error}");
            Receiving::Refused(replies::spool(&error))
        }
    }
}

async fn finish(head: HeaderBlock, writer: BodyWriter) -> Result<Received, Reply> {
    match writer.finish().await {
        Ok(body) => Ok(Received { head, body }),
        Err(error) => {
            tracing::warn!(target: "intake", "a body can't be spooled: {error}");
            Err(replies::spool(&error))
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
        let context = &transaction.context;
        let body = match &context.replaced_body {
            Some(bytes) => self.store_body(transaction.id, bytes.clone()).await?,
            None => body,
        };
        let head = context.head.as_ref().map(|h| h.to_bytes(body.size() == 0)).unwrap_or_default();
        let message = NewMessage {
            id: transaction.id,
            envelope: transaction.envelope(recipients),
            head,
            body,
            tags: Arc::unwrap_or_clone(Arc::clone(&context.tags)),
            hold: context.hold.clone(),
            not_before: Duration::ZERO,
            priority: 0,
            with: Vec::new(),
        };
        self.parts.spool.enqueue(message).await.map_err(|error| {
            tracing::error!(target: "intake", "{}: can't be queued: {error}", transaction.id);
            replies::spool(&error)
        })
    }

    /// A body that a hook made, in the spool.
    async fn store_body(&self, id: QueueId, bytes: Bytes) -> Result<NewBody, Reply> {
        let failed = |error| replies::spool(&error);
        let room = self.parts.spool.room(bytes.len() as u64).map_err(failed)?;
        let mut writer = self.parts.spool.body_writer(id, room);
        writer.write(bytes).await.map_err(failed)?;
        writer.finish().await.map_err(failed)
    }
}
