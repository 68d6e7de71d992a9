//! Unplanned end of a connection, and the results of the jobs in progress.

use std::mem;

use waxwing_types::Reply;

use super::{Awaited, ClientSession, Phase};
use crate::client::transaction::Progress;
use crate::client::{JobResult, LostReason, Stage};

/// Reason for plaintext octets between STARTTLS and the handshake: possibly injected.
pub(super) fn in_the_clear() -> LostReason {
    LostReason::Garbage("plaintext octets after the reply to STARTTLS".to_owned())
}

impl ClientSession {
    /// Handles 421: the server closes. Before the transaction a 421 says nothing about the message.
    pub(super) fn closing(&mut self, awaited: Awaited, reply: Reply) {
        match awaited {
            Awaited::Greeting | Awaited::Ehlo | Awaited::Helo | Awaited::StartTls => self.refuse_session(&reply),
            Awaited::Mail | Awaited::Rset => self.awaited.push_front(awaited),
            Awaited::Rcpt | Awaited::Data | Awaited::Chunk | Awaited::FinalDot => self.finish(&reply),
            Awaited::Quit => self.phase = Phase::Ending,
        }
        self.lose(&LostReason::Closing(reply));
    }

    pub(super) fn lose(&mut self, reason: &LostReason) {
        let awaited = self.awaited_stage();
        self.awaited.clear();
        self.phase = Phase::Ending;
        for (nth, transaction) in mem::take(&mut self.jobs).into_iter().enumerate() {
            if matches!(transaction.state, Progress::EmptyBody) || !transaction.finals.is_empty() {
                // With an empty message every recipient has a refusal, so the result of the message does not matter; in
                // LMTP some recipients have a final reply, and the reply stands.
                let (job, result) = transaction.replied(&Reply::fixed(451, (4, 4, 2), "Connection lost"));
                self.tell(job, result);
                continue;
            }
            let result = JobResult::Lost {
                stage: transaction.stage(if nth == 0 { awaited } else { Stage::Mail }),
                sent_anything: transaction.sent_anything(),
                final_dot_sent: transaction.final_dot_sent(),
                reason: reason.clone(),
            };
            self.tell(transaction.job.id, result);
        }
    }

    pub(super) fn awaited_stage(&self) -> Stage {
        match self.awaited.front() {
            Some(Awaited::Greeting) => Stage::Greeting,
            Some(Awaited::Ehlo | Awaited::Helo) => Stage::Helo,
            Some(Awaited::Rcpt) => Stage::Rcpt,
            Some(Awaited::Data) => Stage::DataInit,
            Some(Awaited::Chunk) => Stage::DataTransfer,
            Some(Awaited::FinalDot) => Stage::DataDone,
            Some(Awaited::StartTls) => Stage::StartTls,
            None if self.shaking_hands => Stage::StartTls,
            Some(Awaited::Mail | Awaited::Rset | Awaited::Quit) | None => Stage::Mail,
        }
    }
}
