//! State machine of a client session.

mod connection_setup;
mod disconnect;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Action, Input, Monotonic, Reply, Session, TlsLevel, TlsSession};

use disconnect::plaintext_after_starttls;

use super::capabilities::first_word;
use super::transaction::{BodyTransfer, ClientTransaction, TransferState};
use super::{
    ClientAnswer, ClientQuestion, ClientSettings, DisconnectReason, JobOutcome, JobResult, ServerCapabilities, TlsUnavailable,
};
use crate::dot_stuffing::DotStuffer;
use crate::input_buffer::InputBuffer;
use crate::reply::ReplyReader;

type Actions = Vec<Action<ClientQuestion>>;

/// SMTP or LMTP client session on one connection, for any number of jobs. At most two jobs are in progress: one sending
/// a body or awaiting the final reply, and one with commands pipelined behind the body.
///
/// Memory: a reply, the rest of the input that led to an open question, and the jobs as given by the host.
#[derive(Debug)]
pub struct ClientSession {
    settings: Arc<ClientSettings>,
    phase: ClientPhase,
    pending_question: Option<PendingClientQuestion>,
    capabilities: ServerCapabilities,
    /// TLS session of an encrypted connection.
    tls: Option<TlsSession>,
    /// The TLS handshake was requested and is not complete.
    tls_handshake: bool,
    /// Number of transactions begun.
    transaction_count: usize,
    reply_reader: ReplyReader,
    input_buffer: InputBuffer,
    /// Replies expected for the commands sent, in order.
    expected_replies: VecDeque<ExpectedReply>,
    jobs: VecDeque<ClientTransaction>,
    outcomes: VecDeque<JobOutcome>,
    /// Reason for the end of the connection, recorded while a question was open.
    disconnect_reason: Option<DisconnectReason>,
    /// The server has an unfinished transaction open: RSET must precede the next MAIL.
    must_reset: bool,
    deadline: Monotonic,
    deadline_armed: Monotonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientPhase {
    /// Before the server has accepted EHLO or HELO.
    Setup,
    Ready,
    /// No more jobs: QUIT follows once nothing is in progress.
    Draining,
    /// QUIT was sent.
    QuitSent,
    /// Closes once every outcome is reported.
    Closing,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingClientQuestion {
    Next { idle: bool },
    Body,
    Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedReply {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Rset,
    Mail,
    Rcpt,
    Data,
    /// The reply to BDAT without LAST.
    Chunk,
    /// The reply to the message; in LMTP, to the message for one recipient.
    FinalDot,
    Quit,
}

impl Session for ClientSession {
    type Question = ClientQuestion;
    type Answer = ClientAnswer;

    fn step(&mut self, now: Monotonic, input: Input<'_, ClientAnswer>, actions: &mut Actions) {
        if self.phase == ClientPhase::Closed {
            return;
        }
        let mut fresh: &[u8] = &[];
        match input {
            Input::Start => self.ask(ClientQuestion::Next { idle: true }, PendingClientQuestion::Next { idle: true }, actions),
            Input::Bytes(_) if self.tls_handshake => self.set_disconnect_reason(plaintext_after_starttls()),
            Input::Bytes(bytes) if self.pending_question.is_some() => self.input_buffer.append(bytes),
            Input::Bytes(bytes) => fresh = bytes,
            Input::Answer(answer) => self.handle_answer(now, answer, actions),
            Input::Tick if now >= self.deadline => self.set_disconnect_reason(DisconnectReason::TimedOut),
            Input::Tick => self.deadline_armed = Monotonic::default(),
            Input::Eof => self.set_disconnect_reason(DisconnectReason::Eof),
            Input::Secured(tls) => self.handle_secured(now, tls, actions),
            Input::Shutdown => self.handle_shutdown(),
        }
        self.advance(now, fresh, actions);
        self.arm_deadline(actions);
    }
}

impl ClientSession {
    /// Creates a session before the first input.
    #[must_use]
    pub fn new(settings: Arc<ClientSettings>) -> Self {
        Self {
            reply_reader: ReplyReader::new(settings.reply_line_bytes_max, settings.reply_lines_max),
            settings,
            phase: ClientPhase::Setup,
            pending_question: None,
            capabilities: ServerCapabilities::default(),
            tls: None,
            tls_handshake: false,
            transaction_count: 0,
            input_buffer: InputBuffer::default(),
            expected_replies: VecDeque::new(),
            jobs: VecDeque::new(),
            outcomes: VecDeque::new(),
            disconnect_reason: None,
            must_reset: false,
            deadline: Monotonic::default(),
            deadline_armed: Monotonic::default(),
        }
    }

    /// Returns the capabilities announced by the server.
    #[must_use]
    pub fn capabilities(&self) -> &ServerCapabilities {
        &self.capabilities
    }

    /// Returns the TLS session, if the connection is encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// Octets of input held in memory: less than a reply and one input together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.reply_reader.held_bytes() + self.input_buffer.unread().len()
    }

    /// Advances the session until a question is open or more input is needed.
    fn advance(&mut self, now: Monotonic, fresh: &[u8], actions: &mut Actions) {
        let mut backlog = mem::take(&mut self.input_buffer);
        if !backlog.unread().is_empty() {
            backlog.append(fresh);
        }
        let from_backlog = !backlog.unread().is_empty();
        let mut input = if from_backlog { backlog.unread() } else { fresh };
        while self.pending_question.is_none() && self.advance_once(now, &mut input, actions) {}
        if from_backlog {
            let left = input.len();
            backlog.retain_last(left);
            self.input_buffer = backlog;
        } else {
            self.input_buffer.append(input);
        }
    }

    /// Performs the first step due; `false` if no step is possible.
    fn advance_once(&mut self, now: Monotonic, input: &mut &[u8], actions: &mut Actions) -> bool {
        if let Some(outcome) = self.outcomes.pop_front() {
            self.ask(ClientQuestion::Outcome(outcome), PendingClientQuestion::Outcome, actions);
            return false;
        }
        if self.phase == ClientPhase::Closing {
            self.phase = ClientPhase::Closed;
            *input = &[];
            actions.push(Action::Close);
            return false;
        }
        let body_of = self.jobs.front().filter(|t| matches!(t.state, TransferState::Body(_))).map(|t| t.job.id);
        let idle = self.jobs.is_empty() && self.expected_replies.is_empty();
        match (self.disconnect_reason.take(), body_of) {
            // Replies received before the end of the connection still count.
            (Some(DisconnectReason::Eof), None) if !idle => match self.reply_reader.next(input) {
                Some(reply) => {
                    self.disconnect_reason = Some(DisconnectReason::Eof);
                    self.handle_reply(now, reply, actions);
                }
                None => self.connection_lost(&DisconnectReason::Eof),
            },
            (Some(reason), _) => self.connection_lost(&reason),
            (None, Some(job)) => {
                self.ask(ClientQuestion::Body { job }, PendingClientQuestion::Body, actions);
                return false;
            }
            (None, None) if idle && self.phase == ClientPhase::Draining => self.send_quit(now, actions),
            (None, None) if idle => {
                self.ask(ClientQuestion::Next { idle: true }, PendingClientQuestion::Next { idle: true }, actions);
                return false;
            }
            (None, None) => match self.reply_reader.next(input) {
                // Input behind the reply to STARTTLS was not encrypted: possibly injected (RFC 3207 §6).
                Some(Ok(reply))
                    if reply.is_positive()
                        && self.expected_replies.front() == Some(&ExpectedReply::StartTls)
                        && !input.is_empty() =>
                {
                    self.connection_lost(&plaintext_after_starttls());
                }
                Some(reply) => self.handle_reply(now, reply, actions),
                None => return false,
            },
        }
        true
    }

    fn handle_answer(&mut self, now: Monotonic, answer: ClientAnswer, actions: &mut Actions) {
        match (self.pending_question.take(), answer) {
            (Some(PendingClientQuestion::Next { idle: true }), ClientAnswer::Job(job)) => {
                self.jobs.push_back(ClientTransaction::new(job));
                match self.phase {
                    ClientPhase::Setup => self.await_reply(now, ExpectedReply::Greeting),
                    ClientPhase::Ready
                    | ClientPhase::Draining
                    | ClientPhase::QuitSent
                    | ClientPhase::Closing
                    | ClientPhase::Closed => self.start_transaction(now, actions),
                }
            }
            (Some(PendingClientQuestion::Next { idle: true }), _) if self.phase == ClientPhase::Setup => {
                self.phase = ClientPhase::Closing
            }
            (Some(PendingClientQuestion::Next { idle: true }), _) => self.send_quit(now, actions),
            (Some(PendingClientQuestion::Next { idle: false }), ClientAnswer::Job(job)) => {
                self.jobs.push_back(ClientTransaction::new(job));
                self.start_transaction(now, actions);
            }
            (Some(PendingClientQuestion::Next { idle: false }), ClientAnswer::Quit) => self.send_quit(now, actions),
            (Some(PendingClientQuestion::Next { idle: false }), _) => {}
            (Some(PendingClientQuestion::Body), ClientAnswer::Body { chunk, last }) => self.send_body(now, chunk, last, actions),
            (Some(PendingClientQuestion::Body), _) => self.disconnect_reason = Some(DisconnectReason::Aborted),
            (Some(PendingClientQuestion::Outcome) | None, _) => {}
        }
    }

    /// Sends the commands of the newest job, or reports at once a job the server can't take.
    fn start_transaction(&mut self, now: Monotonic, actions: &mut Actions) {
        let Some(mut transaction) = self.jobs.pop_back() else { return };
        let job = &transaction.job;
        let verified = self.tls.as_ref().is_some_and(|tls| tls.verified);
        let refused = job.unsupported_by(&self.capabilities, verified);
        if let Some(result) = refused {
            self.report_outcome(job.id, result);
            return;
        }
        let mut out = Vec::with_capacity(128 + 64 * job.recipients.len());
        if mem::take(&mut self.must_reset) {
            out.extend_from_slice(b"RSET\r\n");
            self.expected_replies.push_back(ExpectedReply::Rset);
        }
        if self.capabilities.pipelining {
            job.write_mail(&self.capabilities, &mut out);
            self.expected_replies.push_back(ExpectedReply::Mail);
            for index in 0..job.recipients.len() {
                job.write_rcpt(index, &self.capabilities, &mut out);
                self.expected_replies.push_back(ExpectedReply::Rcpt);
            }
            // A chunk must not be sent before a recipient is known to be accepted (RFC 3030 §2).
            if job.sends_data_command() {
                out.extend_from_slice(b"DATA\r\n");
                self.expected_replies.push_back(ExpectedReply::Data);
            }
        } else if out.is_empty() {
            job.write_mail(&self.capabilities, &mut out);
            self.expected_replies.push_back(ExpectedReply::Mail);
        }
        self.transaction_count += 1;
        // RFC 9422 §4.1: no more transactions than the server allows.
        if self.phase == ClientPhase::Ready && self.capabilities.limits.mail_max.is_some_and(|max| self.transaction_count >= max)
        {
            self.phase = ClientPhase::Draining;
        }
        transaction.state = TransferState::CommandsSent;
        self.jobs.push_back(transaction);
        actions.push(Action::Send(Bytes::from(out)));
        self.update_deadline(now);
    }

    fn send_body(&mut self, now: Monotonic, chunk: Bytes, last: bool, actions: &mut Actions) {
        let Some(ClientTransaction { state, .. }) = self.jobs.front_mut() else { return };
        let TransferState::Body(wire) = state else { return };
        match wire {
            BodyTransfer::Data(stuffer) => {
                let octets = stuffer.stuff(chunk);
                if !octets.is_empty() {
                    actions.push(Action::Send(octets));
                }
                if !last {
                    return self.update_deadline(now);
                }
                actions.push(Action::Send(mem::take(stuffer).finish()));
            }
            BodyTransfer::Bdat => {
                if chunk.is_empty() && !last {
                    return self.update_deadline(now);
                }
                let mark = if last { " LAST" } else { "" };
                actions.push(Action::Send(Bytes::from(format!("BDAT {}{mark}\r\n", chunk.len()))));
                if !chunk.is_empty() {
                    actions.push(Action::Send(chunk));
                }
                if !last {
                    *state = TransferState::ChunkSent;
                    return self.await_reply(now, ExpectedReply::Chunk);
                }
            }
        }
        *state = TransferState::FinalDot;
        self.await_final_replies(now);
        // RFC 2920 §3.1: the next commands may share a group with the end of a message.
        if self.capabilities.pipelining && self.phase == ClientPhase::Ready && self.disconnect_reason.is_none() {
            self.ask(ClientQuestion::Next { idle: false }, PendingClientQuestion::Next { idle: false }, actions);
        }
    }

    /// Expects the replies to the end of a message: one, or in LMTP one for each accepted recipient (RFC 2033 §4.2).
    fn await_final_replies(&mut self, now: Monotonic) {
        let replies = match self.jobs.front() {
            Some(transaction) if self.settings.lmtp => transaction.accepted_count().max(1),
            Some(_) | None => 1,
        };
        for _ in 0..replies {
            self.await_reply(now, ExpectedReply::FinalDot);
        }
    }

    fn handle_reply(&mut self, now: Monotonic, reply: Result<Reply, crate::ReplyParseError>, actions: &mut Actions) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(fault) => return self.connection_lost(&DisconnectReason::Garbage(fault.to_string())),
        };
        let Some(expected) = self.expected_replies.pop_front() else {
            return self.connection_lost(&DisconnectReason::Garbage(format!("unsolicited reply: {reply}")));
        };
        if reply.code() == 421 {
            self.handle_421(expected, reply);
        } else {
            self.handle_expected_reply(now, expected, reply, actions);
        }
        self.update_deadline(now);
    }

