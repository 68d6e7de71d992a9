//! Scripted SMTP client: delivery jobs for the client session.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_smtp::client::{ClientAnswer, ClientJob, ClientQuestion, JobOutcome, JobResult, TlsUnavailable};
use waxwing_smtp::{ClientSession, ClientSettings, Command};
use waxwing_types::{BodyType, DsnReturn, Notify, Recipient, ReversePath, TlsLevel};

use crate::runner::ScriptedSession;
use crate::script::{Transcript, unescape};

/// Client script, built from the `job:` and `B:` lines of a transcript.
#[derive(Clone, Debug, Default)]
pub struct ScriptedClient {
    pending: VecDeque<ScriptedJob>,
    started: Vec<ScriptedJob>,
    tls: TlsLevel,
    lmtp: bool,
}

/// Delivery job of the script.
#[derive(Clone, Debug)]
struct ScriptedJob {
    job: ClientJob,
    /// Job starts only in an idle session.
    only_when_idle: bool,
    /// Chunks of the message; `None` stands for a read error.
    chunks: VecDeque<Option<Vec<u8>>>,
}

impl ScriptedClient {
    /// Reads the setup of a transcript. The error names the invalid line.
    pub fn new(transcript: &Transcript) -> Result<Self, String> {
        let mut waiting: VecDeque<ScriptedJob> = VecDeque::new();
        let (mut tls, mut lmtp) = (TlsLevel::None, false);
        for (key, rest) in &transcript.setup {
            match (key.as_str(), rest.as_str()) {
                ("job:", _) => {
                    waiting.push_back(read_job(rest)?);
                    continue;
                }
                ("set:", "lmtp") => lmtp = true,
                ("set:", "tls may") => tls = TlsLevel::May,
                ("set:", "tls encrypt") => tls = TlsLevel::Encrypt,
                ("set:", "tls verify") => tls = TlsLevel::Verify,
                (_, _) => {}
            }
            if key == "set:" {
                continue;
            }
            let given = waiting.back_mut().ok_or("no `job:` line yet")?;
            match key.as_str() {
                "B" => given.chunks.push_back(Some(Vec::new())),
                "B:" => given.append(format!("{rest}\r\n").as_bytes()),
                "B>" => given.append(&unescape(rest)?),
                "abort" => given.chunks.push_back(None),
                _ => return Err(format!("not a line for a client: {key} {rest}")),
            }
        }
        Ok(Self { pending: waiting, started: Vec::new(), tls, lmtp })
    }

    fn next(&mut self, idle: bool) -> ClientAnswer {
        match self.pending.front() {
            None if idle => ClientAnswer::Quit,
            None => ClientAnswer::NoJob,
            Some(given) if given.only_when_idle && !idle => ClientAnswer::NoJob,
            Some(_) => match self.pending.pop_front() {
                Some(given) => {
                    let job = given.job.clone();
                    self.started.push(given);
                    ClientAnswer::Job(job)
                }
                None => ClientAnswer::Quit,
            },
        }
    }

    fn next_chunk(&mut self, job: u64) -> ClientAnswer {
        let Some(given) = self.started.iter_mut().find(|given| given.job.id == job) else { return ClientAnswer::Abort };
        match given.chunks.pop_front() {
            None => ClientAnswer::Body { chunk: Bytes::new(), last: true },
            Some(None) => ClientAnswer::Abort,
            Some(Some(piece)) => ClientAnswer::Body { chunk: Bytes::from(piece), last: given.chunks.is_empty() },
        }
    }
}

impl ScriptedJob {
    fn append(&mut self, octets: &[u8]) {
        match self.chunks.back_mut() {
            Some(Some(piece)) => piece.extend_from_slice(octets),
            Some(None) | None => self.chunks.push_back(Some(octets.to_vec())),
        }
    }
}

