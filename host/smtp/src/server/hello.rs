//! Start of a session, and restart after STARTTLS or XCLIENT: greeting, HELO, EHLO, STARTTLS, XCLIENT.

use waxwing_types::{Action, Reply, TlsSession};

use super::session::{Actions, Said, ServerSession, said};
use super::state::{Asked, Begins, Progress, State, Then};
use super::{Answer, Protocol, Question, replies};
use crate::command::XCLIENT_ATTRIBUTES;

/// Maximum number allowed in a value of LIMITS (RFC 9422 §4).
const LIMIT_VALUE_MAX: usize = 999_999;

impl ServerSession {
    pub(super) fn connect_answered(&mut self, tls: Option<TlsSession>, answer: Answer, actions: &mut Actions) {
        match (said(answer), tls) {
            (Said::Yes(reply), None) => self.greet(reply, actions),
            (Said::Yes(reply), Some(tls)) => {
                self.tls = true;
                self.ask(Question::Secured(tls), Asked::Secured(Begins::Greeting(reply)), actions);
            }
            (Said::No(reply) | Said::Close(reply), _) => self.close(&reply, actions),
        }
    }

    /// Handles the answer to [`ServerQuestion::Secured`]. A refusal has no command to reply to: after STARTTLS the
    /// client takes the refusal for the reply to EHLO.
    pub(super) fn secured_answered(&mut self, begins: Begins, answer: Answer, actions: &mut Actions) {
        match (said(answer), begins) {
            (Said::Yes(_), Begins::Greeting(reply)) => self.greet(reply, actions),
            (Said::Yes(_), Begins::Silently) => {}
            (Said::No(reply) | Said::Close(reply), _) => self.close(&reply, actions),
        }
    }

    fn greet(&mut self, reply: Option<Reply>, actions: &mut Actions) {
        match reply.filter(|r| r.code() == 220 && !r.text().is_empty()) {
            Some(reply) => self.send(&reply, actions),
            None => self.send(&Reply::plain(220, self.settings.greeting.clone()), actions),
        }
    }

    pub(super) fn helo(&mut self, name: String, esmtp: bool, actions: &mut Actions) {
        match self.progress {
            // RFC 5321 §4.1.4: EHLO within a transaction resets the transaction.
            Progress::Transaction(_) => self.ask(Question::Reset, Asked::Reset(Then::Helo { name, esmtp }), actions),
            Progress::NoHelo | Progress::Greeted | Progress::ChunksRefused { .. } => {
                if let Progress::ChunksRefused { .. } = self.progress {
                    self.progress = Progress::Greeted;
                }
                self.ask(Question::Helo { name, esmtp }, Asked::Helo { esmtp }, actions);
            }
        }
    }

    pub(super) fn helo_answered(&mut self, esmtp: bool, answer: Answer, actions: &mut Actions) {
        if let Answer::OkWithout(hidden) = answer {
            return self.greeted(esmtp, &hidden, actions);
        }
        match said(answer) {
            Said::Yes(_) => self.greeted(esmtp, &[], actions),
            Said::No(reply) => self.refuse(&reply, actions),
            Said::Close(reply) => self.close(&reply, actions),
        }
    }

    /// Replies to an accepted HELO or EHLO; `hidden` are keywords left out of the EHLO reply.
    fn greeted(&mut self, esmtp: bool, hidden: &[String], actions: &mut Actions) {
        self.progress = Progress::Greeted;
        let hostname = &self.settings.hostname;
        let reply = match esmtp {
            true => replies::with_lines(hostname, &self.extensions(), hidden),
            false => Reply::plain(250, hostname.clone()),
        };
        self.junk(replies::wire(&reply), actions);
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
    pub(super) fn start_tls(&mut self, actions: &mut Actions) {
        if !self.settings.starttls && !self.tls {
            return self.refuse(&replies::NOT_IMPLEMENTED, actions);
        }
        if self.tls {
            return self.refuse(&replies::TLS_ALREADY, actions);
        }
        match self.progress {
            Progress::Transaction(_) | Progress::ChunksRefused { .. } => self.refuse(&replies::IN_TRANSACTION, actions),
            Progress::NoHelo | Progress::Greeted => {
                self.send(&replies::START_TLS, actions);
                actions.push(Action::StartTls);
                self.state = State::Handshake;
            }
        }
    }

    pub(super) fn xclient(&mut self, attributes: Vec<(String, Option<String>)>, actions: &mut Actions) {
        match self.progress {
            Progress::Transaction(_) | Progress::ChunksRefused { .. } => self.refuse(&replies::IN_TRANSACTION, actions),
            Progress::NoHelo | Progress::Greeted => {
                let login = attributes.iter().any(|(name, value)| name == "LOGIN" && value.is_some());
                self.ask(Question::Xclient(attributes), Asked::Xclient { login }, actions);
            }
        }
    }

    /// Restarts the session for another client. Input behind the command stays valid: it came from the same proxy.
    pub(super) fn xclient_answered(&mut self, login: bool, answer: Answer, actions: &mut Actions) {
        match said(answer) {
            Said::Yes(reply) => {
                self.progress = Progress::NoHelo;
                self.authenticated = login;
                self.greet(reply, actions);
            }
            Said::No(reply) => self.refuse(&reply, actions),
            Said::Close(reply) => self.close(&reply, actions),
        }
    }
}