    fn handle_expected_reply(&mut self, now: Monotonic, expected: ExpectedReply, reply: Reply, actions: &mut Actions) {
        match (expected, reply.code() / 100) {
            (ExpectedReply::Greeting, 2) => {
                self.capabilities.name = first_word(&reply);
                self.send_ehlo(now, actions);
            }
            (ExpectedReply::Ehlo, 2) => {
                self.capabilities = ServerCapabilities::from_ehlo_reply(&reply);
                self.ehlo_accepted(now, actions);
            }
            (ExpectedReply::Ehlo, 5) if !self.settings.lmtp => self.send_helo_command("HELO", ExpectedReply::Helo, now, actions),
            (ExpectedReply::Helo, 2) => {
                self.capabilities = ServerCapabilities { name: first_word(&reply), ..ServerCapabilities::default() };
                self.ehlo_accepted(now, actions);
            }
            (ExpectedReply::StartTls, 2) => {
                self.tls_handshake = true;
                actions.push(Action::StartTls);
            }
            (ExpectedReply::StartTls, 4 | 5) if self.settings.tls == TlsLevel::May => self.start_first_job(now, actions),
            (ExpectedReply::StartTls, 4 | 5) => self.refuse_without_tls(&TlsUnavailable::Refused(reply), actions),
            (ExpectedReply::Greeting | ExpectedReply::Ehlo | ExpectedReply::Helo, 4 | 5) => {
                actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
                self.refuse_session(&reply);
            }
            (ExpectedReply::Mail, 2 | 4 | 5) => self.mail_answered(reply, actions),
            (ExpectedReply::Rcpt, 2 | 4 | 5) => self.rcpt_answered(reply, actions),
            (ExpectedReply::Data, 3) => self.start_data(now, actions),
            (ExpectedReply::Data, 4 | 5) => {
                self.must_reset = self.jobs.front().is_some_and(|t| t.mail_refused.is_none());
                self.finish_job(&reply);
            }
            (ExpectedReply::Chunk, 2) => self.continue_bdat(),
            (ExpectedReply::Chunk, 4 | 5) => {
                self.must_reset = true;
                self.finish_job(&reply);
            }
            (ExpectedReply::FinalDot, 2 | 4 | 5) => self.final_answered(reply),
            // Any reply will do: after a failed RSET, MAIL fails too.
            (ExpectedReply::Rset, _) => self.send_next_command(ExpectedReply::Rset, actions),
            (ExpectedReply::Quit, _) => self.phase = ClientPhase::Closing,
            (_, _) => {
                self.expected_replies.push_front(expected);
                self.connection_lost(&DisconnectReason::Garbage(format!("a reply that can't stand here: {reply}")));
            }
        }
    }

