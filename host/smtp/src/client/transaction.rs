//! One job on its way through one connection.

use std::collections::VecDeque;

use waxwing_types::Reply;

use super::{Job, JobResult, Stage};
use crate::stuff::DotStuffer;

/// A job and what the server has said to it so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) job: Job,
    pub(super) state: Progress,
    /// The server's refusal of MAIL, which stands for every recipient.
    pub(super) mail_refused: Option<Reply>,
    /// One for each RCPT that has been answered: its refusal, if it was refused.
    pub(super) recipients: Vec<Option<Reply>>,
    /// LMTP: the final replies so far, one for each recipient that was not refused.
    pub(super) finals: VecDeque<Reply>,
}

#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing of it was sent.
    Waiting,
    /// MAIL, RCPT and DATA.
    Commands,
    /// The message goes out.
    Body(Wire),
    /// A chunk that is not the last was sent (BDAT).
    ChunkSent,
    /// The final dot, or the last chunk, was sent.
    FinalDot,
    /// A lone final dot was sent, since DATA was let through without a recipient.
    EmptyBody,
}

/// How the octets of a message go.
#[derive(Debug)]
pub(super) enum Wire {
    /// DATA.
    Dots(DotStuffer),
    /// BDAT.
    Chunks,
}

impl Transaction {
    pub(super) fn new(job: Job) -> Self {
        Self { job, state: Progress::Waiting, mail_refused: None, recipients: Vec::new(), finals: VecDeque::new() }
    }

    /// Someone is to get the message.
    pub(super) fn has_recipient(&self) -> bool {
        self.mail_refused.is_none() && self.recipients.iter().any(Option::is_none)
    }

    /// Recipients that were not refused.
    pub(super) fn taken(&self) -> usize {
        self.recipients.iter().filter(|refused| refused.is_none()).count()
    }

    /// Every RCPT has its reply.
    pub(super) fn all_answered(&self) -> bool {
        self.recipients.len() == self.job.recipients.len()
    }

    /// The result once `last` (the reply to MAIL, DATA or the final dot) stands for those that were not refused before.
    pub(super) fn replied(self, last: &Reply) -> (u64, JobResult) {
        let Self { job, mail_refused, recipients, mut finals, .. } = self;
        let for_all = mail_refused.as_ref().unwrap_or(last);
        let mut own = recipients.into_iter();
        let reply = |_| match (&mail_refused, own.next().flatten()) {
            (None, Some(refused)) => refused,
            (None, None) => finals.pop_front().unwrap_or_else(|| for_all.clone()),
            (Some(_), _) => for_all.clone(),
        };
        (job.id, JobResult::Replied(job.recipients.iter().map(reply).collect()))
    }

    /// The stage that `awaited` means for this job.
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
