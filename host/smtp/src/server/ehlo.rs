//! Start of a session, and restart after STARTTLS or XCLIENT: greeting, HELO, EHLO, STARTTLS, XCLIENT.

use waxwing_types::{Action, Reply, TlsSession};

use super::session::{Actions, ReplyDecision, ServerSession, reply_decision};
use super::state::{AfterReset, PendingServerQuestion, ServerState, SessionProgress, TlsStart};
use super::{Protocol, ServerQuestion, StepAnswer, replies};
use crate::command::XCLIENT_ATTRIBUTES;

/// Maximum number allowed in a value of LIMITS (RFC 9422 §4).
const LIMIT_VALUE_MAX: usize = 999_999;

impl ServerSession {
    pub(super) fn connect_answered(&mut self, tls: Option<TlsSession>, answer: StepAnswer, actions: &mut Actions) {
        match (reply_decision(answer), tls) {
            (ReplyDecision::Accept(reply), None) => self.send_greeting(reply, actions),
            (ReplyDecision::Accept(reply), Some(tls)) => {
                self.tls = true;
                self.ask(ServerQuestion::Secured(tls), PendingServerQuestion::Secured(TlsStart::Implicit(reply)), actions);
            }
            (ReplyDecision::Reject(reply) | ReplyDecision::Close(reply), _) => self.close(&reply, actions),
        }
    }

    /// Handles the answer to [`ServerQuestion::Secured`]. A refusal has no command to reply to: after STARTTLS the
    /// client takes the refusal for the reply to EHLO.
    pub(super) fn secured_answered(&mut self, begins: TlsStart, answer: StepAnswer, actions: &mut Actions) {
        match (reply_decision(answer), begins) {
            (ReplyDecision::Accept(_), TlsStart::Implicit(reply)) => self.send_greeting(reply, actions),
            (ReplyDecision::Accept(_), TlsStart::StartTls) => {}
            (ReplyDecision::Reject(reply) | ReplyDecision::Close(reply), _) => self.close(&reply, actions),
        }
    }

    fn send_greeting(&mut self, reply: Option<Reply>, actions: &mut Actions) {
        match reply.filter(|r| r.code() == 220 && !r.text().is_empty()) {
            Some(reply) => self.send(&reply, actions),
            None => self.send(&Reply::plain(220, self.settings.greeting.clone()), actions),
        }
    }

    pub(super) fn handle_helo(&mut self, name: String, esmtp: bool, actions: &mut Actions) {
        match self.progress {
            // RFC 5321 §4.1.4: EHLO within a transaction resets the transaction.
            SessionProgress::Transaction(_) => {
                self.ask(ServerQuestion::Reset, PendingServerQuestion::Reset(AfterReset::Helo { name, esmtp }), actions)
            }
            SessionProgress::NoHelo | SessionProgress::Greeted | SessionProgress::ChunksRefused { .. } => {
                if let SessionProgress::ChunksRefused { .. } = self.progress {
                    self.progress = SessionProgress::Greeted;
                }
                self.ask(ServerQuestion::Helo { name, esmtp }, PendingServerQuestion::Helo { esmtp }, actions);
            }
        }
    }

    pub(super) fn helo_answered(&mut self, esmtp: bool, answer: StepAnswer, actions: &mut Actions) {
        if let StepAnswer::OkWithoutExtensions(hidden) = answer {
            return self.helo_accepted(esmtp, &hidden, actions);
        }
        match reply_decision(answer) {
            ReplyDecision::Accept(_) => self.helo_accepted(esmtp, &[], actions),
            ReplyDecision::Reject(reply) => self.refuse(&reply, actions),
            ReplyDecision::Close(reply) => self.close(&reply, actions),
        }
    }

    /// Replies to an accepted HELO or EHLO; `hidden` are keywords left out of the EHLO reply.
    fn helo_accepted(&mut self, esmtp: bool, hidden: &[String], actions: &mut Actions) {
        self.progress = SessionProgress::Greeted;
        let hostname = &self.settings.hostname;
        let reply = match esmtp {
            true => replies::ehlo_reply(hostname, &self.extensions(), hidden),
            false => Reply::plain(250, hostname.clone()),
        };
        self.send_junk_reply(replies::encode(&reply), actions);
    }