    fn start_first_job(&mut self, now: Monotonic, actions: &mut Actions) {
        self.phase = ClientPhase::Ready;
        self.start_transaction(now, actions);
    }

    fn mail_answered(&mut self, reply: Reply, actions: &mut Actions) {
        let refused = !reply.is_positive();
        if refused && !self.capabilities.pipelining {
            return self.finish_job(&reply);
        }
        if let Some(transaction) = self.jobs.front_mut() {
            transaction.mail_refused = refused.then_some(reply);
        }
        self.send_next_command(ExpectedReply::Mail, actions);
    }

    fn rcpt_answered(&mut self, reply: Reply, actions: &mut Actions) {
        let Some(transaction) = self.jobs.front_mut() else { return };
        transaction.recipient_refusals.push((!reply.is_positive()).then(|| reply.clone()));
        if transaction.job.probe && reply.is_positive() {
            // A probe has no later reply for the recipient.
            transaction.final_replies.push_back(reply.clone());
        }
        let all = transaction.all_answered();
        let no_recipient = !transaction.has_recipient() && (!self.capabilities.pipelining || transaction.job.uses_bdat());
        if all && (no_recipient || transaction.job.probe) {
            self.must_reset = transaction.mail_refused.is_none();
            return self.finish_job(&reply);
        }
        if all && transaction.job.uses_bdat() {
            transaction.state = TransferState::Body(BodyTransfer::Bdat);
            return;
        }
        self.send_next_command(ExpectedReply::Rcpt, actions);
    }

