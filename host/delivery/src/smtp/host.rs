//! What a client session asks: jobs, bodies, and where to put the results.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_message::{binary_to_seven_bit, to_seven_bit};
use waxwing_net::{Host, TlsError};
use waxwing_pipeline::Reached;
use waxwing_smtp::client::{Answer, Job, JobResult, LostReason, Missing, Outcome, Question, Stage};
use waxwing_smtp::{ClientSession, ClientSettings};
use waxwing_types::{Address, BodyType, Disposition, EnhancedCode, MemoryBody, Message, Status, TlsLevel};

use super::destination::{Destination, Pending};
use super::{Core, outcome};
use crate::header_of;

/// Octets of a line without its end (RFC 5321 §4.5.3.1.6).
const LINE_BYTES_MAX: usize = 998;
/// Octets of a stored body that are read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Why no session came about.
pub(crate) enum NoSession {
    /// Another address can be tried; if there is none, this is what becomes of what waits.
    Refused(Disposition),
    /// The handshake failed and TLS is no must: the same address can be tried in the clear.
    InTheClear,
}

/// Where a session's host leaves the word that no session came about.
#[derive(Clone, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<NoSession>>>);

impl Refusal {
    pub(crate) fn take(&self) -> Option<NoSession> {
        self.0.lock().take()
    }
}

/// The host of one connection.
pub(crate) struct ClientHost {
    core: Arc<Core>,
    destination: Arc<Destination>,
    client: Arc<ClientSettings>,
    /// The server, for logs.
    remote: String,
    refusal: Refusal,
    /// Jobs under way: at most the one whose reply is awaited and the one that follows it.
    jobs: VecDeque<Current>,
    next_id: u64,
    /// The server has taken a transaction.
    good: bool,
}

struct Current {
    id: u64,
    pending: Pending,
    next: Piece,
}

/// What of a job's octets goes next.
#[derive(Clone, Copy)]
enum Piece {
    Head,
    Body(u64),
}

impl ClientHost {
    pub(crate) fn new(
        core: Arc<Core>,
        destination: Arc<Destination>,
        client: Arc<ClientSettings>,
        remote: String,
        refusal: Refusal,
    ) -> Self {
        Self { core, destination, client, remote, refusal, jobs: VecDeque::new(), next_id: 0, good: false }
    }

    fn begin(&mut self, mut pending: Pending) -> Answer {
        pending.taken(self.core.clock.monotonic());
        self.next_id += 1;
        let envelope = &pending.message.envelope;
        let job = Job {
            id: self.next_id,
            sender: envelope.sender.clone(),
            recipients: pending.batch().iter().map(|(_, recipient)| recipient.clone()).collect(),
            size: pending.message.size(),
            body: if pending.converted { BodyType::SevenBit } else { body_type(&pending.message) },
            smtputf8: needs_smtputf8(&pending),
            require_tls: self.destination.requires_tls(),
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            probe: pending.probe,
        };
        self.jobs.push_back(Current { id: self.next_id, pending, next: Piece::Head });
        Answer::Job(job)
    }

