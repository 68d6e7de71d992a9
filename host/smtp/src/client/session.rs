//! The states of a client session.

use std::collections::VecDeque;
use std::io::Write as _;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Action, Input, Monotonic, Reply, Session};

use super::transaction::{Progress, Transaction};
use super::{Answer, ClientSettings, Job, JobResult, LostReason, Outcome, Question, ServerInfo, SizeLimit, Stage};
use crate::backlog::Backlog;
use crate::reply::ReplyReader;
use crate::stuff::DotStuffer;

type Actions = Vec<Action<Question>>;

/// One connection to a server, for any number of jobs, of which at most two are under way: one whose body or final reply is
/// on its way, and one whose commands were sent behind that body.
///
/// Memory: a reply, what one input held behind the octets that opened a question, and the jobs as the host gave them.
#[derive(Debug)]
pub struct ClientSession {
    settings: Arc<ClientSettings>,
    phase: Phase,
    asked: Option<Asked>,
    server: ServerInfo,
    replies: ReplyReader,
    backlog: Backlog,
    /// Commands sent and not answered.
    awaited: VecDeque<Awaited>,
    jobs: VecDeque<Transaction>,
    outcomes: VecDeque<Outcome>,
    /// What ended the connection while a question was open.
    doomed: Option<LostReason>,
    /// The server has a transaction open that came to nothing.
    must_reset: bool,
    deadline: Monotonic,
    deadline_told: Monotonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the server has taken EHLO or HELO.
    Opening,
    Ready,
    /// No more jobs: QUIT once nothing is under way.
    Leaving,
    /// QUIT was sent.
    Quitting,
    /// Closes once every outcome was told.
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
    Rset,
    Mail,
    Rcpt,
    Data,
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
            Input::Bytes(bytes) if self.asked.is_some() => self.backlog.keep(bytes),
            Input::Bytes(bytes) => fresh = bytes,
            Input::Answer(answer) => self.answered(now, answer, actions),
            Input::Tick if now >= self.deadline => self.ended(LostReason::TimedOut),
            Input::Tick => self.deadline_told = Monotonic::default(),
            Input::Eof => self.ended(LostReason::Eof),
            Input::Secured(_) => {}
            Input::Shutdown => self.shut_down(),
        }
        self.pump(now, fresh, actions);
        self.tell_deadline(actions);
    }
}

impl ClientSession {
    /// A session before its first input.
    #[must_use]
    pub fn new(settings: Arc<ClientSettings>) -> Self {
        Self {
            replies: ReplyReader::new(settings.reply_line_bytes_max, settings.reply_lines_max),
            settings,
            phase: Phase::Opening,
            asked: None,
            server: ServerInfo::default(),
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

    /// What the server said of itself.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// Octets of input that are held: less than a reply and one input together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.replies.held() + self.backlog.rest().len()
    }

    /// Goes on until a question is open or input is wanted. Each turn does the first thing that is due.
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

    /// One turn; `false` when nothing more can be done.
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
            // Replies that came before the end of the connection still count.
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

    /// Sends the newest job's commands, or tells at once why not.
    fn begin(&mut self, now: Monotonic, actions: &mut Actions) {
        let Some(mut transaction) = self.jobs.pop_back() else { return };
        let job = &transaction.job;
        let limit = match self.server.size {
            Some(SizeLimit::Octets(limit)) => limit,
            Some(SizeLimit::Unstated) | None => u64::MAX,
        };
        let refused = if job.recipients.is_empty() {
            Some(JobResult::Replied(Vec::new()))
        } else if job.eight_bit && !self.server.eight_bit_mime {
            Some(JobResult::EightBitUnsupported)
        } else if job.size > limit {
            Some(JobResult::TooLarge { server_limit: limit })
        } else {
            None
        };
        if let Some(result) = refused {
            self.outcomes.push_back(Outcome { job: job.id, result });
            return;
        }
        let mut out = Vec::with_capacity(128 + 64 * job.recipients.len());
        if mem::take(&mut self.must_reset) {
            out.extend_from_slice(b"RSET\r\n");
            self.awaited.push_back(Awaited::Rset);
        }
        if self.server.pipelining {
            self.write_mail(&mut out, job);
            for recipient in &job.recipients {
                let _ = write!(out, "RCPT TO:<{recipient}>\r\n");
                self.awaited.push_back(Awaited::Rcpt);
            }
            out.extend_from_slice(b"DATA\r\n");
            self.awaited.push_back(Awaited::Data);
        } else if out.is_empty() {
            self.write_mail(&mut out, job);
        }
        transaction.state = Progress::Commands;
        self.jobs.push_back(transaction);
        actions.push(Action::Send(Bytes::from(out)));
        self.arm(now);
    }

    fn write_mail(&mut self, out: &mut Vec<u8>, job: &Job) {
        let _ = write!(out, "MAIL FROM:<{}>", job.sender);
        if self.server.size.is_some() {
            let _ = write!(out, " SIZE={}", job.size);
        }
        if self.server.eight_bit_mime && job.eight_bit {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        out.extend_from_slice(b"\r\n");
        self.awaited.push_back(Awaited::Mail);
    }

    fn body(&mut self, now: Monotonic, chunk: Bytes, last: bool, actions: &mut Actions) {
        let Some(Transaction { state, .. }) = self.jobs.front_mut() else { return };
        let Progress::Body(stuffer) = state else { return };
        let wire = stuffer.stuff(chunk);
        if !wire.is_empty() {
            actions.push(Action::Send(wire));
        }
        if !last {
            return self.arm(now);
        }
        actions.push(Action::Send(mem::take(stuffer).end()));
        *state = Progress::FinalDot;
        self.await_reply(now, Awaited::FinalDot);
        // RFC 2920 §3.1: the next commands may stand in one group with the end of a message.
        if self.server.pipelining && self.phase == Phase::Ready && self.doomed.is_none() {
            self.ask(Question::Next { idle: false }, Asked::Next { idle: false }, actions);
        }
    }

    fn reply(&mut self, now: Monotonic, reply: Result<Reply, crate::ReplyFault>, actions: &mut Actions) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(fault) => return self.lose(&LostReason::Garbage(fault.to_string())),
        };
        let Some(awaited) = self.awaited.pop_front() else {
            return self.lose(&LostReason::Garbage(format!("a reply that nothing asked for: {reply}")));
        };
        if reply.code() == 421 {
            self.closing(awaited, reply);
        } else {
            self.expected(now, awaited, reply, actions);
        }
        self.arm(now);
    }