    /// Extensions for the EHLO reply (RFC 5321 §4.1.1.1), limited to extensions usable in the present state of the
    /// session.
    fn extensions(&self) -> Vec<String> {
        let settings = &self.settings;
        let mechanisms = if self.authenticated { &[] } else { self.mechanisms() };
        let mut lines = vec!["PIPELINING".to_owned(), format!("SIZE {}", settings.message_size_max)];
        lines.extend(["8BITMIME", "ENHANCEDSTATUSCODES"].map(str::to_owned));
        let mut offer = |offered: bool, line: &dyn Fn() -> String| {
            if offered {
                lines.push(line());
            }
        };
        offer(settings.starttls && !self.tls, &|| "STARTTLS".to_owned());
        offer(!mechanisms.is_empty(), &|| format!("AUTH {}", mechanisms.join(" ")));
        offer(settings.dsn, &|| "DSN".to_owned());
        offer(settings.chunking, &|| "CHUNKING".to_owned());
        offer(settings.chunking, &|| "BINARYMIME".to_owned());
        offer(settings.smtputf8, &|| "SMTPUTF8".to_owned());
        offer(settings.requiretls && self.tls, &|| "REQUIRETLS".to_owned());
        offer(settings.prdr && settings.protocol == Protocol::Smtp, &|| "PRDR".to_owned());
        let limit = settings.recipients_max;
        offer((1..=LIMIT_VALUE_MAX).contains(&limit), &|| format!("LIMITS RCPTMAX={limit}"));
        offer(settings.xclient, &|| format!("XCLIENT {}", XCLIENT_ATTRIBUTES.join(" ")));
        lines.push("HELP".to_owned());
        lines
    }

    /// Mechanisms accepted by AUTH in the present state of the connection.
    pub(super) fn mechanisms(&self) -> &[String] {
        match self.tls {
            true => &self.settings.auth,
            false if self.settings.tls_required => &[],
            false => &self.settings.auth_plaintext,
        }
    }

    /// Handles STARTTLS (RFC 3207 §4). The session loop performs the handshake next.
    pub(super) fn handle_starttls(&mut self, actions: &mut Actions) {
        if !self.settings.starttls && !self.tls {
            return self.refuse(&replies::NOT_IMPLEMENTED, actions);
        }
        if self.tls {
            return self.refuse(&replies::ALREADY_ENCRYPTED, actions);
        }
        match self.progress {
            SessionProgress::Transaction(_) | SessionProgress::ChunksRefused { .. } => {
                self.refuse(&replies::IN_TRANSACTION, actions)
            }
            SessionProgress::NoHelo | SessionProgress::Greeted => {
                self.send(&replies::START_TLS, actions);
                actions.push(Action::StartTls);
                self.state = ServerState::Handshake;
            }
        }
    }

    pub(super) fn handle_xclient(&mut self, attributes: Vec<(String, Option<String>)>, actions: &mut Actions) {
        match self.progress {
            SessionProgress::Transaction(_) | SessionProgress::ChunksRefused { .. } => {
                self.refuse(&replies::IN_TRANSACTION, actions)
            }
            SessionProgress::NoHelo | SessionProgress::Greeted => {
                let login = attributes.iter().any(|(name, value)| name == "LOGIN" && value.is_some());
                self.ask(ServerQuestion::Xclient(attributes), PendingServerQuestion::Xclient { login }, actions);
            }
        }
    }

    /// Restarts the session for another client. Input behind the command stays valid: it came from the same proxy.
    pub(super) fn xclient_answered(&mut self, login: bool, answer: StepAnswer, actions: &mut Actions) {
        match reply_decision(answer) {
            ReplyDecision::Accept(reply) => {
                self.progress = SessionProgress::NoHelo;
                self.authenticated = login;
                self.send_greeting(reply, actions);
            }
            ReplyDecision::Reject(reply) => self.refuse(&reply, actions),
            ReplyDecision::Close(reply) => self.close(&reply, actions),
        }
    }
}
