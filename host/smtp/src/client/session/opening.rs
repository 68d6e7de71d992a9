//! Session setup before the first job: greeting, EHLO or LHLO, STARTTLS, and the failure of each.

use std::mem;

use bytes::Bytes;
use waxwing_types::{Action, Monotonic, Reply, TlsLevel, TlsSession};

use super::{Actions, Awaited, ClientSession, Phase};
use crate::client::{JobResult, NoTls, ServerInfo};

impl ClientSession {
    pub(super) fn hello(&mut self, now: Monotonic, actions: &mut Actions) {
        let verb = if self.settings.lmtp { "LHLO" } else { "EHLO" };
        self.say_hello(verb, Awaited::Ehlo, now, actions);
    }

    pub(super) fn say_hello(&mut self, verb: &str, awaited: Awaited, now: Monotonic, actions: &mut Actions) {
        actions.push(Action::Send(Bytes::from(format!("{verb} {}\r\n", self.settings.helo_name))));
        self.await_reply(now, awaited);
    }

    /// Continues after an accepted EHLO: with STARTTLS if wanted, else with the first job.
    pub(super) fn greeted(&mut self, now: Monotonic, actions: &mut Actions) {
        match (self.settings.tls, &self.tls) {
            (_, Some(_)) if self.settings.require_tls && !self.server.require_tls => self.no_tls(&NoTls::NoRequireTls, actions),
            (TlsLevel::None, _) | (_, Some(_)) => self.ready(now, actions),
            (_, None) if self.server.starttls => {
                actions.push(Action::Send(Bytes::from_static(b"STARTTLS\r\n")));
                self.await_reply(now, Awaited::StartTls);
            }
            (TlsLevel::May, None) => self.ready(now, actions),
            (TlsLevel::Encrypt | TlsLevel::Verify, None) => self.no_tls(&NoTls::NotOffered, actions),
        }
    }

    /// Restarts the session after the handshake: all knowledge obtained before is discarded (RFC 3207 §4.2).
    pub(super) fn secured(&mut self, now: Monotonic, tls: &TlsSession, actions: &mut Actions) {
        if !mem::take(&mut self.shaking_hands) || self.doomed.is_some() {
            return;
        }
        let verified = tls.verified;
        self.tls = Some(tls.clone());
        self.server = ServerInfo::default();
        if self.settings.tls == TlsLevel::Verify && !verified {
            return self.no_tls(&NoTls::NotVerified, actions);
        }
        self.hello(now, actions);
    }

    pub(super) fn no_tls(&mut self, why: &NoTls, actions: &mut Actions) {
        actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
        self.refuse_all(&JobResult::NoTls(why.clone()));
    }

    pub(super) fn refuse_session(&mut self, reply: &Reply) {
        self.refuse_all(&JobResult::RefusedSession(reply.clone()));
    }

    pub(super) fn refuse_all(&mut self, result: &JobResult) {
        self.phase = Phase::Ending;
        while let Some(transaction) = self.jobs.pop_front() {
            self.tell(transaction.job.id, result.clone());
        }
    }
}
