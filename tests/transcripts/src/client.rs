//! Scripted SMTP client: delivery jobs for the client session.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_smtp::client::{Answer, Job, JobResult, NoTls, Outcome, Question};
use waxwing_smtp::{ClientSession, ClientSettings, Command};
use waxwing_types::{BodyType, Notify, Recipient, Return, ReversePath, TlsLevel};

use crate::run::Side;
use crate::script::{Transcript, unescape};

/// Client script, built from the `job:` and `B:` lines of a transcript.
#[derive(Clone, Debug, Default)]
pub struct ClientStage {
    waiting: VecDeque<Given>,
    begun: Vec<Given>,
    tls: TlsLevel,
    lmtp: bool,
}

/// Delivery job of the script.
#[derive(Clone, Debug)]
struct Given {
    job: Job,
    /// Job starts only in an idle session.
    later: bool,
    /// Chunks of the message; `None` stands for a read error.
    pieces: VecDeque<Option<Vec<u8>>>,
}

impl ClientStage {
    /// Reads the setup of a transcript. The error names the invalid line.
    pub fn new(transcript: &Transcript) -> Result<Self, String> {
        let mut waiting: VecDeque<Given> = VecDeque::new();
        let (mut tls, mut lmtp) = (TlsLevel::None, false);
        for (key, rest) in &transcript.stage {
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
                "B" => given.pieces.push_back(Some(Vec::new())),
                "B:" => given.add(format!("{rest}\r\n").as_bytes()),
                "B>" => given.add(&unescape(rest)?),
                "abort" => given.pieces.push_back(None),
                _ => return Err(format!("not a line for a client: {key} {rest}")),
            }
        }
        Ok(Self { waiting, begun: Vec::new(), tls, lmtp })
    }

    fn next(&mut self, idle: bool) -> Answer {
        match self.waiting.front() {
            None if idle => Answer::Quit,
            None => Answer::Nothing,
            Some(given) if given.later && !idle => Answer::Nothing,
            Some(_) => match self.waiting.pop_front() {
                Some(given) => {
                    let job = given.job.clone();
                    self.begun.push(given);
                    Answer::Job(job)
                }
                None => Answer::Quit,
            },
        }
    }

    fn piece(&mut self, job: u64) -> Answer {
        let Some(given) = self.begun.iter_mut().find(|given| given.job.id == job) else { return Answer::Abort };
        match given.pieces.pop_front() {
            None => Answer::Body { chunk: Bytes::new(), last: true },
            Some(None) => Answer::Abort,
            Some(Some(piece)) => Answer::Body { chunk: Bytes::from(piece), last: given.pieces.is_empty() },
        }
    }
}

impl Given {
    fn add(&mut self, octets: &[u8]) {
        match self.pieces.back_mut() {
            Some(Some(piece)) => piece.extend_from_slice(octets),
            Some(None) | None => self.pieces.push_back(Some(octets.to_vec())),
        }
    }
}

fn read_job(text: &str) -> Result<Given, String> {
    let wrong = || format!("not a job: {text}");
    let mut words = text.split(' ');
    let id = words.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let path = |word: &str| match Command::parse(format!("MAIL FROM:{word}").as_bytes()) {
        Ok(Command::Mail { sender, .. }) => Ok(sender),
        Ok(_) | Err(_) => Err(wrong()),
    };
    let sender = path(words.next().ok_or_else(wrong)?)?;
    let mut job = Job::new(id, sender, Vec::new(), 100);
    let mut later = false;
    for word in words {
        match word.split_once('=') {
            Some((key, value)) if !word.starts_with('<') => set(&mut job, key, value).ok_or_else(wrong)?,
            Some(_) | None => match word {
                "8bit" => job.body = BodyType::EightBitMime,
                "binary" => job.body = BodyType::BinaryMime,
                "utf8" => job.smtputf8 = true,
                "requiretls" => job.require_tls = true,
                "probe" => job.probe = true,
                "later" => later = true,
                _ => match path(word)? {
                    ReversePath::Of(address) => job.recipients.push(Recipient::new(address)),
                    ReversePath::Null => return Err(wrong()),
                },
            },
        }
    }
    Ok(Given { job, later, pieces: VecDeque::new() })
}

/// Parameters `notify=` and `orcpt=` apply to the preceding recipient.
fn set(job: &mut Job, key: &str, value: &str) -> Option<()> {
    match key {
        "size" => job.size = value.parse().ok()?,
        "ret" => job.ret = Some(if value == "full" { Return::Full } else { Return::Headers }),
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

fn tell(outcome: Outcome, lines: &mut Vec<String>) {
    let job = outcome.job;
    match outcome.result {
        JobResult::Replied(replies) => lines.extend(replies.iter().map(|reply| format!("R: {job} {reply}"))),
        JobResult::Unsupported(missing) => lines.push(format!("R: {job} needs {missing:?}")),
        JobResult::TooManyRecipients { server_limit } => lines.push(format!("R: {job} more recipients than {server_limit}")),
        JobResult::NoTls(NoTls::Refused(reply)) => lines.push(format!("R: {job} no TLS: {reply}")),
        JobResult::NoTls(why) => lines.push(format!("R: {job} no TLS: {why:?}")),
        JobResult::TooLarge { server_limit } => lines.push(format!("R: {job} larger than {server_limit}")),
        JobResult::RefusedSession(reply) => lines.push(format!("R: {job} session refused: {reply}")),
        JobResult::Lost { stage, sent_anything, final_dot_sent, reason } => {
            let sent = match (sent_anything, final_dot_sent) {
                (_, true) => "all sent",
                (true, false) => "partly sent",
                (false, false) => "nothing sent",
            };
            lines.push(format!("R: {job} lost at {stage:?}, {sent}: {reason:?}"));
        }
    }
}

impl Side for ClientStage {
    type Session = ClientSession;

    fn session(&self) -> ClientSession {
        let mut settings = ClientSettings::new("client.example");
        settings.reply_line_bytes_max = 600;
        settings.reply_lines_max = 10;
        settings.tls = self.tls;
        settings.lmtp = self.lmtp;
        ClientSession::new(Arc::new(settings))
    }

    fn answer(&mut self, question: Question, lines: &mut Vec<String>) -> Answer {
        match question {
            Question::Next { idle } => self.next(idle),
            Question::Body { job } => self.piece(job),
            Question::Outcome(outcome) => {
                tell(outcome, lines);
                Answer::Done
            }
        }
    }

    fn body(&mut self, _octets: &[u8]) {}
}
