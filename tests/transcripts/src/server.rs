//! Our server's side: its settings and its scripted host.

use std::sync::Arc;
use std::time::Duration;

use waxwing_smtp::server::{Answer, Question};
use waxwing_smtp::{ReplyReader, ServerSession, ServerSettings};
use waxwing_types::Reply;

use crate::run::Side;
use crate::script::{Transcript, show};

/// Built from a transcript's `set:` and `host:` lines.
#[derive(Clone, Debug)]
pub struct ServerStage {
    settings: Arc<ServerSettings>,
    /// Question and answer.
    rules: Vec<(String, Answer)>,
    message: Vec<u8>,
}

impl ServerStage {
    /// Reads the stage. The error says which line is wrong.
    pub fn new(transcript: &Transcript) -> Result<Self, String> {
        let mut settings = ServerSettings::new("mx.example");
        let mut rules = Vec::new();
        for (key, rest) in &transcript.stage {
            match key.as_str() {
                "set:" => set(&mut settings, rest)?,
                "host:" => rules.push(rule(rest)?),
                _ => return Err(format!("not a line for a server: {key} {rest}")),
            }
        }
        Ok(Self { settings: Arc::new(settings), rules, message: Vec::new() })
    }

    fn said(&self, question: &str, usual: Answer) -> Answer {
        self.rules.iter().find(|(asked, _)| asked == question).map_or(usual, |(_, answer)| answer.clone())
    }
}

fn set(settings: &mut ServerSettings, text: &str) -> Result<(), String> {
    let wrong = || format!("not a setting: {text}");
    let (key, value) = text.split_once(' ').ok_or_else(wrong)?;
    let number: u32 = value.parse().map_err(|_| wrong())?;
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
        _ => return Err(wrong()),
    }
    Ok(())
}

fn rule(text: &str) -> Result<(String, Answer), String> {
    let (question, answer) = text.split_once(" -> ").ok_or_else(|| format!("no `->` in {text}"))?;
    let answer = match answer.split_once(' ') {
        _ if answer == "yes" => Answer::Ok,
        Some(("close", rest)) => Answer::Close(reply(rest)?),
        Some(("discard", rest)) => Answer::Discarded(reply(rest)?),
        Some(("commit", rest)) => Answer::Committed(reply(rest)?),
        Some(_) | None => Answer::Reply(reply(answer)?),
    };
    Ok((question.to_owned(), answer))
}

fn reply(text: &str) -> Result<Reply, String> {
    let line = format!("{text}\r\n");
    match ReplyReader::new(1000, 10).next(&mut line.as_bytes()) {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(_)) | None => Err(format!("not a reply: {text}")),
    }
}

impl Side for ServerStage {
    type Session = ServerSession;

    fn session(&self) -> ServerSession {
        ServerSession::new(Arc::clone(&self.settings))
    }

    fn answer(&mut self, question: Question, lines: &mut Vec<String>) -> Answer {
        match question {
            Question::Connect => self.said("CONNECT", Answer::Ok),
            Question::Helo { name, .. } => self.said(&format!("HELO {name}"), Answer::Ok),
            Question::Mail { sender, .. } => self.said(format!("MAIL {sender}").trim_end(), Answer::Ok),
            Question::Rcpt { recipient, .. } => self.said(&format!("RCPT {recipient}"), Answer::Ok),
            Question::Secured(_) | Question::Auth(_) | Question::Xclient(_) => Answer::Ok,
            Question::Command { verb, .. } => self.said(&format!("COMMAND {verb}"), Answer::Ok),
            Question::Data => self.said("DATA", Answer::Ok),
            Question::EndOfData => {
                let message = std::mem::take(&mut self.message);
                let shown = message.split_inclusive(|octet| *octet == b'\n').map(|line| format!("M> {}", show(line)));
                lines.extend(shown);
                lines.push("M.".to_owned());
                self.said("END", Answer::Committed(Reply::fixed(250, (2, 0, 0), "Ok: queued")))
            }
            Question::Reset => {
                self.message.clear();
                lines.push("reset".to_owned());
                Answer::Done
            }
        }
    }

    fn body(&mut self, octets: &[u8]) {
        self.message.extend_from_slice(octets);
    }
}
