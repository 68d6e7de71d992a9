//! AUTH (RFC 4954): framing of the messages of SASL mechanisms. The host interprets the messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use waxwing_types::{LineError, Reply};

use super::session::{Actions, ServerSession, closing, is_negative};
use super::state::{Asked, Progress, State};
use super::{Answer, AuthStep, Question, ServerSettings, replies};
use crate::command::Response;

/// Line sent by the client within an AUTH exchange.
pub(super) enum ResponseLine {
    Response(Response),
    Cancel,
    NotBase64,
    TooLong,
}

pub(super) fn read(line: &[u8], settings: &ServerSettings) -> ResponseLine {
    if line.len() + 2 > settings.auth_line_bytes_max {
        return ResponseLine::TooLong;
    }
    match line {
        b"*" => ResponseLine::Cancel,
        line => Response::read(line).map_or(ResponseLine::NotBase64, ResponseLine::Response),
    }
}

impl ServerSession {
    pub(super) fn auth(&mut self, mechanism: String, initial: Option<Response>, actions: &mut Actions) {
        if let Some(reply) = self.auth_fault(&mechanism) {
            return self.refuse(&reply, actions);
        }
        let initial = initial.map(|Response(octets)| octets);
        self.ask(Question::Auth(AuthStep::Begin(mechanism, initial)), Asked::Auth, actions);
    }

    fn auth_fault(&self, mechanism: &str) -> Option<Reply> {
        let has = |list: &[String]| list.iter().any(|known| known.eq_ignore_ascii_case(mechanism));
        match self.progress {
            _ if !self.settings.has_auth() => Some(replies::NOT_IMPLEMENTED),
            _ if self.authenticated => Some(replies::AUTHENTICATED_ALREADY),
            Progress::Transaction(_) | Progress::ChunksRefused { .. } => Some(replies::IN_TRANSACTION),
            Progress::NoHelo if self.settings.helo_required => Some(replies::HELO_FIRST),
            Progress::NoHelo | Progress::Greeted if has(self.mechanisms()) => None,
            Progress::NoHelo | Progress::Greeted if !self.tls && has(&self.settings.auth) => Some(replies::AUTH_NEEDS_TLS),
            Progress::NoHelo | Progress::Greeted => Some(replies::MECHANISM_UNKNOWN),
        }
    }

    pub(super) fn response(&mut self, line: Result<ResponseLine, LineError>, actions: &mut Actions) {
        let over = match line {
            Ok(ResponseLine::Response(Response(octets))) => {
                return self.ask(Question::Auth(AuthStep::Response(octets)), Asked::Auth, actions);
            }
            Ok(ResponseLine::Cancel) => replies::AUTH_CANCELLED,
            Ok(ResponseLine::NotBase64) => replies::NOT_BASE64,
            Ok(ResponseLine::TooLong) | Err(LineError::TooLong) => replies::AUTH_LINE_TOO_LONG,
            Err(LineError::BareLineEnd) => replies::BARE_LINE_END,
        };
        self.ask(Question::Auth(AuthStep::Cancel), Asked::AuthOver(over), actions);
    }

    pub(super) fn auth_answered(&mut self, answer: Answer, actions: &mut Actions) {
        match answer {
            Answer::Challenge(octets) => {
                self.send(&Reply::plain(334, BASE64.encode(octets)), actions);
                self.state = State::Exchange;
            }
            Answer::Authenticated => {
                self.authenticated = true;
                self.send(&replies::AUTHENTICATED, actions);
            }
            Answer::Reply(reply) if is_negative(&reply) => self.refuse(&reply, actions),
            Answer::Close(reply) => self.close(&closing(reply), actions),
            // Answers not valid for AUTH: authentication must never succeed by mistake.
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Done
            | Answer::Reply(_)
            | Answer::Committed(_)
            | Answer::CommittedEach(_)
            | Answer::Discarded(_) => self.refuse(&replies::AUTH_TROUBLE, actions),
        }
    }

    pub(super) fn auth_over(&mut self, reply: &Reply, answer: Answer, actions: &mut Actions) {
        if let Answer::Close(reply) = answer {
            return self.close(&closing(reply), actions);
        }
        self.refuse(reply, actions);
    }
}
