//! Handler of a client session: supplies jobs and bodies, turns outcomes into dispositions.

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

/// Octets of a text line without CRLF (RFC 5321 §4.5.3.1.6).
const LINE_BYTES_MAX: usize = 998;
/// Octets of a stored body read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Reason for the absence of a session.
pub(crate) enum NoSession {
    /// Another address may be tried; the disposition applies to pending deliveries after the last address.
    Refused(Disposition),
    /// Handshake failed with opportunistic TLS: the same address may be tried without TLS.
    InTheClear,
}

/// Slot for the failure to establish a session, shared by handler and connection task.
#[derive(Clone, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<NoSession>>>);

impl Refusal {
    pub(crate) fn take(&self) -> Option<NoSession> {
        self.0.lock().take()
    }
}

/// Session handler of one connection.
pub(crate) struct ClientHost {
    core: Arc<Core>,
    destination: Arc<Destination>,
    client: Arc<ClientSettings>,
    /// Name and address of the server, for logs.
    remote: String,
    refusal: Refusal,
    /// Open jobs: at most the job with an outstanding reply and its successor.
    jobs: VecDeque<Current>,
    next_id: u64,
    /// True after the first transaction accepted by the server.
    good: bool,
}

struct Current {
    id: u64,
    pending: Pending,
    next: Piece,
}