    /// 421: the server closes. Before the transaction it says nothing about the message.
    fn closing(&mut self, awaited: Awaited, reply: Reply) {
        match awaited {
            Awaited::Greeting | Awaited::Ehlo | Awaited::Helo => self.refuse_session(&reply),
            Awaited::Mail | Awaited::Rset => self.awaited.push_front(awaited),
            Awaited::Rcpt | Awaited::Data | Awaited::FinalDot => self.finish(&reply),
            Awaited::Quit => self.phase = Phase::Ending,
        }
        self.lose(&LostReason::Closing(reply));
    }

    fn expected(&mut self, now: Monotonic, awaited: Awaited, reply: Reply, actions: &mut Actions) {
        match (awaited, reply.code() / 100) {
            (Awaited::Greeting, 2) => {
                self.server.name = first_word(&reply);
                self.hello("EHLO", Awaited::Ehlo, now, actions);
            }
            (Awaited::Ehlo, 2) => {
                self.learn(&reply);
                self.ready(now, actions);
            }
            (Awaited::Ehlo, 5) => self.hello("HELO", Awaited::Helo, now, actions),
            (Awaited::Helo, 2) => {
                self.server = ServerInfo { name: first_word(&reply), ..ServerInfo::default() };
                self.ready(now, actions);
            }
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
            (Awaited::FinalDot, 2 | 4 | 5) => self.finish(&reply),
            // Whatever it says: if it failed, MAIL fails too.
            (Awaited::Rset, _) => self.next_single(Awaited::Rset, actions),
            (Awaited::Quit, _) => self.phase = Phase::Ending,
            (_, _) => {
                self.awaited.push_front(awaited);
                self.lose(&LostReason::Garbage(format!("a reply that can't stand here: {reply}")));
            }
        }
    }

    fn hello(&mut self, verb: &str, awaited: Awaited, now: Monotonic, actions: &mut Actions) {
        actions.push(Action::Send(Bytes::from(format!("{verb} {}\r\n", self.settings.helo_name))));
        self.await_reply(now, awaited);
    }

