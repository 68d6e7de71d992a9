//! Handler of a client session: supplies jobs and bodies, turns outcomes into dispositions.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_message::{HeaderBlock, binary_to_seven_bit, to_seven_bit};
use waxwing_net::{SessionHandler, TlsError};
use waxwing_pipeline::FinalDsnAction;
use waxwing_smtp::client::{
    ClientAnswer, ClientJob, ClientQuestion, ClientStage, DisconnectReason, JobOutcome, JobResult, MissingExtension,
};
use waxwing_smtp::{ClientSession, ClientSettings};
use waxwing_types::{Address, BodyType, Disposition, EnhancedCode, MemoryBody, Message, Status, TlsLevel};

use super::destination::{Destination, PendingDelivery};
use super::{SmtpContext, dispositions};

/// Octets of a text line without CRLF (RFC 5321 §4.5.3.1.6).
const TEXT_LINE_BYTES_MAX: usize = 998;
/// Octets of a stored body read at once.
const READ_CHUNK_BYTES: usize = 256 * 1024;

/// Reason for the absence of a session.
pub(crate) enum ConnectFailure {
    /// Another address may be tried; the disposition applies to pending deliveries after the last address.
    Refused(Disposition),
    /// Handshake failed with opportunistic TLS: the same address may be tried without TLS.
    RetryWithoutTls,
}

/// Slot for the failure to establish a session, shared by handler and connection task.
#[derive(Clone, Default)]
pub(crate) struct FailureSlot(Arc<Mutex<Option<ConnectFailure>>>);

impl FailureSlot {
    pub(crate) fn take(&self) -> Option<ConnectFailure> {
        self.0.lock().take()
    }
}

/// Session handler of one connection.
pub(crate) struct ClientSessionHandler {
    context: Arc<SmtpContext>,
    destination: Arc<Destination>,
    client: Arc<ClientSettings>,
    /// Name and address of the server, for logs.
    remote: String,
    failure: FailureSlot,
    /// Open jobs: at most the job with an outstanding reply and its successor.
    jobs: VecDeque<ActiveJob>,
    next_id: u64,
    /// True after the first transaction accepted by the server.
    is_proved: bool,
}

struct ActiveJob {
    id: u64,
    pending: PendingDelivery,
    position: SendPosition,
}

/// Position in the octets of a job.
#[derive(Clone, Copy)]
enum SendPosition {
    Header,
    Body(u64),
}

impl ClientSessionHandler {
    pub(crate) fn new(
        core: Arc<SmtpContext>,
        destination: Arc<Destination>,
        client: Arc<ClientSettings>,
        remote: String,
        refusal: FailureSlot,
    ) -> Self {
        Self { context: core, destination, client, remote, failure: refusal, jobs: VecDeque::new(), next_id: 0, is_proved: false }
    }

    fn start_job(&mut self, mut pending: PendingDelivery) -> ClientAnswer {
        pending.record_assignment(self.context.clock.monotonic());
        self.next_id += 1;
        let envelope = &pending.message.envelope;
        let job = ClientJob {
            id: self.next_id,
            sender: envelope.sender.clone(),
            recipients: pending.next_batch().iter().map(|(_, recipient)| recipient.clone()).collect(),
            size: pending.message.size(),
            body: if pending.converted { BodyType::SevenBit } else { body_type(&pending.message) },
            smtputf8: needs_smtputf8(&pending),
            require_tls: self.destination.requires_tls(),
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            probe: pending.is_probe,
        };
        self.jobs.push_back(ActiveJob { id: self.next_id, pending, position: SendPosition::Header });
        ClientAnswer::Job(job)
    }