/// Position in the octets of a job.
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
                    Some(octets) => Ok(octets.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len())..)),
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
                        tracing::error!(target: "delivery", "{}: reading the body failed: {error}", message.id);
                        Answer::Abort
                    }
                }
            }
        }
    }

    async fn outcome(&mut self, outcome: Outcome) {
        let Some(position) = self.jobs.iter().position(|c| c.id == outcome.job) else { return };
        let Some(Current { pending, .. }) = self.jobs.remove(position) else { return };
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

    /// Handles the replies to one transaction; recipients beyond the server's limits get another transaction.
    fn replied(&self, mut pending: Pending, replies: &[waxwing_types::Reply], dsn: bool) {
        let disposition_for = |position: usize| match replies.get(position) {
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
            pending.decide(|position, _| (position < batch).then(|| disposition_for(position)));
            self.destination.push_front(pending);
        } else {
            pending.finish(disposition_for);
        }
    }

    /// Handles a lost connection. The server may have closed an idle connection: a delivery unseen by the server moves to the
    /// next connection.
    fn lost(&self, mut pending: Pending, stage: Stage, sent: bool, reason: &LostReason) {
        if matches!(reason, LostReason::Shutdown) {
            // The server cannot have accepted the message. Dropping the delivery marks the attempt as aborted.
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

    /// Records the failure to establish a session; the next address may accept (RFC 5321 §5.1).
    fn refused(&self, pending: Pending, why: NoSession) {
        *self.refusal.0.lock() = Some(why);
        self.destination.push_front(pending);
    }

    /// Handles a missing extension: converts the message, or fails the recipients.
    async fn unsupported(&self, mut pending: Pending, missing: Missing) {
        let why = match missing {
            Missing::SmtpUtf8 => return self.without_smtputf8(pending),
            Missing::RequireTls => "REQUIRETLS is required".to_owned(),
            Missing::EightBitMime | Missing::BinaryMime => match self.seven_bit(&pending, missing).await {
                Ok((_, body)) if !body.is_ascii() => "the converted message still has some".to_owned(),
                Ok((head, body)) => {
                    pending.message.head = head;
                    pending.message.body = Arc::new(MemoryBody::new(body));
                    pending.converted = true;
                    return self.destination.push_front(pending);
                }
                Err(why) => format!("conversion failed: {why}"),
            },
        };
        let disposition = outcome::lacking(missing, false, &why, &self.remote);
        pending.finish(|_| disposition.clone());
    }

    /// Fails only recipients in need of SMTPUTF8 and delivers to the others (RFC 6531 §3.2).
    fn without_smtputf8(&self, mut pending: Pending) {
        let message = &pending.message;
        let by_sender = message.envelope.sender.address().is_some_and(|a| !is_ascii(a));
        let by_header = message.envelope.smtputf8 && !message.head.is_ascii();
        let lacking = |in_address| outcome::lacking(Missing::SmtpUtf8, in_address, "", &self.remote);
        if by_sender || by_header {
            // A UTF-8 address also appears in Received: report the address, since the sender can change only the address.
            let by_address = by_sender || pending.recipients.iter().any(|(_, recipient)| !is_ascii(&recipient.address));
            return pending.finish(|_| lacking(by_address));
        }
        if pending.decide(|_, recipient| (!is_ascii(&recipient.address)).then(|| lacking(true))) {
            pending.finish(|_| lacking(true));
        } else {
            self.destination.push_front(pending);
        }
    }

    /// Converts the message to 7-bit content (RFC 6152 §3, RFC 3030 §3).
    async fn seven_bit(&self, pending: &Pending, missing: Missing) -> Result<(Bytes, Bytes), String> {
        let message = &pending.message;
        let limit = self.core.settings.conversion_bytes_max;
        if message.size() > limit {
            return Err(format!("larger than {limit} octets"));
        }
        let mut body_octets = Vec::with_capacity(usize::try_from(message.body.size()).unwrap_or_default());
        while (body_octets.len() as u64) < message.body.size() {
            let piece = message.body.read(body_octets.len() as u64, PIECE_BYTES).await.map_err(|e| e.to_string())?;
            if piece.is_empty() {
                return Err("the stored body is truncated".to_owned());
            }
            body_octets.extend_from_slice(&piece);
        }
        let body_octets = Bytes::from(body_octets);
        let head = header_of(message);
        let converted = match missing {
            Missing::BinaryMime => binary_to_seven_bit(&head, &body_octets),
            Missing::EightBitMime | Missing::SmtpUtf8 | Missing::RequireTls => to_seven_bit(&head, &body_octets),
        };
        match converted.map_err(|e| e.to_string())? {
            Some((head, body)) => Ok((head.to_bytes(body.is_empty()), body)),
            None => Ok((message.head.clone(), body_octets)),
        }
    }

    fn status(&self, (class, subject, detail): (u8, u16, u16), text: String) -> Status {
        Status { code: None, enhanced: EnhancedCode::new(class, subject, detail), remote: Some(self.remote.clone()), text }
    }
}

/// Body type found by inspection, or as declared for bodies in files. Header octets above 127 do not concern 8BITMIME.
fn body_type(message: &Message) -> BodyType {
    let declared = message.envelope.body_type;
    match message.body.in_memory() {
        Some(body) if declared == BodyType::BinaryMime && is_binary(body) => BodyType::BinaryMime,
        Some(body) if body.is_ascii() => BodyType::SevenBit,
        Some(_) => BodyType::EightBitMime,
        None => declared,
    }
}

/// Returns true for lines only BINARYMIME preserves: with NUL, a lone CR or LF, or too many octets (RFC 3030 §3).
fn is_binary(body: &[u8]) -> bool {
    let lines = body.split_inclusive(|b| *b == b'\n');
    lines.into_iter().any(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() > LINE_BYTES_MAX || memchr::memchr3(0, b'\r', b'\n', text).is_some()
    })
}

/// Returns true if an address is UTF-8, or the header is UTF-8 and declared so (RFC 6531 §3.2); other messages go without
/// SMTPUTF8.
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
    /// Defers jobs left without an outcome by the end of the session loop.
    fn drop(&mut self) {
        if self.good {
            self.destination.good_ends();
        }
        for Current { pending, .. } in self.jobs.drain(..) {
            pending.finish(|_| outcome::lost(Stage::DataDone, &LostReason::Eof, &self.remote));
        }
    }
}
