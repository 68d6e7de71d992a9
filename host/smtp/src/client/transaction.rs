//! Progress of one job on one connection.

use std::collections::VecDeque;

use waxwing_types::Reply;

use super::{Job, JobResult, Stage};
use crate::stuff::DotStuffer;

/// Job and the replies of the server so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) job: Job,
    pub(super) state: Progress,
    /// Refusal of MAIL by the server; applies to every recipient.
    pub(super) mail_refused: Option<Reply>,
    /// One entry for each answered RCPT: the refusal, or `None` if accepted.
    pub(super) recipients: Vec<Option<Reply>>,
    /// LMTP: the final replies so far, one for each accepted recipient.
    pub(super) finals: VecDeque<Reply>,
}

#[derive(Debug)]
pub(super) enum Progress {
    /// No command of the job was sent.
    Waiting,
    /// MAIL, RCPT and DATA sent.
    Commands,
    /// The message is being sent.
    Body(Wire),
    /// A chunk other than the last was sent (BDAT).
    ChunkSent,
    /// The final dot, or the last chunk, was sent.
    FinalDot,
    /// A lone final dot was sent: the server accepted DATA without an accepted recipient.
    EmptyBody,
}

/// Transfer mode of the message octets.
#[derive(Debug)]
pub(super) enum Wire {
    /// DATA with dot-stuffing.
    Dots(DotStuffer),
    /// BDAT chunks (RFC 3030).
    Chunks,
}

impl Transaction {
    pub(super) fn new(job: Job) -> Self {
        Self { job, state: Progress::Waiting, mail_refused: None, recipients: Vec::new(), finals: VecDeque::new() }
    }

    /// Returns whether at least one recipient was accepted.
    pub(super) fn has_recipient(&self) -> bool {
        self.mail_refused.is_none() && self.recipients.iter().any(Option::is_none)
    }

    /// Number of accepted recipients.
    pub(super) fn taken(&self) -> usize {
        self.recipients.iter().filter(|refused| refused.is_none()).count()
    }

    /// Returns whether every RCPT has a reply.
    pub(super) fn all_answered(&self) -> bool {
        self.recipients.len() == self.job.recipients.len()
    }

    /// Makes the result; `last` (the reply to MAIL, DATA or the final dot) applies to all recipients not refused
    /// before.
    pub(super) fn replied(self, last: &Reply) -> (u64, JobResult) {
        let Self { job, mail_refused, recipients, mut finals, .. } = self;
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
    pub(super) fn stage(&self, awaited: Stage) -> Stage {
        match self.state {
            Progress::Waiting | Progress::Commands => awaited,
            Progress::Body(_) | Progress::ChunkSent => Stage::DataTransfer,
            Progress::FinalDot | Progress::EmptyBody => Stage::DataDone,
        }
    }

    pub(super) fn final_dot_sent(&self) -> bool {
        matches!(self.state, Progress::FinalDot)
    }

    pub(super) fn sent_anything(&self) -> bool {
        !matches!(self.state, Progress::Waiting)
    }
}
