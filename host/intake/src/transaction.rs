//! Mail transaction, from MAIL to the end of data.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_message::{Field, HeaderBlock, HeaderSplit, HeaderSplitter};
use waxwing_pipeline::{Context, Event, Hook, HookSession, TraceEntry, TraceRecord};
use waxwing_smtp::server::{MailOptions, MessageAnswer, StepAnswer};
use waxwing_spool::{BodySink, NewBody, Reservation, SpoolError};
use waxwing_types::{Address, Envelope, Origin, QueueId, Recipient, Reply, ReversePath, Source, Timestamp, Verdict};

use crate::expanded_aliases::ExpandedAliases;
use crate::recording::{RecordedTransaction, RecordingDraft};
use crate::restrictions::{RestrictionOutcome, RestrictionRefusal};
use crate::{Intake, IntakeSettings, replies};

/// Maximum number of header fields added to a message by restrictions.
const PREPENDED_MAX: usize = 100;

/// State of a mail transaction. The queue ID is assigned at MAIL, so that refused messages can be traced too.
pub(crate) struct MailTransaction {
    pub(crate) id: QueueId,
    pub(crate) context: Context,
    pub(crate) hooks: HookSession,
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
    pub(crate) refusing_rule: Option<String>,
    /// Header fields prepended by restrictions.
    pub(crate) prepend: Vec<Field>,
    /// Recipient from a REDIRECT action, replacing all recipients.
    pub(crate) redirect: Option<Address>,
    /// Reason of an earlier `Discard` verdict: reply 250 and no delivery.
    pub(crate) discard: Option<String>,
    /// Aliases to report in an expanded DSN.
    pub(crate) expanded_aliases: ExpandedAliases,
    /// Recording of the client input, if enabled.
    pub(crate) recording: Option<Box<RecordingDraft>>,
    receive_state: ReceiveState,
}

/// Progress of the message data.
enum ReceiveState {
    /// No data received yet.
    AwaitingData(Reservation),
    /// Header block incomplete.
    Header(HeaderSplitter, Reservation),
    /// Header block complete, body being written to the spool.
    Body(HeaderBlock, Box<dyn BodySink>),
    /// Refused; the remaining data is discarded.
    Refused(MessageAnswer),
}

/// Completely received message.
pub(crate) struct ReceivedMessage {
    pub(crate) header: HeaderBlock,
    pub(crate) body: NewBody,
}

impl MailTransaction {
    pub(crate) fn new(
        id: QueueId,
        context: Context,
        hooks: HookSession,
        options: MailOptions,
        origin: Origin,
        reservation: Reservation,
    ) -> Self {
        Self {
            id,
            context,
            hooks,
            options,
            origin,
            accepted: Vec::new(),
            refusals: Vec::new(),
            size: 0,
            refusing_rule: None,
            prepend: Vec::new(),
            redirect: None,
            discard: None,
            expanded_aliases: ExpandedAliases::default(),
            recording: None,
            receive_state: ReceiveState::AwaitingData(reservation),
        }
    }

