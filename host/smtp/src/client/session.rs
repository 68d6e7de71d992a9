//! State machine of a client session.

mod losses;
mod opening;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Action, Input, Monotonic, Reply, Session, TlsLevel, TlsSession};

use losses::in_the_clear;

use super::server_info::first_word;
use super::transaction::{Progress, Transaction, Wire};
use super::{Answer, ClientSettings, JobResult, LostReason, NoTls, Outcome, Question, ServerInfo};
use crate::backlog::Backlog;
use crate::reply::ReplyReader;
use crate::stuff::DotStuffer;

type Actions = Vec<Action<Question>>;

/// SMTP or LMTP client session on one connection, for any number of jobs. At most two jobs are in progress: one sending
/// a body or awaiting the final reply, and one with commands pipelined behind the body.
///
/// Memory: a reply, the rest of the input that led to an open question, and the jobs as given by the host.
#[derive(Debug)]
pub struct ClientSession {
    settings: Arc<ClientSettings>,
    phase: Phase,
    asked: Option<Asked>,
    server: ServerInfo,
    /// TLS session of an encrypted connection.
    tls: Option<TlsSession>,
    /// The TLS handshake was requested and is not complete.
    shaking_hands: bool,
    /// Number of transactions begun.
    mails: usize,
    replies: ReplyReader,
    backlog: Backlog,
    /// Replies expected for the commands sent, in order.
    awaited: VecDeque<Awaited>,
    jobs: VecDeque<Transaction>,
    outcomes: VecDeque<Outcome>,
    /// Reason for the end of the connection, recorded while a question was open.
    doomed: Option<LostReason>,
    /// The server has an unfinished transaction open: RSET must precede the next MAIL.
    must_reset: bool,
    deadline: Monotonic,
    deadline_told: Monotonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the server has accepted EHLO or HELO.
    Opening,
    Ready,
    /// No more jobs: QUIT follows once nothing is in progress.
    Leaving,
    /// QUIT was sent.
    Quitting,
    /// Closes once every outcome is reported.
    Ending,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Next { idle: bool },
    Body,
    Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
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
    type Question = Question;
    type Answer = Answer;

    fn step(&mut self, now: Monotonic, input: Input<'_, Answer>, actions: &mut Actions) {
        if self.phase == Phase::Closed {
            return;
        }
        let mut fresh: &[u8] = &[];
        match input {
            Input::Start => self.ask(Question::Next { idle: true }, Asked::Next { idle: true }, actions),
            Input::Bytes(_) if self.shaking_hands => self.ended(in_the_clear()),
            Input::Bytes(bytes) if self.asked.is_some() => self.backlog.keep(bytes),
            Input::Bytes(bytes) => fresh = bytes,
            Input::Answer(answer) => self.answered(now, answer, actions),
            Input::Tick if now >= self.deadline => self.ended(LostReason::TimedOut),
            Input::Tick => self.deadline_told = Monotonic::default(),
            Input::Eof => self.ended(LostReason::Eof),
            Input::Secured(tls) => self.secured(now, tls, actions),
            Input::Shutdown => self.shut_down(),
        }
        self.pump(now, fresh, actions);
        self.tell_deadline(actions);
    }
}

impl ClientSession {
    /// Creates a session before the first input.
    #[must_use]
    pub fn new(settings: Arc<ClientSettings>) -> Self {
        Self {
            replies: ReplyReader::new(settings.reply_line_bytes_max, settings.reply_lines_max),
            settings,
            phase: Phase::Opening,
            asked: None,
            server: ServerInfo::default(),
            tls: None,
            shaking_hands: false,
            mails: 0,
            backlog: Backlog::default(),
            awaited: VecDeque::new(),
            jobs: VecDeque::new(),
            outcomes: VecDeque::new(),
            doomed: None,
            must_reset: false,
            deadline: Monotonic::default(),
            deadline_told: Monotonic::default(),
        }
    }