    async fn next_chunk(&mut self, job: u64) -> ClientAnswer {
        let Some(current) = self.jobs.iter_mut().find(|c| c.id == job) else { return ClientAnswer::Abort };
        if !current.pending.is_awaited() {
            return ClientAnswer::Abort;
        }
        if !std::mem::replace(&mut self.is_proved, true) {
            self.destination.connection_proved();
        }
        let message = &current.pending.message;
        let size = message.body.size();
        match current.position {
            SendPosition::Header => {
                current.position = SendPosition::Body(0);
                ClientAnswer::Body { chunk: message.header.clone(), last: size == 0 }
            }
            SendPosition::Body(offset) => {
                let chunk = match message.body.in_memory() {
                    Some(octets) => Ok(octets.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len())..)),
                    None => message.body.read(offset, READ_CHUNK_BYTES).await,
                };
                match chunk {
                    Ok(chunk) if chunk.is_empty() => ClientAnswer::Abort,
                    Ok(chunk) => {
                        let offset = offset + chunk.len() as u64;
                        current.position = SendPosition::Body(offset);
                        ClientAnswer::Body { chunk, last: offset >= size }
                    }
                    Err(error) => {
                        tracing::error!(target: "delivery", "{}: reading the body failed: {error}", message.id);
                        ClientAnswer::Abort
                    }
                }
            }
        }
    }

    async fn handle_outcome(&mut self, outcome: JobOutcome) {
        let Some(position) = self.jobs.iter().position(|c| c.id == outcome.job) else { return };
        let Some(ActiveJob { pending, .. }) = self.jobs.remove(position) else { return };
        let remote = self.remote.clone();
        match outcome.result {
            JobResult::Replied(replies) => self.handle_replies(pending, &replies, outcome.dsn),
            JobResult::Unsupported(missing) => self.handle_missing_extension(pending, missing).await,
            JobResult::TooManyRecipients { server_limit } => {
                let mut pending = pending;
                pending.batch_max = server_limit.max(1);
                self.destination.push_front(pending);
            }
            JobResult::TlsUnavailable(why) => {
                let disposition = dispositions::tls_required(&why, self.destination.requires_tls(), &remote);
                self.fail_session(pending, ConnectFailure::Refused(disposition));
            }
            JobResult::TooLarge { server_limit } => {
                let text = format!("message size {} exceeds the limit {server_limit} of {remote}", pending.message.size());
                pending.finish(|_| Disposition::Failed(self.status((5, 3, 4), text.clone())));
            }
            JobResult::Disconnected { stage, sent_anything, final_dot_sent, reason } => {
                self.handle_loss(pending, stage, sent_anything || final_dot_sent, &reason);
            }
            JobResult::SessionRefused(reply) => {
                self.fail_session(pending, ConnectFailure::Refused(dispositions::from_reply(&reply, &remote)))
            }
        }
    }

    /// Handles the replies to one transaction; recipients beyond the server's limits get another transaction.
    fn handle_replies(&self, mut pending: PendingDelivery, replies: &[waxwing_types::Reply], dsn: bool) {
        let disposition_for = |position: usize| match replies.get(position) {
            Some(reply) => dispositions::from_reply(reply, &self.remote),
            None => dispositions::connection_lost(ClientStage::Rcpt, &DisconnectReason::Eof, &self.remote),
        };
        pending.record_dsn_action(match (dsn, self.context.settings.client.lmtp) {
            (true, _) => FinalDsnAction::Delegated,
            (false, true) => FinalDsnAction::Delivered,
            (false, false) => FinalDsnAction::Relayed,
        });
        let batch = pending.next_batch().len();
        if batch < pending.recipients.len() {
            pending.decide(|position, _| (position < batch).then(|| disposition_for(position)));
            self.destination.push_front(pending);
        } else {
            pending.finish(disposition_for);
        }
    }

    /// Handles a lost connection. The server may have closed an idle connection: a delivery unseen by the server moves to the
    /// next connection.
    fn handle_loss(&self, mut pending: PendingDelivery, stage: ClientStage, sent: bool, reason: &DisconnectReason) {
        if matches!(reason, DisconnectReason::Shutdown) {
            // The server cannot have accepted the message. Dropping the delivery marks the attempt as aborted.
            return;
        }
        if matches!(stage, ClientStage::StartTls) && self.client.tls == TlsLevel::May {
            return self.fail_session(pending, ConnectFailure::RetryWithoutTls);
        }
        if matches!(stage, ClientStage::Greeting | ClientStage::Helo | ClientStage::StartTls) {
            return self
                .fail_session(pending, ConnectFailure::Refused(dispositions::connection_lost(stage, reason, &self.remote)));
        }
        let reused = self.next_id > 1;
        let untouched =
            matches!(reason, DisconnectReason::Eof | DisconnectReason::Closing(_)) && matches!(stage, ClientStage::Mail);
        if !pending.was_retried && ((reused && untouched) || !sent) {
            pending.was_retried = true;
            self.destination.push_front(pending);
        } else {
            pending.finish(|_| dispositions::connection_lost(stage, reason, &self.remote));
        }
    }

    /// Records the failure to establish a session; the next address may accept (RFC 5321 §5.1).
    fn fail_session(&self, pending: PendingDelivery, why: ConnectFailure) {
        *self.failure.0.lock() = Some(why);
        self.destination.push_front(pending);
    }

    /// Handles a missing extension: converts the message, or fails the recipients.
    async fn handle_missing_extension(&self, mut pending: PendingDelivery, missing: MissingExtension) {
        let why = match missing {
            MissingExtension::SmtpUtf8 => return self.without_smtputf8(pending),
            MissingExtension::RequireTls => "REQUIRETLS is required".to_owned(),
            MissingExtension::EightBitMime | MissingExtension::BinaryMime => {
                match self.convert_to_seven_bit(&pending, missing).await {
                    Ok((_, body)) if !body.is_ascii() => "the converted message still has some".to_owned(),
                    Ok((head, body)) => {
                        pending.message.header = head;
                        pending.message.body = Arc::new(MemoryBody::new(body));
                        pending.converted = true;
                        return self.destination.push_front(pending);
                    }
                    Err(why) => format!("conversion failed: {why}"),
                }
            }
        };
        let disposition = dispositions::missing_extension(missing, false, &why, &self.remote);
        pending.finish(|_| disposition.clone());
    }

    /// Fails only recipients in need of SMTPUTF8 and delivers to the others (RFC 6531 §3.2).
    fn without_smtputf8(&self, mut pending: PendingDelivery) {
        let message = &pending.message;
        let by_sender = message.envelope.sender.address().is_some_and(|a| !is_ascii(a));
        let by_header = message.envelope.smtputf8 && !message.header.is_ascii();
        let lacking = |in_address| dispositions::missing_extension(MissingExtension::SmtpUtf8, in_address, "", &self.remote);
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
    async fn convert_to_seven_bit(&self, pending: &PendingDelivery, missing: MissingExtension) -> Result<(Bytes, Bytes), String> {
        let message = &pending.message;
        let limit = self.context.settings.conversion_bytes_max;
        if message.size() > limit {
            return Err(format!("larger than {limit} octets"));
        }
        let mut body_octets = Vec::with_capacity(usize::try_from(message.body.size()).unwrap_or_default());
        while (body_octets.len() as u64) < message.body.size() {
            let piece = message.body.read(body_octets.len() as u64, READ_CHUNK_BYTES).await.map_err(|e| e.to_string())?;
            if piece.is_empty() {
                return Err("the stored body is truncated".to_owned());
            }
            body_octets.extend_from_slice(&piece);
        }
        let body_octets = Bytes::from(body_octets);
        let (head, _) = HeaderBlock::split(message.header.clone());
        let converted = match missing {
            MissingExtension::BinaryMime => binary_to_seven_bit(&head, &body_octets),
            MissingExtension::EightBitMime | MissingExtension::SmtpUtf8 | MissingExtension::RequireTls => {
                to_seven_bit(&head, &body_octets)
            }
        };
        match converted.map_err(|e| e.to_string())? {
            Some((head, body)) => Ok((head.to_bytes(body.is_empty()), body)),
            None => Ok((message.header.clone(), body_octets)),
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
        text.len() > TEXT_LINE_BYTES_MAX || memchr::memchr3(0, b'\r', b'\n', text).is_some()
    })
}

