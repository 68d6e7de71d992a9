//! Unplanned end of a connection, and the results of the jobs in progress.

use std::mem;

use waxwing_types::Reply;

use super::{ClientPhase, ClientSession, ExpectedReply};
use crate::client::transaction::TransferState;
use crate::client::{ClientStage, DisconnectReason, JobResult};

/// Reason for plaintext octets between STARTTLS and the handshake: possibly injected.
pub(super) fn plaintext_after_starttls() -> DisconnectReason {
    DisconnectReason::Garbage("plaintext octets after the reply to STARTTLS".to_owned())
}

impl ClientSession {
    /// Handles 421: the server closes. Before the transaction a 421 says nothing about the message.
    pub(super) fn handle_421(&mut self, expected: ExpectedReply, reply: Reply) {
        match expected {
            ExpectedReply::Greeting | ExpectedReply::Ehlo | ExpectedReply::Helo | ExpectedReply::StartTls => {
                self.refuse_session(&reply)
            }
            ExpectedReply::Mail | ExpectedReply::Rset => self.expected_replies.push_front(expected),
            ExpectedReply::Rcpt | ExpectedReply::Data | ExpectedReply::Chunk | ExpectedReply::FinalDot => self.finish_job(&reply),
            ExpectedReply::Quit => self.phase = ClientPhase::Closing,
        }
        self.connection_lost(&DisconnectReason::Closing(reply));
    }

    pub(super) fn connection_lost(&mut self, reason: &DisconnectReason) {
        let expected = self.current_stage();
        self.expected_replies.clear();
        self.phase = ClientPhase::Closing;
        for (nth, transaction) in mem::take(&mut self.jobs).into_iter().enumerate() {
            if matches!(transaction.state, TransferState::EmptyBody) || !transaction.final_replies.is_empty() {
                // With an empty message every recipient has a refusal, so the result of the message does not matter; in
                // LMTP some recipients have a final reply, and the reply stands.
                let (job, result) = transaction.into_result(&Reply::fixed(451, (4, 4, 2), "Connection lost"));
                self.report_outcome(job, result);
                continue;
            }
            let result = JobResult::Disconnected {
                stage: transaction.stage(if nth == 0 { expected } else { ClientStage::Mail }),
                sent_anything: transaction.sent_anything(),
                final_dot_sent: transaction.final_dot_sent(),
                reason: reason.clone(),
            };
            self.report_outcome(transaction.job.id, result);
        }
    }

    pub(super) fn current_stage(&self) -> ClientStage {
        match self.expected_replies.front() {
            Some(ExpectedReply::Greeting) => ClientStage::Greeting,
            Some(ExpectedReply::Ehlo | ExpectedReply::Helo) => ClientStage::Helo,
            Some(ExpectedReply::Rcpt) => ClientStage::Rcpt,
            Some(ExpectedReply::Data) => ClientStage::DataInit,
            Some(ExpectedReply::Chunk) => ClientStage::DataTransfer,
            Some(ExpectedReply::FinalDot) => ClientStage::DataDone,
            Some(ExpectedReply::StartTls) => ClientStage::StartTls,
            None if self.tls_handshake => ClientStage::StartTls,
            Some(ExpectedReply::Mail | ExpectedReply::Rset | ExpectedReply::Quit) | None => ClientStage::Mail,
        }
    }
}
