//! What a client session asks: jobs, bodies, and where to put the results.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_message::to_seven_bit;
use waxwing_net::Host;
use waxwing_smtp::ClientSession;
use waxwing_smtp::client::{Answer, Job, JobResult, LostReason, Outcome, Question};
use waxwing_types::{BodyType, Disposition, EnhancedCode, MemoryBody, Status};

use super::destination::{Destination, Pending};
use super::{Core, outcome};
use crate::header_of;

/// Octets of a stored body that are read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Where a session's host leaves the word that the server refused the session, so that another address can be tried.
#[derive(Clone, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<Status>>>);

impl Refusal {
    pub(crate) fn take(&self) -> Option<Status> {
        self.0.lock().take()
    }
}

/// The host of one connection.
pub(crate) struct ClientHost {
    core: Arc<Core>,
    destination: Arc<Destination>,
    /// The server, for logs.
    remote: String,
    /// There are other addresses to try if this one refuses the session.
    others: bool,
    refusal: Refusal,
    /// Jobs under way: at most the one whose reply is awaited and the one that follows it.
    jobs: VecDeque<Current>,
    next_id: u64,
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
    pub(crate) fn new(core: Arc<Core>, destination: Arc<Destination>, remote: String, others: bool, refusal: Refusal) -> Self {
        Self { core, destination, remote, others, refusal, jobs: VecDeque::new(), next_id: 0 }
    }

    fn begin(&mut self, mut pending: Pending) -> Answer {
        pending.taken(self.core.clock.monotonic());
        self.next_id += 1;
        let job = Job {
            id: self.next_id,
            sender: pending.message.envelope.sender.clone(),
            recipients: pending.recipients.iter().map(|(_, address)| address.clone()).collect(),
            size: pending.message.size(),
            eight_bit: is_eight_bit(&pending),
        };
        self.jobs.push_back(Current { id: self.next_id, pending, next: Piece::Head });
        Answer::Job(job)
    }

    async fn piece(&mut self, job: u64) -> Answer {
        let Some(current) = self.jobs.iter_mut().find(|c| c.id == job) else { return Answer::Abort };
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
            JobResult::Replied(replies) => pending.finish(|i| match replies.get(i) {
                Some(reply) => outcome::replied(reply, &remote),
                None => outcome::lost(waxwing_smtp::client::Stage::Rcpt, &LostReason::Eof, &remote),
            }),
            JobResult::EightBitUnsupported => self.convert(pending).await,
            JobResult::TooLarge { server_limit } => {
                let text = format!("message size {} exceeds the limit {server_limit} of {remote}", pending.message.size());
                pending.finish(|_| Disposition::Failed(self.status((5, 3, 4), text.clone())));
            }
            JobResult::Lost { stage, sent_anything, final_dot_sent, reason } => {
                self.lost(pending, stage, sent_anything || final_dot_sent, &reason);
            }
            JobResult::RefusedSession(reply) => self.refused(pending, &reply),
        }
    }

    /// A connection that was idle may have been closed by the server: what it has not seen goes to the next one.
    fn lost(&self, mut pending: Pending, stage: waxwing_smtp::client::Stage, sent: bool, reason: &LostReason) {
        let reused = self.next_id > 1;
        let untouched =
            matches!(reason, LostReason::Eof | LostReason::Closing(_)) && matches!(stage, waxwing_smtp::client::Stage::Mail);
        if !pending.second_try && ((reused && untouched) || !sent) && !matches!(reason, LostReason::Shutdown) {
            pending.second_try = true;
            self.destination.push_front(pending);
        } else {
            pending.finish(|_| outcome::lost(stage, reason, &self.remote));
        }
    }

    /// The greeting or EHLO was refused: the next address may be kinder.
    fn refused(&self, pending: Pending, reply: &waxwing_types::Reply) {
        let disposition = outcome::replied(reply, &self.remote);
        if self.others && matches!(disposition, Disposition::Deferred { .. }) {
            *self.refusal.0.lock() = Some(disposition.status().clone());
            self.destination.push_front(pending);
        } else {
            pending.finish(|_| disposition.clone());
        }
    }

    /// RFC 6152 §3: converted, or returned to the sender.
    async fn convert(&self, mut pending: Pending) {
        match self.seven_bit(&pending).await {
            Ok((head, body)) => {
                pending.message.head = head;
                pending.message.body = Arc::new(MemoryBody::new(body));
                self.destination.push_front(pending);
            }
            Err(why) => {
                let text = format!("{} takes no 8-bit content, and the message can't be converted: {why}", self.remote);
                pending.finish(|_| Disposition::Failed(self.status((5, 6, 3), text.clone())));
            }
        }
    }

    async fn seven_bit(&self, pending: &Pending) -> Result<(Bytes, Bytes), String> {
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
        match to_seven_bit(&header_of(message), &whole).map_err(|e| e.to_string())? {
            Some((head, body)) => Ok((head.to_bytes(body.is_empty()), body)),
            None => Ok((message.head.clone(), whole)),
        }
    }

    fn status(&self, (class, subject, detail): (u8, u16, u16), text: String) -> Status {
        Status { code: None, enhanced: EnhancedCode::new(class, subject, detail), remote: Some(self.remote.clone()), text }
    }
}

/// The body is seen to have octets above 127, or declared so where it would have to be read from a file. Those in the header are no
/// matter of 8BITMIME.
fn is_eight_bit(pending: &Pending) -> bool {
    let message = &pending.message;
    match message.body.in_memory() {
        Some(body) => !body.is_ascii(),
        None => message.envelope.body_type == BodyType::EightBitMime,
    }
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
}

impl Drop for ClientHost {
    /// The loop ended without a word about these: they are tried again later.
    fn drop(&mut self) {
        for Current { pending, .. } in self.jobs.drain(..) {
            pending.finish(|_| outcome::lost(waxwing_smtp::client::Stage::DataDone, &LostReason::Eof, &self.remote));
        }
    }
}
