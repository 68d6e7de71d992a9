//! Scripted SMTP server: settings and host of the server session.

use std::sync::Arc;
use std::time::Duration;

use waxwing_smtp::server::{
    AuthStep, AuthStepAnswer, BareNewline, DropAnswer, MailOptions, MessageAnswer, Protocol, RcptOptions, ServerAnswer,
    ServerQuestion, StepAnswer,
};
use waxwing_smtp::{ReplyReader, ServerSession, ServerSettings};
use waxwing_types::Reply;

use crate::runner::ScriptedSession;
use crate::script::{Transcript, escape_bytes};

/// Server script, built from the `set:` and `host:` lines of a transcript.
#[derive(Clone, Debug)]
pub struct ScriptedServer {
    settings: Arc<ServerSettings>,
    /// Questions and scripted answers.
    rules: Vec<(String, ServerAnswer)>,
    message: Vec<u8>,
}

impl ScriptedServer {
    /// Reads the setup of a transcript. The error names the invalid line.
    pub fn new(transcript: &Transcript) -> Result<Self, String> {
        let mut settings = ServerSettings::new("mx.example");
        let mut rules = Vec::new();
        for (key, rest) in &transcript.setup {
            match key.as_str() {
                "set:" => apply_setting(&mut settings, rest)?,
                "host:" => rules.push(rule(rest)?),
                _ => return Err(format!("not a line for a server: {key} {rest}")),
            }
        }
        Ok(Self { settings: Arc::new(settings), rules, message: Vec::new() })
    }

    fn scripted_answer(&self, question: &str, usual: ServerAnswer) -> ServerAnswer {
        self.rules.iter().find(|(asked, _)| asked == question).map_or(usual, |(_, answer)| answer.clone())
    }
}

fn apply_setting(settings: &mut ServerSettings, text: &str) -> Result<(), String> {
    let wrong = || format!("not a setting: {text}");
    let (key, value) = text.split_once(' ').ok_or_else(wrong)?;
    let words = || value.split(' ').map(str::to_owned).collect();
    match (key, value) {
        ("protocol", "lmtp") => settings.protocol = Protocol::Lmtp,
        ("auth", _) => settings.auth = words(),
        ("auth_plaintext", _) => settings.auth_plaintext = words(),
        ("bare_newline", "normalize") => settings.bare_newline = BareNewline::Normalize,
        ("bare_newline", "no") => settings.bare_newline = BareNewline::No,
        _ => return set_number(settings, key, value.parse().map_err(|_| wrong())?).ok_or_else(wrong),
    }
    Ok(())
}

fn set_number(settings: &mut ServerSettings, key: &str, number: u32) -> Option<()> {
    let (size, time) = (number as usize, Duration::from_secs(number.into()));
    match key {
        "message_size_max" => settings.message_size_max = number.into(),
        "refused_bytes_max" => settings.refused_bytes_max = number.into(),
        "recipients_max" => settings.recipients_max = size,
        "recipients_overshoot_max" => settings.recipients_overshoot_max = size,
        "command_line_bytes_max" => settings.command_line_bytes_max = size,
        "errors_max" => settings.errors_max = number,
        "junk_commands_max" => settings.junk_commands_max = number,
        "command_idle" => settings.command_idle = time,
        "data_idle" => settings.data_idle = time,
        "data_total" => settings.data_total = time,
        "helo_required" => settings.helo_required = number != 0,
        "auth_line_bytes_max" => settings.auth_line_bytes_max = size,
        "auth_required" => settings.auth_required = number != 0,
        "starttls" => settings.starttls = number != 0,
        "tls_required" => settings.tls_required = number != 0,
        "xclient" => settings.xclient = number != 0,
        "smtputf8" => settings.smtputf8 = number != 0,
        "chunking" => settings.chunking = number != 0,
        "dsn" => settings.dsn = number != 0,
        "requiretls" => settings.requiretls = number != 0,
        "prdr" => settings.prdr = number != 0,
        _ => return None,
    }
    Some(())
}

fn rule(text: &str) -> Result<(String, ServerAnswer), String> {
    let (question, answer) = text.split_once(" -> ").ok_or_else(|| format!("no `->` in {text}"))?;
    let answer = match answer.split_once(' ') {
        _ if answer == "yes" => ServerAnswer::Step(StepAnswer::Ok),
        _ if answer == "authenticated" => ServerAnswer::Auth(AuthStepAnswer::Authenticated),
        Some(("challenge", rest)) => ServerAnswer::Auth(AuthStepAnswer::Challenge(rest.as_bytes().to_vec())),
        _ if answer == "challenge" => ServerAnswer::Auth(AuthStepAnswer::Challenge(Vec::new())),
        Some(("each", rest)) => {
            ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(rest.split(" | ").map(reply).collect::<Result<_, _>>()?))
        }
        Some(("close", rest)) => close_answer(question, reply(rest)?),
        Some(("discard", rest)) => ServerAnswer::Message(MessageAnswer::Discarded(reply(rest)?)),
        Some(("commit", rest)) => ServerAnswer::Message(MessageAnswer::Committed(reply(rest)?)),
        Some(_) | None => reply_answer(question, reply(answer)?),
    };
    Ok((question.to_owned(), answer))
}

/// Reply as an answer of the kind that the question has.
fn reply_answer(question: &str, reply: Reply) -> ServerAnswer {
    match question.split(' ').next() {
        Some("AUTH") => ServerAnswer::Auth(AuthStepAnswer::Reject(reply)),
        Some("END") => ServerAnswer::Message(MessageAnswer::Reject(reply)),
        Some(_) | None => ServerAnswer::Step(StepAnswer::Reply(reply)),
    }
}

