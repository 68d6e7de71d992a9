//! Session recording: keeps the client's commands and message unchanged while hooks edit the message, and passes both to the recorder at
//! the end.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{RecordedBody, Recording};
use waxwing_smtp::server::MessageAnswer;
use waxwing_types::{BodyRead, Parameter, Reply};

use crate::Intake;
use crate::transaction::MailTransaction;

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

impl MailTransaction {
    /// Passes the recording of the transaction to the recorder, if enabled. `answer` is the answer that ended the transaction, `None`
    /// after an end by the client. Must be called before the trace is taken.
    pub(crate) fn submit_recording(&mut self, intake: &Intake, answer: Option<&MessageAnswer>) {
        let (Some(recorder), Some(mut draft)) = (&intake.services.recorder, self.recording.take()) else { return };
        let refusal = draft.refusal.take().map(MessageAnswer::Reject);
        let (disposition, reply) = final_disposition(answer.or(refusal.as_ref()), self.context.hold.is_some());
        let (head, body) = draft.take_message();
        let client = self.context.client.as_deref();
        recorder.record(Recording {
            id: self.id.to_string(),
            at: self.origin.received_at,
            peer: self.origin.peer,
            client_name: self.origin.client_name.clone(),
            listener: client.map(|client| client.listener.to_string()).unwrap_or_default(),
            source: self.origin.source,
            helo: self.origin.helo.clone().unwrap_or_default(),
            esmtp: self.origin.esmtp,
            sender: draft.sender,
            mail_parameters: draft.mail_parameters,
            recipients: draft.recipients,
            header: head,
            body,
            redacted_headers: Vec::new(),
            tags: self.context.tags.as_ref().clone(),
            final_verdict: disposition.to_owned(),
            reply,
            entries: self.hooks.trace.clone(),
        });
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