fn read_job(text: &str) -> Result<ScriptedJob, String> {
    let wrong = || format!("not a job: {text}");
    let mut words = text.split(' ');
    let id = words.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let path = |word: &str| match Command::parse(format!("MAIL FROM:{word}").as_bytes()) {
        Ok(Command::Mail { sender, .. }) => Ok(sender),
        Ok(_) | Err(_) => Err(wrong()),
    };
    let sender = path(words.next().ok_or_else(wrong)?)?;
    let mut job = ClientJob::new(id, sender, Vec::new(), 100);
    let mut later = false;
    for word in words {
        match word.split_once('=') {
            Some((key, value)) if !word.starts_with('<') => set_parameter(&mut job, key, value).ok_or_else(wrong)?,
            Some(_) | None => match word {
                "8bit" => job.body = BodyType::EightBitMime,
                "binary" => job.body = BodyType::BinaryMime,
                "utf8" => job.smtputf8 = true,
                "requiretls" => job.require_tls = true,
                "probe" => job.probe = true,
                "later" => later = true,
                _ => match path(word)? {
                    ReversePath::Address(address) => job.recipients.push(Recipient::new(address)),
                    ReversePath::Null => return Err(wrong()),
                },
            },
        }
    }
    Ok(ScriptedJob { job, only_when_idle: later, chunks: VecDeque::new() })
}

/// Parameters `notify=` and `orcpt=` apply to the preceding recipient.
fn set_parameter(job: &mut ClientJob, key: &str, value: &str) -> Option<()> {
    match key {
        "size" => job.size = value.parse().ok()?,
        "ret" => job.ret = Some(if value == "full" { DsnReturn::Full } else { DsnReturn::Headers }),
        "envid" => job.envid = Some(value.to_owned()),
        "orcpt" => job.recipients.last_mut()?.original = Some(value.to_owned()),
        "notify" => {
            let has = |word| value.split(',').any(|w| w == word);
            job.recipients.last_mut()?.notify = match value {
                "never" => Notify::Never,
                _ => Notify::On { success: has("success"), failure: has("failure"), delay: has("delay") },
            };
        }
        _ => return None,
    }
    Some(())
}

fn format_outcome(outcome: JobOutcome, lines: &mut Vec<String>) {
    let job = outcome.job;
    match outcome.result {
        JobResult::Replied(replies) => lines.extend(replies.iter().map(|reply| format!("R: {job} {reply}"))),
        JobResult::Unsupported(missing) => lines.push(format!("R: {job} needs {missing:?}")),
        JobResult::TooManyRecipients { server_limit } => lines.push(format!("R: {job} more recipients than {server_limit}")),
        JobResult::TlsUnavailable(TlsUnavailable::Refused(reply)) => lines.push(format!("R: {job} no TLS: {reply}")),
        JobResult::TlsUnavailable(why) => lines.push(format!("R: {job} no TLS: {why:?}")),
        JobResult::TooLarge { server_limit } => lines.push(format!("R: {job} larger than {server_limit}")),
        JobResult::SessionRefused(reply) => lines.push(format!("R: {job} session refused: {reply}")),
        JobResult::Disconnected { stage, sent_anything, final_dot_sent, reason } => {
            let sent = match (sent_anything, final_dot_sent) {
                (_, true) => "all sent",
                (true, false) => "partly sent",
                (false, false) => "nothing sent",
            };
            lines.push(format!("R: {job} lost at {stage:?}, {sent}: {reason:?}"));
        }
    }
}

impl ScriptedSession for ScriptedClient {
    type Session = ClientSession;

    fn session(&self) -> ClientSession {
        let mut settings = ClientSettings::with_helo_name("client.example");
        settings.reply_line_bytes_max = 600;
        settings.reply_lines_max = 10;
        settings.tls = self.tls;
        settings.lmtp = self.lmtp;
        ClientSession::new(Arc::new(settings))
    }

    fn answer(&mut self, question: ClientQuestion, lines: &mut Vec<String>) -> ClientAnswer {
        match question {
            ClientQuestion::Next { idle } => self.next(idle),
            ClientQuestion::Body { job } => self.next_chunk(job),
            ClientQuestion::Outcome(outcome) => {
                format_outcome(outcome, lines);
                ClientAnswer::Done
            }
        }
    }

    fn body(&mut self, _octets: &[u8]) {}
}