    /// Returns the capabilities announced by the server.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// Returns the TLS session, if the connection is encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// Octets of input held in memory: less than a reply and one input together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.replies.held() + self.backlog.rest().len()
    }

    /// Advances the session until a question is open or more input is needed.
    fn pump(&mut self, now: Monotonic, fresh: &[u8], actions: &mut Actions) {
        let mut backlog = mem::take(&mut self.backlog);
        if !backlog.rest().is_empty() {
            backlog.keep(fresh);
        }
        let from_backlog = !backlog.rest().is_empty();
        let mut input = if from_backlog { backlog.rest() } else { fresh };
        while self.asked.is_none() && self.turn(now, &mut input, actions) {}
        if from_backlog {
            let left = input.len();
            backlog.leave(left);
            self.backlog = backlog;
        } else {
            self.backlog.keep(input);
        }
    }

    /// Performs the first step due; `false` if no step is possible.
    fn turn(&mut self, now: Monotonic, input: &mut &[u8], actions: &mut Actions) -> bool {
        if let Some(outcome) = self.outcomes.pop_front() {
            self.ask(Question::Outcome(outcome), Asked::Outcome, actions);
            return false;
        }
        if self.phase == Phase::Ending {
            self.phase = Phase::Closed;
            *input = &[];
            actions.push(Action::Close);
            return false;
        }
        let body_of = self.jobs.front().filter(|t| matches!(t.state, Progress::Body(_))).map(|t| t.job.id);
        let idle = self.jobs.is_empty() && self.awaited.is_empty();
        match (self.doomed.take(), body_of) {
            // Replies received before the end of the connection still count.
            (Some(LostReason::Eof), None) if !idle => match self.replies.next(input) {
                Some(reply) => {
                    self.doomed = Some(LostReason::Eof);
                    self.reply(now, reply, actions);
                }
                None => self.lose(&LostReason::Eof),
            },
            (Some(reason), _) => self.lose(&reason),
            (None, Some(job)) => {
                self.ask(Question::Body { job }, Asked::Body, actions);
                return false;
            }
            (None, None) if idle && self.phase == Phase::Leaving => self.quit(now, actions),
            (None, None) if idle => {
                self.ask(Question::Next { idle: true }, Asked::Next { idle: true }, actions);
                return false;
            }
            (None, None) => match self.replies.next(input) {
                // Input behind the reply to STARTTLS was not encrypted: possibly injected (RFC 3207 §6).
                Some(Ok(reply))
                    if reply.is_positive() && self.awaited.front() == Some(&Awaited::StartTls) && !input.is_empty() =>
                {
                    self.lose(&in_the_clear());
                }
                Some(reply) => self.reply(now, reply, actions),
                None => return false,
            },
        }
        true
    }

    fn answered(&mut self, now: Monotonic, answer: Answer, actions: &mut Actions) {
        match (self.asked.take(), answer) {
            (Some(Asked::Next { idle: true }), Answer::Job(job)) => {
                self.jobs.push_back(Transaction::new(job));
                match self.phase {
                    Phase::Opening => self.await_reply(now, Awaited::Greeting),
                    Phase::Ready | Phase::Leaving | Phase::Quitting | Phase::Ending | Phase::Closed => self.begin(now, actions),
                }
            }
            (Some(Asked::Next { idle: true }), _) if self.phase == Phase::Opening => self.phase = Phase::Ending,
            (Some(Asked::Next { idle: true }), _) => self.quit(now, actions),
            (Some(Asked::Next { idle: false }), Answer::Job(job)) => {
                self.jobs.push_back(Transaction::new(job));
                self.begin(now, actions);
            }
            (Some(Asked::Next { idle: false }), Answer::Quit) => self.quit(now, actions),
            (Some(Asked::Next { idle: false }), _) => {}
            (Some(Asked::Body), Answer::Body { chunk, last }) => self.body(now, chunk, last, actions),
            (Some(Asked::Body), _) => self.doomed = Some(LostReason::Aborted),
            (Some(Asked::Outcome) | None, _) => {}
        }
    }

    /// Sends the commands of the newest job, or reports at once a job the server can't take.
    fn begin(&mut self, now: Monotonic, actions: &mut Actions) {
        let Some(mut transaction) = self.jobs.pop_back() else { return };
        let job = &transaction.job;
        let verified = self.tls.as_ref().is_some_and(|tls| tls.verified);
        let refused = job.refused_by(&self.server, verified);
        if let Some(result) = refused {
            self.tell(job.id, result);
            return;
        }
        let mut out = Vec::with_capacity(128 + 64 * job.recipients.len());
        if mem::take(&mut self.must_reset) {
            out.extend_from_slice(b"RSET\r\n");
            self.awaited.push_back(Awaited::Rset);
        }
        if self.server.pipelining {
            job.write_mail(&self.server, &mut out);
            self.awaited.push_back(Awaited::Mail);
            for index in 0..job.recipients.len() {
                job.write_rcpt(index, &self.server, &mut out);
                self.awaited.push_back(Awaited::Rcpt);
            }
            // A chunk must not be sent before a recipient is known to be accepted (RFC 3030 §2).
            if job.asks_for_data() {
                out.extend_from_slice(b"DATA\r\n");
                self.awaited.push_back(Awaited::Data);
            }
        } else if out.is_empty() {
            job.write_mail(&self.server, &mut out);
            self.awaited.push_back(Awaited::Mail);
        }
        self.mails += 1;
        // RFC 9422 §4.1: no more transactions than the server allows.
        if self.phase == Phase::Ready && self.server.limits.mail_max.is_some_and(|max| self.mails >= max) {
            self.phase = Phase::Leaving;
        }
        transaction.state = Progress::Commands;
        self.jobs.push_back(transaction);
        actions.push(Action::Send(Bytes::from(out)));
        self.arm(now);
    }

    fn body(&mut self, now: Monotonic, chunk: Bytes, last: bool, actions: &mut Actions) {
        let Some(Transaction { state, .. }) = self.jobs.front_mut() else { return };
        let Progress::Body(wire) = state else { return };
        match wire {
            Wire::Dots(stuffer) => {
                let octets = stuffer.stuff(chunk);
                if !octets.is_empty() {
                    actions.push(Action::Send(octets));
                }
                if !last {
                    return self.arm(now);
                }
                actions.push(Action::Send(mem::take(stuffer).end()));
            }
            Wire::Chunks => {
                if chunk.is_empty() && !last {
                    return self.arm(now);
                }
                let mark = if last { " LAST" } else { "" };
                actions.push(Action::Send(Bytes::from(format!("BDAT {}{mark}\r\n", chunk.len()))));
                if !chunk.is_empty() {
                    actions.push(Action::Send(chunk));
                }
                if !last {
                    *state = Progress::ChunkSent;
                    return self.await_reply(now, Awaited::Chunk);
                }
            }
        }
        *state = Progress::FinalDot;
        self.await_final(now);
        // RFC 2920 §3.1: the next commands may share a group with the end of a message.
        if self.server.pipelining && self.phase == Phase::Ready && self.doomed.is_none() {
            self.ask(Question::Next { idle: false }, Asked::Next { idle: false }, actions);
        }
    }

    /// Expects the replies to the end of a message: one, or in LMTP one for each accepted recipient (RFC 2033 §4.2).
    fn await_final(&mut self, now: Monotonic) {
        let replies = match self.jobs.front() {
            Some(transaction) if self.settings.lmtp => transaction.taken().max(1),
            Some(_) | None => 1,
        };
        for _ in 0..replies {
            self.await_reply(now, Awaited::FinalDot);
        }
    }

    fn reply(&mut self, now: Monotonic, reply: Result<Reply, crate::ReplyFault>, actions: &mut Actions) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(fault) => return self.lose(&LostReason::Garbage(fault.to_string())),
        };
        let Some(awaited) = self.awaited.pop_front() else {
            return self.lose(&LostReason::Garbage(format!("unsolicited reply: {reply}")));
        };
        if reply.code() == 421 {
            self.closing(awaited, reply);
        } else {
            self.expected(now, awaited, reply, actions);
        }
        self.arm(now);
    }

    fn expected(&mut self, now: Monotonic, awaited: Awaited, reply: Reply, actions: &mut Actions) {
        match (awaited, reply.code() / 100) {
            (Awaited::Greeting, 2) => {
                self.server.name = first_word(&reply);
                self.hello(now, actions);
            }
            (Awaited::Ehlo, 2) => {
                self.server = ServerInfo::of(&reply);
                self.greeted(now, actions);
            }
            (Awaited::Ehlo, 5) if !self.settings.lmtp => self.say_hello("HELO", Awaited::Helo, now, actions),
            (Awaited::Helo, 2) => {
                self.server = ServerInfo { name: first_word(&reply), ..ServerInfo::default() };
                self.greeted(now, actions);
            }
            (Awaited::StartTls, 2) => {
                self.shaking_hands = true;
                actions.push(Action::StartTls);
            }
            (Awaited::StartTls, 4 | 5) if self.settings.tls == TlsLevel::May => self.ready(now, actions),
            (Awaited::StartTls, 4 | 5) => self.no_tls(&NoTls::Refused(reply), actions),
            (Awaited::Greeting | Awaited::Ehlo | Awaited::Helo, 4 | 5) => {
                actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
                self.refuse_session(&reply);
            }
            (Awaited::Mail, 2 | 4 | 5) => self.mail_answered(reply, actions),
            (Awaited::Rcpt, 2 | 4 | 5) => self.rcpt_answered(reply, actions),
            (Awaited::Data, 3) => self.data_begins(now, actions),
            (Awaited::Data, 4 | 5) => {
                self.must_reset = self.jobs.front().is_some_and(|t| t.mail_refused.is_none());
                self.finish(&reply);
            }
            (Awaited::Chunk, 2) => self.next_chunk(),
            (Awaited::Chunk, 4 | 5) => {
                self.must_reset = true;
                self.finish(&reply);
            }
            (Awaited::FinalDot, 2 | 4 | 5) => self.final_answered(reply),
            // Any reply will do: after a failed RSET, MAIL fails too.
            (Awaited::Rset, _) => self.next_single(Awaited::Rset, actions),
            (Awaited::Quit, _) => self.phase = Phase::Ending,
            (_, _) => {
                self.awaited.push_front(awaited);
                self.lose(&LostReason::Garbage(format!("a reply that can't stand here: {reply}")));
            }
        }
    }

    fn ready(&mut self, now: Monotonic, actions: &mut Actions) {
        self.phase = Phase::Ready;
        self.begin(now, actions);
    }

    fn mail_answered(&mut self, reply: Reply, actions: &mut Actions) {
        let refused = !reply.is_positive();
        if refused && !self.server.pipelining {
            return self.finish(&reply);
        }
        if let Some(transaction) = self.jobs.front_mut() {
            transaction.mail_refused = refused.then_some(reply);
        }
        self.next_single(Awaited::Mail, actions);
    }

    fn rcpt_answered(&mut self, reply: Reply, actions: &mut Actions) {
        let Some(transaction) = self.jobs.front_mut() else { return };
        transaction.recipients.push((!reply.is_positive()).then(|| reply.clone()));
        if transaction.job.probe && reply.is_positive() {
            // A probe has no later reply for the recipient.
            transaction.finals.push_back(reply.clone());
        }
        let all = transaction.all_answered();
        let no_recipient = !transaction.has_recipient() && (!self.server.pipelining || transaction.job.is_chunked());
        if all && (no_recipient || transaction.job.probe) {
            self.must_reset = transaction.mail_refused.is_none();
            return self.finish(&reply);
        }
        if all && transaction.job.is_chunked() {
            transaction.state = Progress::Body(Wire::Chunks);
            return;
        }
        self.next_single(Awaited::Rcpt, actions);
    }

    /// Continues with the next chunk after a positive reply to BDAT.
    fn next_chunk(&mut self) {
        if let Some(transaction) = self.jobs.front_mut() {
            transaction.state = Progress::Body(Wire::Chunks);
        }
    }

    /// Handles a final reply. In LMTP the last of the final replies ends the job.
    fn final_answered(&mut self, reply: Reply) {
        if self.awaited.front() == Some(&Awaited::FinalDot)
            && let Some(transaction) = self.jobs.front_mut()
        {
            transaction.finals.push_back(reply);
        } else {
            self.finish(&reply);
        }
    }

    /// Without PIPELINING: sends the command following the command just answered.
    fn next_single(&mut self, answered: Awaited, actions: &mut Actions) {
        if self.server.pipelining {
            return;
        }
        let Some(transaction) = self.jobs.pop_front() else { return };
        let mut out = Vec::new();
        if answered == Awaited::Rset {
            transaction.job.write_mail(&self.server, &mut out);
            self.awaited.push_back(Awaited::Mail);
        } else if transaction.job.write_rcpt(transaction.recipients.len(), &self.server, &mut out) {
            self.awaited.push_back(Awaited::Rcpt);
        } else {
            out.extend_from_slice(b"DATA\r\n");
            self.awaited.push_back(Awaited::Data);
        }
        self.jobs.push_front(transaction);
        actions.push(Action::Send(Bytes::from(out)));
    }

    fn data_begins(&mut self, now: Monotonic, actions: &mut Actions) {
        let Some(transaction) = self.jobs.front_mut() else { return };
        if transaction.has_recipient() {
            transaction.state = Progress::Body(Wire::Dots(DotStuffer::new()));
        } else {
            transaction.state = Progress::EmptyBody;
            actions.push(Action::Send(Bytes::from_static(b".\r\n")));
            self.await_reply(now, Awaited::FinalDot);
        }
    }

    /// Completes the front job with its last reply.
    fn finish(&mut self, last: &Reply) {
        if let Some(transaction) = self.jobs.pop_front() {
            let (job, result) = transaction.replied(last);
            self.tell(job, result);
        }
    }

    fn tell(&mut self, job: u64, result: JobResult) {
        self.outcomes.push_back(Outcome { job, result, dsn: self.server.dsn });
    }

    fn quit(&mut self, now: Monotonic, actions: &mut Actions) {
        self.phase = Phase::Quitting;
        actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
        self.await_reply(now, Awaited::Quit);
    }

    /// Records the reason for the end of the connection; with a question open the session continues after the answer.
    fn ended(&mut self, reason: LostReason) {
        self.doomed.get_or_insert(reason);
    }

    /// Shuts down: completes a message possibly received by the server, begins no other.
    fn shut_down(&mut self) {
        let reached = self.jobs.front().is_some_and(|t| !matches!(t.state, Progress::Waiting | Progress::Commands));
        match self.phase {
            Phase::Ready if reached || self.jobs.is_empty() => self.phase = Phase::Leaving,
            Phase::Opening | Phase::Ready => self.ended(LostReason::Shutdown),
            Phase::Leaving | Phase::Quitting | Phase::Ending | Phase::Closed => {}
        }
    }

    fn await_reply(&mut self, now: Monotonic, awaited: Awaited) {
        self.awaited.push_back(awaited);
        self.arm(now);
    }

    /// Sets the deadline for the first reply expected.
    fn arm(&mut self, now: Monotonic) {
        let settings = &self.settings;
        let in_body = self.jobs.front().is_some_and(|t| matches!(t.state, Progress::Body(_)));
        let time: Duration = match self.awaited.front() {
            _ if in_body => settings.data_xfer_timeout,
            Some(Awaited::Greeting) => settings.greeting_timeout,
            Some(Awaited::Ehlo | Awaited::Helo) => settings.helo_timeout,
            Some(Awaited::Rset) => settings.rset_timeout,
            Some(Awaited::Mail) => settings.mail_timeout,
            Some(Awaited::Rcpt) => settings.rcpt_timeout,
            Some(Awaited::StartTls) => settings.starttls_timeout,
            None if self.shaking_hands => settings.starttls_timeout,
            Some(Awaited::Data) => settings.data_init_timeout,
            Some(Awaited::Chunk) => settings.data_xfer_timeout,
            Some(Awaited::FinalDot) => settings.data_done_timeout,
            Some(Awaited::Quit) => settings.quit_timeout,
            None => return,
        };
        self.deadline = now + time;
    }

    fn ask(&mut self, question: Question, asked: Asked, actions: &mut Actions) {
        self.asked = Some(asked);
        actions.push(Action::Ask(question));
    }

    fn tell_deadline(&mut self, actions: &mut Actions) {
        if self.deadline != self.deadline_told && self.phase != Phase::Closed {
            self.deadline_told = self.deadline;
            actions.push(Action::WakeAt(self.deadline));
        }
    }
}