    /// Continues with the next chunk after a positive reply to BDAT.
    fn continue_bdat(&mut self) {
        if let Some(transaction) = self.jobs.front_mut() {
            transaction.state = TransferState::Body(BodyTransfer::Bdat);
        }
    }

    /// Handles a final reply. In LMTP the last of the final replies ends the job.
    fn final_answered(&mut self, reply: Reply) {
        if self.expected_replies.front() == Some(&ExpectedReply::FinalDot)
            && let Some(transaction) = self.jobs.front_mut()
        {
            transaction.final_replies.push_back(reply);
        } else {
            self.finish_job(&reply);
        }
    }

    /// Without PIPELINING: sends the command following the command just answered.
    fn send_next_command(&mut self, answered: ExpectedReply, actions: &mut Actions) {
        if self.capabilities.pipelining {
            return;
        }
        let Some(transaction) = self.jobs.pop_front() else { return };
        let mut out = Vec::new();
        if answered == ExpectedReply::Rset {
            transaction.job.write_mail(&self.capabilities, &mut out);
            self.expected_replies.push_back(ExpectedReply::Mail);
        } else if transaction.job.write_rcpt(transaction.recipient_refusals.len(), &self.capabilities, &mut out) {
            self.expected_replies.push_back(ExpectedReply::Rcpt);
        } else {
            out.extend_from_slice(b"DATA\r\n");
            self.expected_replies.push_back(ExpectedReply::Data);
        }
        self.jobs.push_front(transaction);
        actions.push(Action::Send(Bytes::from(out)));
    }