    fn learn(&mut self, reply: &Reply) {
        let mut server = ServerInfo { name: first_word(reply), esmtp: true, ..ServerInfo::default() };
        for line in reply.text().split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => server.pipelining = true,
                "8BITMIME" => server.eight_bit_mime = true,
                "SIZE" => {
                    let limit = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                    server.size = Some(limit.map_or(SizeLimit::Unstated, SizeLimit::Octets));
                }
                _ => {}
            }
        }
        self.server = server;
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
        let all = transaction.recipients.len() + 1 == transaction.job.recipients.len();
        transaction.recipients.push((!reply.is_positive()).then(|| reply.clone()));
        if all && !transaction.has_recipient() && !self.server.pipelining {
            self.must_reset = true;
            return self.finish(&reply);
        }
        self.next_single(Awaited::Rcpt, actions);
    }

    /// Without PIPELINING: the command that follows the one that was answered.
    fn next_single(&mut self, answered: Awaited, actions: &mut Actions) {
        if self.server.pipelining {
            return;
        }
        let Some(transaction) = self.jobs.pop_front() else { return };
        let mut out = Vec::new();
        if answered == Awaited::Rset {
            self.write_mail(&mut out, &transaction.job);
        } else if let Some(recipient) = transaction.job.recipients.get(transaction.recipients.len()) {
            let _ = write!(out, "RCPT TO:<{recipient}>\r\n");
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
            transaction.state = Progress::Body(DotStuffer::new());
        } else {
            transaction.state = Progress::EmptyBody;
            actions.push(Action::Send(Bytes::from_static(b".\r\n")));
            self.await_reply(now, Awaited::FinalDot);
        }
    }

    /// The front job is through.
    fn finish(&mut self, last: &Reply) {
        if let Some(transaction) = self.jobs.pop_front() {
            let (job, result) = transaction.replied(last);
            self.outcomes.push_back(Outcome { job, result });
        }
    }

    fn refuse_session(&mut self, reply: &Reply) {
        self.phase = Phase::Ending;
        while let Some(transaction) = self.jobs.pop_front() {
            let result = JobResult::RefusedSession(reply.clone());
            self.outcomes.push_back(Outcome { job: transaction.job.id, result });
        }
    }

    fn quit(&mut self, now: Monotonic, actions: &mut Actions) {
        self.phase = Phase::Quitting;
        actions.push(Action::Send(Bytes::from_static(b"QUIT\r\n")));
        self.await_reply(now, Awaited::Quit);
    }

    /// The connection is of no more use; with a question open the session goes on at its answer.
    fn ended(&mut self, reason: LostReason) {
        self.doomed.get_or_insert(reason);
    }

    /// Finishes what may have reached the server, begins nothing.
    fn shut_down(&mut self) {
        let reached = self.jobs.front().is_some_and(|t| !matches!(t.state, Progress::Waiting | Progress::Commands));
        match self.phase {
            Phase::Ready if reached || self.jobs.is_empty() => self.phase = Phase::Leaving,
            Phase::Opening | Phase::Ready => self.ended(LostReason::Shutdown),
            Phase::Leaving | Phase::Quitting | Phase::Ending | Phase::Closed => {}
        }
    }

    fn lose(&mut self, reason: &LostReason) {
        let awaited = self.awaited_stage();
        self.awaited.clear();
        self.phase = Phase::Ending;
        for (nth, transaction) in mem::take(&mut self.jobs).into_iter().enumerate() {
            if let Progress::EmptyBody = transaction.state {
                // Every recipient has its refusal; what became of the empty message does not matter.
                let (job, result) = transaction.replied(&Reply::fixed(451, (4, 4, 2), "Connection lost"));
                self.outcomes.push_back(Outcome { job, result });
                continue;
            }
            let result = JobResult::Lost {
                stage: transaction.stage(if nth == 0 { awaited } else { Stage::Mail }),
                sent_anything: transaction.sent_anything(),
                final_dot_sent: transaction.final_dot_sent(),
                reason: reason.clone(),
            };
            self.outcomes.push_back(Outcome { job: transaction.job.id, result });
        }
    }

    fn awaited_stage(&self) -> Stage {
        match self.awaited.front() {
            Some(Awaited::Greeting) => Stage::Greeting,
            Some(Awaited::Ehlo | Awaited::Helo) => Stage::Helo,
            Some(Awaited::Rcpt) => Stage::Rcpt,
            Some(Awaited::Data) => Stage::DataInit,
            Some(Awaited::FinalDot) => Stage::DataDone,
            Some(Awaited::Mail | Awaited::Rset | Awaited::Quit) | None => Stage::Mail,
        }
    }

    fn await_reply(&mut self, now: Monotonic, awaited: Awaited) {
        self.awaited.push_back(awaited);
        self.arm(now);
    }

    /// Sets the deadline for what is awaited first.
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
            Some(Awaited::Data) => settings.data_init_timeout,
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

fn first_word(reply: &Reply) -> String {
    reply.text().split_ascii_whitespace().next().unwrap_or_default().to_owned()
}