    /// Applies the effects of restrictions; a refusal becomes the error.
    pub(crate) fn apply_restriction_outcome(&mut self, outcome: RestrictionOutcome) -> Result<(), RestrictionRefusal> {
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
    pub(crate) fn replies_per_recipient(&self) -> bool {
        self.options.prdr || self.context.source == Source::Lmtp
    }

    /// Answer to a committed message: a common reply, or separate replies if recipients were refused.
    pub(crate) fn accepted_answer(&self, reply: Reply) -> MessageAnswer {
        if self.refusals.is_empty() {
            return MessageAnswer::Committed(reply);
        }
        let refusal = |index| self.refusals.iter().find(|(refused, _)| *refused == index).map(|(_, reply)| reply.clone());
        MessageAnswer::CommittedPerRecipient(
            self.accepted.iter().map(|index| refusal(*index).unwrap_or_else(|| reply.clone())).collect(),
        )
    }

    /// Reply to a message without remaining recipients, if every accepted recipient was refused and none discarded.
    pub(crate) fn refusal_by_all(&self) -> Option<Reply> {
        let is_refused = |index: &u32| self.refusals.iter().any(|(refused, _)| refused == index);
        self.refusals.first().filter(|_| self.accepted.iter().all(is_refused)).map(|(_, reply)| reply.clone())
    }

    /// Consumes a chunk of message data. Errors are reported at end of data.
    pub(crate) async fn write(&mut self, intake: &Intake, piece: Bytes) {
        let state =
            std::mem::replace(&mut self.receive_state, ReceiveState::Refused(MessageAnswer::Reject(replies::INTERNAL_ERROR)));
        let limit = intake.services.settings.header_size_limit;
        self.receive_state = match state {
            ReceiveState::AwaitingData(reservation) => {
                self.push_header(intake, HeaderSplitter::new(limit), reservation, piece).await
            }
            ReceiveState::Header(splitter, reservation) => self.push_header(intake, splitter, reservation, piece).await,
            ReceiveState::Body(head, writer) => write_body(head, writer, piece).await,
            ReceiveState::Refused(answer) => ReceiveState::Refused(answer),
        };
    }

    async fn push_header(
        &mut self,
        intake: &Intake,
        mut splitter: HeaderSplitter,
        reservation: Reservation,
        piece: Bytes,
    ) -> ReceiveState {
        match splitter.push(piece) {
            Ok(HeaderSplit::Incomplete) => ReceiveState::Header(splitter, reservation),
            Ok(HeaderSplit::Complete(head, rest)) => match self.run_headers_hook(intake, head).await {
                Ok(head) => write_body(head, intake.services.spool.body_sink(self.id, reservation), rest).await,
                Err(answer) => ReceiveState::Refused(answer),
            },
            Err(_) => ReceiveState::Refused(MessageAnswer::Reject(replies::HEADER_TOO_LARGE)),
        }
    }

    /// Runs `on-headers` on the complete header block; a negative verdict refuses the message before the body arrives.
    async fn run_headers_hook(&mut self, intake: &Intake, head: HeaderBlock) -> Result<HeaderBlock, MessageAnswer> {
        if !self.hooks.has_hook(Hook::OnHeaders) {
            return Ok(head);
        }
        let head = Arc::new(head);
        self.context.header = Some(Arc::clone(&head));
        let verdict = intake.services.pipeline.verdict(&mut self.hooks, &mut self.context, Event::Headers).await;
        self.context.header = None;
        let answer = answer_for_verdict(self, verdict);
        replies::message_refusal(answer).map_or_else(|| Ok(Arc::unwrap_or_clone(head)), Err)
    }

    /// Completes the reception after the last data byte.
    pub(crate) async fn finish_receiving(&mut self, intake: &Intake) -> Result<ReceivedMessage, MessageAnswer> {
        let failed = |error: SpoolError| MessageAnswer::Reject(replies::reply_for_spool_error(&error));
        let state =
            std::mem::replace(&mut self.receive_state, ReceiveState::Refused(MessageAnswer::Reject(replies::INTERNAL_ERROR)));
        let (head, writer) = match state {
            ReceiveState::AwaitingData(reservation) => (
                self.run_headers_hook(intake, HeaderBlock::default()).await?,
                intake.services.spool.body_sink(self.id, reservation),
            ),
            ReceiveState::Header(splitter, reservation) => {
                let (head, rest) = splitter.finish();
                let head = self.run_headers_hook(intake, head).await?;
                let mut writer = intake.services.spool.body_sink(self.id, reservation);
                writer.write(rest).await.map_err(failed)?;
                (head, writer)
            }
            ReceiveState::Body(head, writer) => (head, writer),
            ReceiveState::Refused(answer) => return Err(answer),
        };
        let body = writer.finish().await.inspect_err(log_spool_error).map_err(failed)?;
        Ok(ReceivedMessage { header: head, body })
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
    pub(crate) async fn notify_abort(&mut self, intake: &Intake) {
        intake.services.pipeline.notify(&mut self.hooks, &mut self.context, Event::Abort).await;
    }

    /// Ends a transaction abandoned by the client: notifies hooks, and records a trace if any entry exists.
    pub(crate) async fn abandon(mut self, intake: &Intake) {
        self.notify_abort(intake).await;
        self.submit_recording(intake, None);
        if !self.hooks.trace.is_empty() {
            self.record_trace(intake, "ended without a message".to_owned(), intake.services.clock.now());
        }
    }

    /// Passes the recording of the transaction to the recorder, if enabled. `answer` is the answer that ended the transaction, `None`
    /// after an end by the client. Must be called before the trace is taken.
    pub(crate) fn submit_recording(&mut self, intake: &Intake, answer: Option<&MessageAnswer>) {
        let (Some(recorder), Some(draft)) = (&intake.services.recorder, self.recording.take()) else { return };
        let (id, origin, context, entries) = (self.id, &self.origin, &self.context, &self.hooks.trace);
        recorder.record(draft.finish(&RecordedTransaction { id, origin, context, entries }, answer));
    }

    /// Adds a decision of the server to the trace.
    pub(crate) fn trace_decision(&mut self, at: Timestamp, step: &str, subject: &str, reply: &Reply) {
        let entry = TraceEntry::server_step(at, "intake", step.to_owned(), subject, reply.to_string());
        entry.append_to(&mut self.hooks.trace);
    }

    /// Records the trace of hook calls with the final result.
    pub(crate) fn record_trace(&mut self, intake: &Intake, result: String, at: Timestamp) {
        let entries = std::mem::take(&mut self.hooks.trace);
        intake.services.trace.record(trace_record(self.id, &self.context, &intake.services.settings, result, entries, at));
    }
}

/// Trace record of a transaction or session.
pub(crate) fn trace_record(
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

async fn write_body(head: HeaderBlock, mut writer: Box<dyn BodySink>, piece: Bytes) -> ReceiveState {
    match writer.write(piece).await {
        Ok(()) => ReceiveState::Body(head, writer),
        Err(error) => {
            log_spool_error(&error);
            ReceiveState::Refused(MessageAnswer::Reject(replies::reply_for_spool_error(&error)))
        }
    }
}

fn log_spool_error(error: &SpoolError) {
    tracing::warn!(target: "intake", "write to spool failed: {error}");
}

/// Answer to a command before end of data, from a verdict.
pub(crate) fn answer_for_verdict(transaction: &mut MailTransaction, verdict: Verdict) -> StepAnswer {
    match verdict {
        Verdict::Next | Verdict::Accept => StepAnswer::Ok,
        Verdict::Reject(reply) | Verdict::Defer(reply) => StepAnswer::Reply(reply),
        Verdict::Disconnect(reply) => StepAnswer::Close(reply),
        Verdict::Discard { reason } => {
            transaction.discard.get_or_insert(reason);
            StepAnswer::Ok
        }
        Verdict::Hold { reason } => {
            transaction.context.hold.get_or_insert(reason);
            StepAnswer::Ok
        }
    }
}
