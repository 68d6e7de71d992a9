//! Session recording: keeps the client's commands and message unchanged while hooks edit the message.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{Context, RecordedBody, Recording, TraceEntry};
use waxwing_smtp::server::MessageAnswer;
use waxwing_types::{BodyRead, Origin, Parameter, QueueId, Reply};

/// Maximum number of recipients in a recording.
const RECIPIENTS_MAX: usize = 1000;

/// Client input of a transaction, as received.
#[derive(Default)]
pub(crate) struct RecordingDraft {
    sender: String,
    mail_parameters: Vec<Parameter>,
    recipients: Vec<(String, Vec<Parameter>)>,
    header: Option<HeaderBlock>,
    body: Option<Arc<dyn BodyRead>>,
    /// Last reply to RCPT, if negative.
    refusal: Option<Reply>,
}

/// Server side of a recorded transaction.
pub(crate) struct RecordedTransaction<'a> {
    pub(crate) id: QueueId,
    pub(crate) origin: &'a Origin,
    pub(crate) context: &'a Context,
    /// Trace of the transaction.
    pub(crate) entries: &'a [TraceEntry],
}

impl RecordingDraft {
    pub(crate) fn new(sender: String, mail_parameters: &[Parameter]) -> Self {
        Self { sender, mail_parameters: mail_parameters.to_vec(), ..Self::default() }
    }

    pub(crate) fn add_recipient(&mut self, address: String, parameters: &[Parameter]) {
        self.refusal = None;
        if self.recipients.len() < RECIPIENTS_MAX {
            self.recipients.push((address, parameters.to_vec()));
        }
    }

    pub(crate) fn set_refusal(&mut self, reply: &Reply) {
        self.refusal = Some(reply.clone());
    }

    pub(crate) fn set_message(&mut self, head: &HeaderBlock, body: Arc<dyn BodyRead>) {
        (self.header, self.body) = (Some(head.clone()), Some(body));
    }

    /// Completes the recording of a transaction. `answer` is the answer that ended the transaction, `None` after an end by the client.
    pub(crate) fn finish(mut self, transaction: &RecordedTransaction<'_>, answer: Option<&MessageAnswer>) -> Recording {
        let RecordedTransaction { id, origin, context, entries } = *transaction;
        let refusal = self.refusal.take().map(MessageAnswer::Reject);
        let (disposition, reply) = final_disposition(answer.or(refusal.as_ref()), context.hold.is_some());
        let (head, body) = self.take_message();
        Recording {
            id: id.to_string(),
            at: origin.received_at,
            peer: origin.peer,
            client_name: origin.client_name.clone(),
            listener: context.client.as_deref().map(|client| client.listener.to_string()).unwrap_or_default(),
            source: origin.source,
            helo: origin.helo.clone().unwrap_or_default(),
            esmtp: origin.esmtp,
            sender: self.sender,
            mail_parameters: self.mail_parameters,
            recipients: self.recipients,
            header: head,
            body,
            redacted_headers: Vec::new(),
            tags: context.tags.as_ref().clone(),
            final_verdict: disposition.to_owned(),
            reply,
            entries: entries.to_vec(),
        }
    }

    /// Message as far as available in memory: recordings cause no disk reads.
    fn take_message(&mut self) -> (Option<Bytes>, RecordedBody) {
        let (Some(head), Some(body)) = (self.header.take(), self.body.take()) else { return (None, RecordedBody::None) };
        let recorded = match body.in_memory() {
            Some(octets) => RecordedBody::Complete(octets.clone()),
            None => RecordedBody::TooLarge { size: body.size() },
        };
        (Some(head.to_bytes(false)), recorded)
    }
}

/// Name of the final disposition, and reply text.
fn final_disposition(answer: Option<&MessageAnswer>, held: bool) -> (&'static str, String) {
    match answer {
        Some(MessageAnswer::Committed(reply)) => (if held { "hold" } else { "accept" }, reply.to_string()),
        Some(MessageAnswer::CommittedPerRecipient(replies)) => {
            let disposition = if held { "hold" } else { "accept" };
            (disposition, replies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "))
        }
        Some(MessageAnswer::Discarded(reply)) => ("discard", reply.to_string()),
        Some(MessageAnswer::Reject(reply)) if reply.code() < 500 => ("defer", reply.to_string()),
        Some(MessageAnswer::Reject(reply)) => ("reject", reply.to_string()),
        Some(MessageAnswer::Close(reply)) => ("disconnect", reply.to_string()),
        None => ("open", String::new()),
    }
}