/// Returns true if an address is UTF-8, or the header is UTF-8 and declared so (RFC 6531 §3.2); other messages go without
/// SMTPUTF8.
fn needs_smtputf8(pending: &PendingDelivery) -> bool {
    let message = &pending.message;
    message.envelope.sender.address().is_some_and(|a| !is_ascii(a))
        || pending.recipients.iter().any(|(_, recipient)| !is_ascii(&recipient.address))
        || (message.envelope.smtputf8 && !message.header.is_ascii())
}

fn is_ascii(address: &Address) -> bool {
    address.local().is_ascii() && address.domain().is_ascii()
}

impl SessionHandler<ClientSession> for ClientSessionHandler {
    async fn answer(&mut self, question: ClientQuestion) -> ClientAnswer {
        match question {
            ClientQuestion::Next { idle } => match self.destination.pop() {
                Some(pending) => self.start_job(pending),
                None if !idle => ClientAnswer::NoJob,
                None => {
                    let limit = self.context.settings.client.config.smtp_connection_cache_time_limit;
                    let mut shutdown = self.context.shutdown.clone();
                    let next = tokio::select! {
                        next = self.destination.wait_for_delivery(limit) => next,
                        () = shutdown.wait() => None,
                    };
                    match next {
                        Some(pending) => self.start_job(pending),
                        None => ClientAnswer::Quit,
                    }
                }
            },
            ClientQuestion::Body { job } => self.next_chunk(job).await,
            ClientQuestion::Outcome(outcome) => {
                self.handle_outcome(outcome).await;
                ClientAnswer::Done
            }
        }
    }

    async fn body(&mut self, _: Bytes) {}

    fn handshake_failed(&mut self, why: &TlsError) {
        tracing::info!(target: "delivery", "TLS with {}: {why}", self.remote);
    }
}

impl Drop for ClientSessionHandler {
    /// Defers jobs left without an outcome by the end of the session loop.
    fn drop(&mut self) {
        if self.is_proved {
            self.destination.proved_connection_ended();
        }
        for ActiveJob { pending, .. } in self.jobs.drain(..) {
            pending.finish(|_| dispositions::connection_lost(ClientStage::DataDone, &DisconnectReason::Eof, &self.remote));
        }
    }
}