    async fn piece(&mut self, job: u64) -> Answer {
        let Some(current) = self.jobs.iter_mut().find(|c| c.id == job) else { return Answer::Abort };
        if !current.pending.is_wanted() {
            return Answer::Abort;
        }
        if !std::mem::replace(&mut self.good, true) {
            self.destination.good_begins();
        }
        let message = &current.pending.message;
        let size = message.body.size();
        match current.next {
            Piece::Head => {
                current.next = Piece::Body(0);
                Answer::Body { chunk: message.head.clone(), last: size == 0 }
            }
            Piece::Body(offset) => {
                let chunk = match message.body.in_memory() {
                    Some(whole) => Ok(whole.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len())..)),
                    None => message.body.read(offset, PIECE_BYTES).await,
                };
                match chunk {
                    Ok(chunk) if chunk.is_empty() => Answer::Abort,
                    Ok(chunk) => {
                        let offset = offset + chunk.len() as u64;
                        current.next = Piece::Body(offset);
                        Answer::Body { chunk, last: offset >= size }
                    }
                    Err(error) => {
                        tracing::error!(target: "delivery", "{}: the body can't be read: {error}", message.id);
                        Answer::Abort
                    }
                }
            }
        }
    }

    async fn outcome(&mut self, outcome: Outcome) {
        let Some(place) = self.jobs.iter().position(|c| c.id == outcome.job) else { return };
        let Some(Current { pending, .. }) = self.jobs.remove(place) else { return };
        let remote = self.remote.clone();
        match outcome.result {
            JobResult::Replied(replies) => self.replied(pending, &replies, outcome.dsn),
            JobResult::Unsupported(missing) => self.unsupported(pending, missing).await,
            JobResult::TooManyRecipients { server_limit } => {
                let mut pending = pending;
                pending.batch = server_limit.max(1);
                self.destination.push_front(pending);
            }
            JobResult::NoTls(why) => {
                let disposition = outcome::not_protected(&why, self.destination.requires_tls(), &remote);
                self.refused(pending, NoSession::Refused(disposition));
            }
            JobResult::TooLarge { server_limit } => {
                let text = format!("message size {} exceeds the limit {server_limit} of {remote}", pending.message.size());
                pending.finish(|_| Disposition::Failed(self.status((5, 3, 4), text.clone())));
            }
            JobResult::Lost { stage, sent_anything, final_dot_sent, reason } => {
                self.lost(pending, stage, sent_anything || final_dot_sent, &reason);
            }
            JobResult::RefusedSession(reply) => self.refused(pending, NoSession::Refused(outcome::replied(&reply, &remote))),
        }
    }

    /// One transaction is through; what the server's limits left out has another.
    fn replied(&self, mut pending: Pending, replies: &[waxwing_types::Reply], dsn: bool) {
        let of = |place: usize| match replies.get(place) {
            Some(reply) => outcome::replied(reply, &self.remote),
            None => outcome::lost(Stage::Rcpt, &LostReason::Eof, &self.remote),
        };
        pending.reached(match (dsn, self.core.settings.client.lmtp) {
            (true, _) => Reached::ServerWithDsn,
            (false, true) => Reached::Mailbox,
            (false, false) => Reached::Server,
        });
        let batch = pending.batch().len();
        if batch < pending.recipients.len() {
            pending.decide(|place, _| (place < batch).then(|| of(place)));
            self.destination.push_front(pending);
        } else {
            pending.finish(of);
        }
    }

    /// A connection that was idle may have been closed by the server: what it has not seen goes to the next one.
    fn lost(&self, mut pending: Pending, stage: Stage, sent: bool, reason: &LostReason) {
        if matches!(reason, LostReason::Shutdown) {
            // Nothing of it can have been taken. To drop it tells the attempt that it does not count.
            return;
        }
        if matches!(stage, Stage::StartTls) && self.client.tls == TlsLevel::May {
            return self.refused(pending, NoSession::InTheClear);
        }
        if matches!(stage, Stage::Greeting | Stage::Helo | Stage::StartTls) {
            return self.refused(pending, NoSession::Refused(outcome::lost(stage, reason, &self.remote)));
        }
        let reused = self.next_id > 1;
        let untouched = matches!(reason, LostReason::Eof | LostReason::Closing(_)) && matches!(stage, Stage::Mail);
        if !pending.second_try && ((reused && untouched) || !sent) {
            pending.second_try = true;
            self.destination.push_front(pending);
        } else {
            pending.finish(|_| outcome::lost(stage, reason, &self.remote));
        }
    }

    /// No session came about: the next address may be kinder (RFC 5321 §5.1).
    fn refused(&self, pending: Pending, why: NoSession) {
        *self.refusal.0.lock() = Some(why);
        self.destination.push_front(pending);
    }

    /// The server lacks something: the message goes in another form, or back to its sender.
    async fn unsupported(&self, mut pending: Pending, missing: Missing) {
        let why = match missing {
            Missing::SmtpUtf8 => return self.without_smtputf8(pending),
            Missing::RequireTls => "it must be protected".to_owned(),
            Missing::EightBitMime | Missing::BinaryMime => match self.seven_bit(&pending, missing).await {
                Ok((_, body)) if !body.is_ascii() => "the converted message still has some".to_owned(),
                Ok((head, body)) => {
                    pending.message.head = head;
                    pending.message.body = Arc::new(MemoryBody::new(body));
                    pending.converted = true;
                    return self.destination.push_front(pending);
                }
                Err(why) => format!("the message can't be converted: {why}"),
            },
        };
        let disposition = outcome::lacking(missing, false, &why, &self.remote);
        pending.finish(|_| disposition.clone());
    }

    /// Where only some recipients need SMTPUTF8, the others get the message all the same (RFC 6531 §3.2).
    fn without_smtputf8(&self, mut pending: Pending) {
        let message = &pending.message;
        let by_sender = message.envelope.sender.address().is_some_and(|a| !is_ascii(a));
        let by_header = message.envelope.smtputf8 && !message.head.is_ascii();
        let lacking = |in_address| outcome::lacking(Missing::SmtpUtf8, in_address, "", &self.remote);
        if by_sender || by_header {
            // An address in UTF-8 stands in Received, too: the address is what the sender can change.
            let by_address = by_sender || pending.recipients.iter().any(|(_, recipient)| !is_ascii(&recipient.address));
            return pending.finish(|_| lacking(by_address));
        }
        if pending.decide(|_, recipient| (!is_ascii(&recipient.address)).then(|| lacking(true))) {
            pending.finish(|_| lacking(true));
        } else {
            self.destination.push_front(pending);
        }
    }

    /// RFC 6152 §3, RFC 3030 §3: as 7-bit content.
    async fn seven_bit(&self, pending: &Pending, missing: Missing) -> Result<(Bytes, Bytes), String> {
        let message = &pending.message;
        let limit = self.core.settings.conversion_bytes_max;
        if message.size() > limit {
            return Err(format!("it is larger than {limit} octets"));
        }
        let mut whole = Vec::with_capacity(usize::try_from(message.body.size()).unwrap_or_default());
        while (whole.len() as u64) < message.body.size() {
            let piece = message.body.read(whole.len() as u64, PIECE_BYTES).await.map_err(|e| e.to_string())?;
            if piece.is_empty() {
                return Err("its body ends early".to_owned());
            }
            whole.extend_from_slice(&piece);
        }
        let whole = Bytes::from(whole);
        let head = header_of(message);
        let converted = match missing {
            Missing::BinaryMime => binary_to_seven_bit(&head, &whole),
            Missing::EightBitMime | Missing::SmtpUtf8 | Missing::RequireTls => to_seven_bit(&head, &whole),
        };
        match converted.map_err(|e| e.to_string())? {
            Some((head, body)) => Ok((head.to_bytes(body.is_empty()), body)),
            None => Ok((message.head.clone(), whole)),
        }
    }

    fn status(&self, (class, subject, detail): (u8, u16, u16), text: String) -> Status {
        Status { code: None, enhanced: EnhancedCode::new(class, subject, detail), remote: Some(self.remote.clone()), text }
    }
}

