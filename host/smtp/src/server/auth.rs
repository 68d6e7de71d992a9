//! AUTH (RFC 4954): framing of the messages of SASL mechanisms. The host interprets the messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use waxwing_types::{LineError, Reply};

use super::session::{Actions, ServerSession, closing_reply, is_negative};
use super::state::{PendingServerQuestion, ServerState, SessionProgress};
use super::{AuthStep, AuthStepAnswer, DropAnswer, ServerQuestion, ServerSettings, replies};
use crate::command::SaslResponse;

/// Line sent by the client within an AUTH exchange.
pub(super) enum AuthResponseLine {
    Response(SaslResponse),
    Cancel,
    NotBase64,
    TooLong,
}

pub(super) fn parse_response(line: &[u8], settings: &ServerSettings) -> AuthResponseLine {
    if line.len() + 2 > settings.auth_line_bytes_max {
        return AuthResponseLine::TooLong;
    }
    match line {
        b"*" => AuthResponseLine::Cancel,
        line => SaslResponse::from_base64(line).map_or(AuthResponseLine::NotBase64, AuthResponseLine::Response),
    }
}

impl ServerSession {
    pub(super) fn handle_auth(&mut self, mechanism: String, initial: Option<SaslResponse>, actions: &mut Actions) {
        if let Some(reply) = self.check_auth(&mechanism) {
            return self.refuse(&reply, actions);
        }
        let initial = initial.map(|SaslResponse(octets)| octets);
        self.ask(ServerQuestion::Auth(AuthStep::Begin(mechanism, initial)), PendingServerQuestion::Auth, actions);
    }

    fn check_auth(&self, mechanism: &str) -> Option<Reply> {
        let has = |list: &[String]| list.iter().any(|known| known.eq_ignore_ascii_case(mechanism));
        match self.progress {
            _ if !self.settings.has_auth() => Some(replies::NOT_IMPLEMENTED),
            _ if self.authenticated => Some(replies::ALREADY_AUTHENTICATED),
            SessionProgress::Transaction(_) | SessionProgress::ChunksRefused { .. } => Some(replies::IN_TRANSACTION),
            SessionProgress::NoHelo if self.settings.helo_required => Some(replies::HELO_REQUIRED),
            SessionProgress::NoHelo | SessionProgress::Greeted if has(self.mechanisms()) => None,
            SessionProgress::NoHelo | SessionProgress::Greeted if !self.tls && has(&self.settings.auth) => {
                Some(replies::AUTH_NEEDS_TLS)
            }
            SessionProgress::NoHelo | SessionProgress::Greeted => Some(replies::MECHANISM_UNKNOWN),
        }
    }

    pub(super) fn handle_auth_response(&mut self, line: Result<AuthResponseLine, LineError>, actions: &mut Actions) {
        let over = match line {
            Ok(AuthResponseLine::Response(SaslResponse(octets))) => {
                return self.ask(ServerQuestion::Auth(AuthStep::Response(octets)), PendingServerQuestion::Auth, actions);
            }
            Ok(AuthResponseLine::Cancel) => replies::AUTH_CANCELLED,
            Ok(AuthResponseLine::NotBase64) => replies::NOT_BASE64,
            Ok(AuthResponseLine::TooLong) | Err(LineError::TooLong) => replies::AUTH_LINE_TOO_LONG,
            Err(LineError::BareLineEnd) => replies::BARE_LINE_END,
        };
        self.ask(ServerQuestion::Auth(AuthStep::Cancel), PendingServerQuestion::AuthCancelled(over), actions);
    }

    pub(super) fn auth_answered(&mut self, answer: AuthStepAnswer, actions: &mut Actions) {
        match answer {
            AuthStepAnswer::Challenge(octets) => {
                self.send(&Reply::plain(334, BASE64.encode(octets)), actions);
                self.state = ServerState::AuthExchange;
            }
            AuthStepAnswer::Authenticated => {
                self.authenticated = true;
                self.send(&replies::AUTHENTICATED, actions);
            }
            AuthStepAnswer::Reject(reply) if is_negative(&reply) => self.refuse(&reply, actions),
            AuthStepAnswer::Reject(_) => self.refuse(&replies::AUTH_TEMPORARY_FAILURE, actions),
            AuthStepAnswer::Close(reply) => self.close(&closing_reply(reply), actions),
        }
    }

    pub(super) fn auth_cancelled(&mut self, reply: &Reply, answer: DropAnswer, actions: &mut Actions) {
        match answer {
            DropAnswer::Done => self.refuse(reply, actions),
            DropAnswer::Close(reply) => self.close(&closing_reply(reply), actions),
        }
    }
}