    fn start_data(&mut self, now: Monotonic, actions: &mut Actions) {
        let Some(transaction) = self.jobs.front_mut() else { return };
        if transaction.has_recipient() {
            transaction.state = TransferState::Body(BodyTransfer::Data(DotStuffer::new()));
        } else {
            transaction.state = TransferState::EmptyBody;
            actions.push(Action::Send(Bytes::from_static(b".\r\n")));
            self.await_reply(now, ExpectedReply::FinalDot);
        }
    }

    /// Completes the front job with its last reply.
    fn finish_job(&mut self, last: &Reply) {
        if let Some(transaction) = self.jobs.pop_front() {
            let (job, result) = transaction.into_result(last);
            self.report_outcome(job, result);
        }
    }

    fn report_outcome(&mut self, job: u64, result: JobResult) {
        self.outcomes.push_back(JobOutcome { job, result, dsn: self.capabilities.dsn });
    }

    fn send_quit(&mut self, now: Monotonic, actions: &mut Actions) {
        self.phase = ClientPhase::QuitSent;
        actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
        self.await_reply(now, ExpectedReply::Quit);
    }

    /// Records the reason for the end of the connection; with a question open the session continues after the answer.
    fn set_disconnect_reason(&mut self, reason: DisconnectReason) {
        self.disconnect_reason.get_or_insert(reason);
    }