/// What the body is seen to be, or was declared to be where it would have to be read from a file. Octets above 127 in the header are no
/// matter of 8BITMIME.
fn body_type(message: &Message) -> BodyType {
    let declared = message.envelope.body_type;
    match message.body.in_memory() {
        Some(body) if declared == BodyType::BinaryMime && is_binary(body) => BodyType::BinaryMime,
        Some(body) if body.is_ascii() => BodyType::SevenBit,
        Some(_) => BodyType::EightBitMime,
        None => declared,
    }
}

/// It has lines that only BINARYMIME carries as they are: with NUL, a lone CR or LF, or too many octets (RFC 3030 §3).
fn is_binary(body: &[u8]) -> bool {
    let lines = body.split_inclusive(|b| *b == b'\n');
    lines.into_iter().any(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() > LINE_BYTES_MAX || memchr::memchr3(0, b'\r', b'\n', text).is_some()
    })
}

/// An address in UTF-8, or a header that was declared so (RFC 6531 §3.2): where neither is, the message goes without.
fn needs_smtputf8(pending: &Pending) -> bool {
    let message = &pending.message;
    message.envelope.sender.address().is_some_and(|a| !is_ascii(a))
        || pending.recipients.iter().any(|(_, recipient)| !is_ascii(&recipient.address))
        || (message.envelope.smtputf8 && !message.head.is_ascii())
}

fn is_ascii(address: &Address) -> bool {
    address.local().is_ascii() && address.domain().is_ascii()
}

impl Host<ClientSession> for ClientHost {
    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Next { idle } => match self.destination.take() {
                Some(pending) => self.begin(pending),
                None if !idle => Answer::Nothing,
                None => {
                    let limit = self.core.settings.connection_idle;
                    let mut shutdown = self.core.shutdown.clone();
                    let next = tokio::select! {
                        next = self.destination.wait(limit) => next,
                        () = shutdown.wait() => None,
                    };
                    match next {
                        Some(pending) => self.begin(pending),
                        None => Answer::Quit,
                    }
                }
            },
            Question::Body { job } => self.piece(job).await,
            Question::Outcome(outcome) => {
                self.outcome(outcome).await;
                Answer::Done
            }
        }
    }

    async fn body(&mut self, _: Bytes) {}

    fn handshake_failed(&mut self, why: &TlsError) {
        tracing::info!(target: "delivery", "TLS with {}: {why}", self.remote);
    }
}

impl Drop for ClientHost {
    /// The loop ended without a word about these: they are tried again later.
    fn drop(&mut self) {
        if self.good {
            self.destination.good_ends();
        }
        for Current { pending, .. } in self.jobs.drain(..) {
            pending.finish(|_| outcome::lost(Stage::DataDone, &LostReason::Eof, &self.remote));
        }
    }
}