/// As [`reply_answer`], with the end of the connection.
fn close_answer(question: &str, reply: Reply) -> ServerAnswer {
    match question.split(' ').next() {
        Some("AUTH") if question == "AUTH cancel" => ServerAnswer::Drop(DropAnswer::Close(reply)),
        Some("AUTH") => ServerAnswer::Auth(AuthStepAnswer::Close(reply)),
        Some("END") => ServerAnswer::Message(MessageAnswer::Close(reply)),
        Some(_) | None => ServerAnswer::Step(StepAnswer::Close(reply)),
    }
}

/// Output line for MAIL options; `None` for default options.
fn format_mail(options: MailOptions) -> Option<String> {
    let MailOptions { body, smtputf8, require_tls, ret, envid, auth, prdr: each_recipient } = options.clone();
    let mut words = format!("Q: MAIL {body:?}");
    let flags = [(smtputf8, " SMTPUTF8"), (require_tls, " REQUIRETLS"), (each_recipient, " PRDR")];
    flags.iter().filter(|(said, _)| *said).for_each(|(_, word)| words.push_str(word));
    words.extend(ret.map(|ret| format!(" RET={ret:?}")));
    words.extend(envid.map(|envid| format!(" ENVID={envid}")));
    words.extend(auth.map(|auth| format!(" AUTH={auth}")));
    (options != MailOptions::default()).then_some(words)
}

fn format_rcpt(options: RcptOptions) -> Option<String> {
    let mut words = format!("Q: RCPT {:?}", options.notify);
    words.extend(options.orcpt.as_ref().map(|original| format!(" ORCPT={original}")));
    (options != RcptOptions::default()).then_some(words)
}

fn format_auth(step: &AuthStep) -> String {
    match step {
        AuthStep::Begin(mechanism, None) => format!("AUTH {mechanism}"),
        AuthStep::Begin(mechanism, Some(initial)) => format!("AUTH {mechanism} \"{}\"", escape_bytes(initial)),
        AuthStep::Response(octets) => format!("AUTH \"{}\"", escape_bytes(octets)),
        AuthStep::Cancel => "AUTH cancel".to_owned(),
    }
}

fn reply(text: &str) -> Result<Reply, String> {
    let line = format!("{text}\r\n");
    match ReplyReader::new(1000, 10).next(&mut line.as_bytes()) {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(_)) | None => Err(format!("not a reply: {text}")),
    }
}

impl ScriptedSession for ScriptedServer {
    type Session = ServerSession;

    fn session(&self) -> ServerSession {
        ServerSession::new(Arc::clone(&self.settings))
    }

    fn answer(&mut self, question: ServerQuestion, lines: &mut Vec<String>) -> ServerAnswer {
        match question {
            ServerQuestion::Connect => self.scripted_answer("CONNECT", ServerAnswer::Step(StepAnswer::Ok)),
            ServerQuestion::Helo { name, .. } => {
                self.scripted_answer(&format!("HELO {name}"), ServerAnswer::Step(StepAnswer::Ok))
            }
            ServerQuestion::Mail { sender, options, .. } => {
                lines.extend(format_mail(options));
                self.scripted_answer(format!("MAIL {sender}").trim_end(), ServerAnswer::Step(StepAnswer::Ok))
            }
            ServerQuestion::Rcpt { recipient, options, .. } => {
                lines.extend(format_rcpt(options));
                self.scripted_answer(&format!("RCPT {recipient}"), ServerAnswer::Step(StepAnswer::Ok))
            }
            ServerQuestion::Secured(_) => {
                lines.push("secured".to_owned());
                self.scripted_answer("SECURED", ServerAnswer::Step(StepAnswer::Ok))
            }
            ServerQuestion::Auth(step) => {
                let step = format_auth(&step);
                lines.push(format!("Q: {step}"));
                self.scripted_answer(
                    &step,
                    ServerAnswer::Auth(AuthStepAnswer::Reject(Reply::fixed(
                        535,
                        (5, 7, 8),
                        "Authentication credentials invalid",
                    ))),
                )
            }
            ServerQuestion::Xclient(attributes) => {
                let word = |(name, value): &(String, Option<String>)| format!(" {name}={}", value.as_deref().unwrap_or("?"));
                let attributes: String = attributes.iter().map(word).collect();
                lines.push(format!("Q: XCLIENT{attributes}"));
                self.scripted_answer(&format!("XCLIENT{attributes}"), ServerAnswer::Step(StepAnswer::Ok))
            }
            ServerQuestion::Command { verb, .. } => {
                self.scripted_answer(&format!("COMMAND {verb}"), ServerAnswer::Step(StepAnswer::Ok))
            }
            ServerQuestion::Data => self.scripted_answer("DATA", ServerAnswer::Step(StepAnswer::Ok)),
            ServerQuestion::EndOfData => {
                let message = std::mem::take(&mut self.message);
                let shown = message.split_inclusive(|octet| *octet == b'\n').map(|line| format!("M> {}", escape_bytes(line)));
                lines.extend(shown);
                lines.push("M.".to_owned());
                self.scripted_answer(
                    "END",
                    ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "Ok: queued"))),
                )
            }
            ServerQuestion::Reset => {
                self.message.clear();
                lines.push("reset".to_owned());
                ServerAnswer::Drop(DropAnswer::Done)
            }
        }
    }

    fn body(&mut self, octets: &[u8]) {
        self.message.extend_from_slice(octets);
    }
}