    /// Shuts down: completes a message possibly received by the server, begins no other.
    fn handle_shutdown(&mut self) {
        let reached =
            self.jobs.front().is_some_and(|t| !matches!(t.state, TransferState::NotStarted | TransferState::CommandsSent));
        match self.phase {
            ClientPhase::Ready if reached || self.jobs.is_empty() => self.phase = ClientPhase::Draining,
            ClientPhase::Setup | ClientPhase::Ready => self.set_disconnect_reason(DisconnectReason::Shutdown),
            ClientPhase::Draining | ClientPhase::QuitSent | ClientPhase::Closing | ClientPhase::Closed => {}
        }
    }

    fn await_reply(&mut self, now: Monotonic, expected: ExpectedReply) {
        self.expected_replies.push_back(expected);
        self.update_deadline(now);
    }

    /// Sets the deadline for the first reply expected.
    fn update_deadline(&mut self, now: Monotonic) {
        let settings = &self.settings;
        let in_body = self.jobs.front().is_some_and(|t| matches!(t.state, TransferState::Body(_)));
        let time: Duration = match self.expected_replies.front() {
            _ if in_body => settings.config.smtp_data_xfer_timeout,
            Some(ExpectedReply::Greeting) => settings.config.smtp_helo_timeout,
            Some(ExpectedReply::Ehlo | ExpectedReply::Helo) => settings.config.smtp_helo_timeout,
            Some(ExpectedReply::Rset) => settings.rset_timeout,
            Some(ExpectedReply::Mail) => settings.config.smtp_mail_timeout,
            Some(ExpectedReply::Rcpt) => settings.config.smtp_rcpt_timeout,
            Some(ExpectedReply::StartTls) => settings.config.smtp_starttls_timeout,
            None if self.tls_handshake => settings.config.smtp_starttls_timeout,
            Some(ExpectedReply::Data) => settings.config.smtp_data_init_timeout,
            Some(ExpectedReply::Chunk) => settings.config.smtp_data_xfer_timeout,
            Some(ExpectedReply::FinalDot) => settings.config.smtp_data_done_timeout,
            Some(ExpectedReply::Quit) => settings.config.smtp_quit_timeout,
            None => return,
        };
        self.deadline = now + time;
    }

    fn ask(&mut self, question: ClientQuestion, asked: PendingClientQuestion, actions: &mut Actions) {
        self.pending_question = Some(asked);
        actions.push(Action::Ask(question));
    }

    fn arm_deadline(&mut self, actions: &mut Actions) {
        if self.deadline != self.deadline_armed && self.phase != ClientPhase::Closed {
            self.deadline_armed = self.deadline;
            actions.push(Action::WakeAt(self.deadline));
        }
    }
}
