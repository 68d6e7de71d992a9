//! Progress of one job on one connection.

use std::collections::VecDeque;

use waxwing_types::Reply;

use super::{ClientJob, ClientStage, JobResult};
use crate::dot_stuffing::DotStuffer;

/// Job and the replies of the server so far.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    pub(super) job: ClientJob,
    pub(super) state: TransferState,
    /// Refusal of MAIL by the server; applies to every recipient.
    pub(super) mail_refused: Option<Reply>,
    /// One entry for each answered RCPT: the refusal, or `None` if accepted.
    pub(super) recipient_refusals: Vec<Option<Reply>>,
    /// LMTP: the final replies so far, one for each accepted recipient.
    pub(super) final_replies: VecDeque<Reply>,
}

#[derive(Debug)]
pub(super) enum TransferState {
    /// No command of the job was sent.
    NotStarted,
    /// MAIL, RCPT and DATA sent.
    CommandsSent,
    /// The message is being sent.
    Body(BodyTransfer),
    /// A chunk other than the last was sent (BDAT).
    ChunkSent,
    /// The final dot, or the last chunk, was sent.
    FinalDot,
    /// A lone final dot was sent: the server accepted DATA without an accepted recipient.
    EmptyBody,
}

/// Transfer mode of the message octets.
#[derive(Debug)]
pub(super) enum BodyTransfer {
    /// DATA with dot-stuffing.
    Data(DotStuffer),
    /// BDAT chunks (RFC 3030).
    Bdat,
}

impl ClientTransaction {
    pub(super) fn new(job: ClientJob) -> Self {
        Self {
            job,
            state: TransferState::NotStarted,
            mail_refused: None,
            recipient_refusals: Vec::new(),
            final_replies: VecDeque::new(),
        }
    }

    /// Returns whether at least one recipient was accepted.
    pub(super) fn has_recipient(&self) -> bool {
        self.mail_refused.is_none() && self.recipient_refusals.iter().any(Option::is_none)
    }

    /// Number of accepted recipients.
    pub(super) fn accepted_count(&self) -> usize {
        self.recipient_refusals.iter().filter(|refused| refused.is_none()).count()
    }

    /// Returns whether every RCPT has a reply.
    pub(super) fn all_answered(&self) -> bool {
        self.recipient_refusals.len() == self.job.recipients.len()
    }

    /// Makes the result; `last` (the reply to MAIL, DATA or the final dot) applies to all recipients not refused
    /// before.
    pub(super) fn into_result(self, last: &Reply) -> (u64, JobResult) {
        let Self { job, mail_refused, recipient_refusals: recipients, final_replies: mut finals, .. } = self;
        let for_all = mail_refused.as_ref().unwrap_or(last);
        let mut refusals = recipients.into_iter();
        let reply = |_| match (&mail_refused, refusals.next().flatten()) {
            (None, Some(refused)) => refused,
            (None, None) => finals.pop_front().unwrap_or_else(|| for_all.clone()),
            (Some(_), _) => for_all.clone(),
        };
        (job.id, JobResult::Replied(job.recipients.iter().map(reply).collect()))
    }

    /// Stage of the job, where `awaited` is the stage of the session.
    pub(super) fn stage(&self, expected: ClientStage) -> ClientStage {
        match self.state {
            TransferState::NotStarted | TransferState::CommandsSent => expected,
            TransferState::Body(_) | TransferState::ChunkSent => ClientStage::DataTransfer,
            TransferState::FinalDot | TransferState::EmptyBody => ClientStage::DataDone,
        }
    }

    pub(super) fn final_dot_sent(&self) -> bool {
        matches!(self.state, TransferState::FinalDot)
    }

    pub(super) fn sent_anything(&self) -> bool {
        !matches!(self.state, TransferState::NotStarted)
    }
}
