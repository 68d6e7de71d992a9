//! Session setup before the first job: greeting, EHLO or LHLO, STARTTLS, and the failure of each.

use std::mem;

use bytes::Bytes;
use waxwing_types::{Action, Monotonic, Reply, TlsLevel, TlsSession};

use super::{Actions, ClientPhase, ClientSession, ExpectedReply};
use crate::client::{JobResult, ServerCapabilities, TlsUnavailable};

impl ClientSession {
    pub(super) fn send_ehlo(&mut self, now: Monotonic, actions: &mut Actions) {
        let verb = if self.settings.lmtp { "LHLO" } else { "EHLO" };
        self.send_helo_command(verb, ExpectedReply::Ehlo, now, actions);
    }

    pub(super) fn send_helo_command(&mut self, verb: &str, expected: ExpectedReply, now: Monotonic, actions: &mut Actions) {
        actions.push(Action::Send(Bytes::from(format!("{verb} {}\r\n", self.settings.config.smtp_helo_name))));
        self.await_reply(now, expected);
    }

    /// Continues after an accepted EHLO: with STARTTLS if wanted, else with the first job.
    pub(super) fn ehlo_accepted(&mut self, now: Monotonic, actions: &mut Actions) {
        match (self.settings.tls, &self.tls) {
            (_, Some(_)) if self.settings.require_tls && !self.capabilities.require_tls => {
                self.refuse_without_tls(&TlsUnavailable::NoRequireTls, actions)
            }
            (TlsLevel::None, _) | (_, Some(_)) => self.start_first_job(now, actions),
            (_, None) if self.capabilities.starttls => {
                actions.push(Action::Send(Bytes::from_static(b"STARTTLS\r\n")));
                self.await_reply(now, ExpectedReply::StartTls);
            }
            (TlsLevel::May, None) => self.start_first_job(now, actions),
            (TlsLevel::Encrypt | TlsLevel::Verify, None) => self.refuse_without_tls(&TlsUnavailable::NotOffered, actions),
        }
    }

    /// Restarts the session after the handshake: all knowledge obtained before is discarded (RFC 3207 §4.2).
    pub(super) fn handle_secured(&mut self, now: Monotonic, tls: &TlsSession, actions: &mut Actions) {
        if !mem::take(&mut self.tls_handshake) || self.disconnect_reason.is_some() {
            return;
        }
        let verified = tls.verified;
        self.tls = Some(tls.clone());
        self.capabilities = ServerCapabilities::default();
        if self.settings.tls == TlsLevel::Verify && !verified {
            return self.refuse_without_tls(&TlsUnavailable::NotVerified, actions);
        }
        self.send_ehlo(now, actions);
    }

    pub(super) fn refuse_without_tls(&mut self, why: &TlsUnavailable, actions: &mut Actions) {
        actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
        self.end_all_jobs(&JobResult::TlsUnavailable(why.clone()));
    }

    pub(super) fn refuse_session(&mut self, reply: &Reply) {
        self.end_all_jobs(&JobResult::SessionRefused(reply.clone()));
    }

    pub(super) fn end_all_jobs(&mut self, result: &JobResult) {
        self.phase = ClientPhase::Closing;
        while let Some(transaction) = self.jobs.pop_front() {
            self.report_outcome(transaction.job.id, result.clone());
        }
    }
}
