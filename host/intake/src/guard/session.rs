//! Server session wrapped by the limits of the session guard; free of I/O like the session inside.
//!
//! A guarded session delays the greeting, answers in place of intake when a limit is exceeded, delays replies to clients with many errors
//! (tarpit), closes sessions that miss a deadline, and collects data for the session log line. All other input and output passes through
//! unchanged.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use waxwing_net::{RateExceeded, RateKind};
use waxwing_smtp::ServerSession;
use waxwing_smtp::server::{AuthStep, AuthStepAnswer, DropAnswer, MessageAnswer, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_types::{Action, Input, Monotonic, Reply, Session};

use super::session_log::{ClientIdentity, SessionEnd, SessionLog};
use super::{
    Guard, NO_MEMORY, PREGREET, RECIPIENT_BYTES, SESSION_BYTES, TIMED_OUT, TOO_MANY_AUTHS, TOO_MANY_ERRORS, TOO_MANY_HANDSHAKES,
    TOO_MANY_MESSAGES, TOO_MANY_RECIPIENTS,
};

type Actions = Vec<Action<GuardQuestion>>;

/// Question from a guarded session to its session handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardQuestion {
    /// Question of the inner SMTP session.
    Session(ServerQuestion),
    /// Tarpit delay before the withheld replies are sent.
    Delay(Duration),
}

/// Answer from the session handler to a guarded session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardAnswer {
    /// Answer to the inner SMTP session, with the client facts known to the session handler.
    Session(ServerAnswer, Option<ClientIdentity>),
    /// Tarpit delay is over.
    DelayOver,
}

/// SMTP session of a client behind the session guard. Memory beyond the inner session: the withheld replies to a single input.
pub struct GuardedSession {
    guard: Arc<Guard>,
    inner: ServerSession,
    phase: GuardPhase,
    log: SessionLog,
    open_question: OpenQuestion,
    is_exempt: bool,
    /// Negative replies since the last accepted message.
    errors: u32,
    /// Start of the time for the next command: the last reply, plus the time credited for bytes received since.
    deadline_base: Monotonic,
    /// Time of the last check for server stress.
    last_stress_check: Monotonic,
    /// Deadline requested by the inner session.
    inner_deadline: Option<Monotonic>,
    armed_deadline: Option<Monotonic>,
    /// Accepted recipients of the transaction.
    recipients: u64,
    /// Bytes of the message received so far, capped at `header_size_limit`.
    header_bytes: u64,
    /// Bytes added to the shared memory total for this session.
    accounted_bytes: u64,
}

enum GuardPhase {
    /// Before [`Input::Start`]; `Some` holds limit and reply of a refusal.
    New(Option<(String, Reply)>),
    /// Greeting delayed until this time.
    Greeting(Monotonic),
    Open,
    /// Replies withheld until the tarpit delay is over.
    Delaying(Actions),
    Closed,
}

/// Open question of the inner session, as far as the guard needs to interpret the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenQuestion {
    Rcpt,
    Auth,
    Xclient(Option<IpAddr>),
    EndOfData,
    Reset,
    Other,
}

/// Cause of a step of the inner session; determines the logged end if the step closes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepCause {
    Protocol,
    Tick,
    Eof,
    Shutdown,
}

impl Session for GuardedSession {
    type Question = GuardQuestion;
    type Answer = GuardAnswer;

    fn step(&mut self, now: Monotonic, input: Input<'_, GuardAnswer>, actions: &mut Actions) {
        let mut out = Vec::new();
        let is_delay_over = matches!(input, Input::Answer(GuardAnswer::DelayOver));
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Bytes(bytes) => self.on_bytes(now, bytes, &mut out),
            Input::Answer(answer) => self.on_answer(now, answer, &mut out),
            Input::Tick => self.on_tick(now, &mut out),
            Input::Secured(session) => {
                self.log.record_tls(session);
                if let GuardPhase::Greeting(_) = self.phase {
                    self.open(now, &mut out);
                }
                self.step_inner(now, Input::Secured(session), StepCause::Protocol, &mut out);
            }
            Input::Eof => self.on_end(now, Input::Eof, StepCause::Eof, &mut out),
            Input::Shutdown => self.on_end(now, Input::Shutdown, StepCause::Shutdown, &mut out),
        }
        if !is_delay_over {
            self.tarpit(&mut out);
        }
        self.update_memory_total();
        self.arm_deadline(&mut out);
        actions.append(&mut out);
    }
}

impl GuardedSession {
    pub(super) fn new(
        guard: Arc<Guard>,
        inner: ServerSession,
        client: SocketAddr,
        refusal: Option<(String, Reply)>,
        now: Monotonic,
    ) -> Self {
        let notes = SessionLog::new(client, Arc::clone(&guard.listener), now);
        let is_exempt = guard.settings.is_exempt(client.ip());
        let mut session = Self {
            guard,
            inner,
            phase: GuardPhase::New(refusal),
            log: notes,
            open_question: OpenQuestion::Other,
            is_exempt,
            errors: 0,
            deadline_base: now,
            last_stress_check: now,
            inner_deadline: None,
            armed_deadline: None,
            recipients: 0,
            header_bytes: 0,
            accounted_bytes: 0,
        };
        session.update_memory_total();
        session
    }

    /// Returns whether the client is refused at connect; intake takes no part in such a session.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.phase, GuardPhase::New(Some(_)))
    }

    fn client_ip(&self) -> IpAddr {
        self.log.client.ip()
    }

    fn start(&mut self, now: Monotonic, out: &mut Actions) {
        let GuardPhase::New(refusal) = &mut self.phase else { return };
        if let Some((limit, reply)) = refusal.take() {
            return self.refuse_and_close(now, &limit, &reply, out);
        }
        let settings = &self.guard.settings;
        let is_delayed = !settings.greet_wait().is_zero() && !self.is_exempt;
        if is_delayed && !self.guard.state.rates.is_greeted(self.client_ip(), now, settings.config.postscreen_greet_ttl) {
            self.phase = GuardPhase::Greeting(now + settings.greet_wait());
        } else {
            self.open(now, out);
        }
    }

    fn open(&mut self, now: Monotonic, out: &mut Actions) {
        (self.phase, self.deadline_base, self.last_stress_check) = (GuardPhase::Open, now, now);
        self.step_inner(now, Input::Start, StepCause::Protocol, out);
    }

    fn on_bytes(&mut self, now: Monotonic, bytes: &[u8], out: &mut Actions) {
        self.log.octets_in += bytes.len() as u64;
        match self.phase {
            GuardPhase::Greeting(_) => self.refuse_and_close(now, "postscreen_greet_wait", &PREGREET, out),
            GuardPhase::Open => {
                self.deadline_base = self.with_data_rate_credit(now, bytes.len());
                self.step_inner(now, Input::Bytes(bytes), StepCause::Protocol, out);
            }
            GuardPhase::New(_) | GuardPhase::Delaying(_) | GuardPhase::Closed => {}
        }
    }

    /// Credits time for received bytes at the minimum data rate, so that neither a command nor a message can be stretched without limit.
    fn with_data_rate_credit(&self, now: Monotonic, octets: usize) -> Monotonic {
        if !self.guard.settings.config.smtpd_per_request_deadline {
            return now;
        }
        let micros = (octets as u64).saturating_mul(1_000_000) / u64::from(self.guard.settings.config.smtpd_min_data_rate);
        now.min(self.deadline_base + Duration::from_micros(micros))
    }

    fn on_answer(&mut self, now: Monotonic, answer: GuardAnswer, out: &mut Actions) {
        self.deadline_base = now;
        match answer {
            GuardAnswer::DelayOver => {
                // Client may have disconnected during the delay: the session stays closed.
                if let GuardPhase::Delaying(replies) = &mut self.phase {
                    *out = std::mem::take(replies);
                    self.phase = GuardPhase::Open;
                }
            }
            GuardAnswer::Session(answer, identity) => {
                if let Some(identity) = identity {
                    self.log.identity = identity;
                }
                self.record_answer(now, &answer);
                self.step_inner(now, Input::Answer(answer), StepCause::Protocol, out);
            }
        }
    }

    fn on_tick(&mut self, now: Monotonic, out: &mut Actions) {
        self.armed_deadline = None;
        match self.phase {
            GuardPhase::Greeting(until) if now >= until => {
                self.guard.state.rates.mark_greeted(self.client_ip(), now, self.guard.settings.config.postscreen_greet_ttl);
                self.open(now, out);
            }
            GuardPhase::Open if self.inner_deadline.is_some_and(|deadline| now >= deadline) => {
                self.inner_deadline = None;
                self.step_inner(now, Input::Tick, StepCause::Tick, out);
            }
            GuardPhase::Open => self.check_deadlines(now, out),
            GuardPhase::Greeting(_) | GuardPhase::New(_) | GuardPhase::Delaying(_) | GuardPhase::Closed => {}
        }
    }

    fn check_deadlines(&mut self, now: Monotonic, out: &mut Actions) {
        let settings = &self.guard.settings;
        let limit = if settings.config.smtpd_per_request_deadline && now >= self.deadline_base + settings.smtpd_timeout {
            "smtpd_per_request_deadline"
        } else if now >= self.deadline_base + settings.config.smtpd_stress_timeout && self.guard.is_under_stress() {
            "smtpd_stress_timeout"
        } else {
            self.last_stress_check = now;
            return;
        };
        self.refuse_and_close(now, limit, &TIMED_OUT, out);
        self.log.end = SessionEnd::Timeout;
    }

    fn on_end(&mut self, now: Monotonic, input: Input<'_, ServerAnswer>, cause: StepCause, out: &mut Actions) {
        self.log.end = if cause == StepCause::Eof { SessionEnd::Lost } else { SessionEnd::Shutdown };
        match self.phase {
            GuardPhase::Open => self.step_inner(now, input, cause, out),
            GuardPhase::New(_) | GuardPhase::Greeting(_) | GuardPhase::Delaying(_) => {
                self.phase = GuardPhase::Closed;
                out.push(Action::Close);
            }
            GuardPhase::Closed => {}
        }
    }

    /// Runs a step of the inner session and applies limits to the resulting actions.
    fn step_inner(&mut self, now: Monotonic, input: Input<'_, ServerAnswer>, cause: StepCause, out: &mut Actions) {
        let mut inner = Vec::new();
        self.inner.step(now, input, &mut inner);
        // Questions answered by a limit do not reach the session handler.
        while let Some((at, answer)) = self.reject_by_limit(now, &inner) {
            inner.remove(at);
            self.inner.step(now, Input::Answer(answer), &mut inner);
        }
        let mut exceeded = None;
        for action in inner {
            match action {
                Action::Send(octets) => {
                    exceeded = self.record_reply(now, &octets).err().or(exceeded);
                    out.push(Action::Send(octets));
                }
                Action::Ask(question) => {
                    self.record_question(&question);
                    out.push(Action::Ask(GuardQuestion::Session(question)));
                }
                Action::Body(chunk) => {
                    let header_size_limit = self.guard.settings.header_size_limit;
                    self.header_bytes = header_size_limit.min(self.header_bytes + chunk.len() as u64);
                    out.push(Action::Body(chunk));
                }
                Action::WakeAt(deadline) => self.inner_deadline = Some(deadline),
                Action::StartTls => match self.count_rate(now, RateKind::Handshakes) {
                    Ok(()) => out.push(Action::StartTls),
                    Err(exceeded) => {
                        out.pop(); // Reply 220 to STARTTLS
                        return self.refuse_and_close(now, &exceeded.to_string(), &TOO_MANY_HANDSHAKES, out);
                    }
                },
                Action::Close => return self.close(cause, out),
            }
        }
        self.enforce_session_limits(now, exceeded, out);
    }

    /// Ends the session when error or memory limits are exceeded, in any protocol state.
    fn enforce_session_limits(&mut self, now: Monotonic, exceeded: Option<RateExceeded>, out: &mut Actions) {
        let (limit, reply) = if let Some(exceeded) = exceeded {
            (exceeded.to_string(), &TOO_MANY_ERRORS)
        } else if self.errors >= self.guard.settings.config.smtpd_stress_hard_error_limit
            && !self.is_exempt
            && self.guard.is_under_stress()
        {
            ("smtpd_stress_hard_error_limit".to_owned(), &TOO_MANY_ERRORS)
        } else if self.header_bytes > 0 && self.guard.exceeds_memory_limit(self.bytes_held().saturating_sub(self.accounted_bytes))
        {
            ("smtpd_sessions_memory_max".to_owned(), &NO_MEMORY)
        } else {
            return;
        };
        // After the end of a session, questions need no answer and body bytes no reader.
        out.retain(|action| matches!(action, Action::Send(_)));
        self.refuse_and_close(now, &limit, reply, out);
    }

    /// Answer of an exceeded limit to the question in `inner`, with the index of the question.
    fn reject_by_limit(&self, now: Monotonic, inner: &[Action<ServerQuestion>]) -> Option<(usize, ServerAnswer)> {
        let position = inner.iter().enumerate().find_map(|(at, action)| match action {
            Action::Ask(question) => Some((at, question)),
            Action::Send(_) | Action::Body(_) | Action::WakeAt(_) | Action::StartTls | Action::Close => None,
        });
        let (at, question) = position?;
        let (rate, refusal) = match question {
            ServerQuestion::Mail { .. } => (RateKind::Messages, TOO_MANY_MESSAGES),
            ServerQuestion::Rcpt { .. } => (RateKind::Recipients, TOO_MANY_RECIPIENTS),
            ServerQuestion::Auth(AuthStep::Begin(..)) => (RateKind::Auths, TOO_MANY_AUTHS),
            ServerQuestion::Auth(AuthStep::Response(_) | AuthStep::Cancel)
            | ServerQuestion::Connect
            | ServerQuestion::Helo { .. }
            | ServerQuestion::Secured(_)
            | ServerQuestion::Xclient(_)
            | ServerQuestion::Command { .. }
            | ServerQuestion::Data
            | ServerQuestion::EndOfData
            | ServerQuestion::Reset => return None,
        };
        let counted = self.count_rate(now, rate).and_then(|()| match rate {
            RateKind::Auths => self.check_rate(now, RateKind::AuthFailures),
            RateKind::Connections
            | RateKind::Messages
            | RateKind::Recipients
            | RateKind::Errors
            | RateKind::AuthFailures
            | RateKind::Handshakes => Ok(()),
        });
        if let Err(exceeded) = counted {
            self.log_refusal(&exceeded.to_string(), &refusal);
            return Some((at, question.reject_with(refusal)));
        }
        if rate != RateKind::Auths && self.guard.exceeds_memory_limit(RECIPIENT_BYTES) {
            self.log_refusal("smtpd_sessions_memory_max", &NO_MEMORY);
            return Some((at, question.close_with(NO_MEMORY)));
        }
        None
    }

    fn count_rate(&self, now: Monotonic, rate: RateKind) -> Result<(), RateExceeded> {
        match self.is_exempt {
            true => Ok(()),
            false => self.guard.state.rates.count(&self.guard.settings.rates, self.client_ip(), rate, now),
        }
    }

    fn check_rate(&self, now: Monotonic, rate: RateKind) -> Result<(), RateExceeded> {
        match self.is_exempt {
            true => Ok(()),
            false => self.guard.state.rates.check(&self.guard.settings.rates, self.client_ip(), rate, now),
        }
    }

    fn log_refusal(&self, limit: &str, reply: &Reply) {
        self.guard.count_refusal(limit);
        tracing::info!(target: "smtpd", client = %self.client_ip(), listener = &*self.log.listener, limit, "refused: {reply}");
    }

    /// Sends the refusal reply of a limit and closes the session.
    fn refuse_and_close(&mut self, now: Monotonic, limit: &str, reply: &Reply, out: &mut Actions) {
        // The disconnect line contains the limit already; a second line per refusal would double the log volume of a flood.
        self.guard.count_refusal(limit);
        self.log.limit = Some(limit.to_owned());
        let mut octets = Vec::new();
        reply.write_to(&mut octets);
        // The session ends anyway, whether or not the error rate is exceeded.
        let _ = self.record_reply(now, &octets);
        out.push(Action::Send(Bytes::from(octets)));
        self.close(StepCause::Protocol, out);
    }

    fn close(&mut self, cause: StepCause, out: &mut Actions) {
        self.phase = GuardPhase::Closed;
        if self.log.end == SessionEnd::Aborted {
            self.log.end = match cause {
                StepCause::Protocol => SessionEnd::Closed,
                StepCause::Tick => SessionEnd::Timeout,
                StepCause::Eof => SessionEnd::Lost,
                StepCause::Shutdown => SessionEnd::Shutdown,
            };
        }
        out.push(Action::Close);
    }

    /// Records a reply and restarts the client's command time.
    ///
    /// Errors: the error rate is exceeded by a negative reply.
    fn record_reply(&mut self, now: Monotonic, reply: &[u8]) -> Result<(), RateExceeded> {
        self.deadline_base = now;
        self.log.octets_out += reply.len() as u64;
        match reply.first() {
            Some(b'4' | b'5') => {
                self.log.record_refusal(reply);
                self.errors = self.errors.saturating_add(1);
                self.count_rate(now, RateKind::Errors)
            }
            Some(_) if reply.starts_with(b"221") => {
                self.log.end = SessionEnd::Quit;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn record_question(&mut self, question: &ServerQuestion) {
        self.open_question = match question {
            ServerQuestion::Rcpt { .. } => OpenQuestion::Rcpt,
            ServerQuestion::Auth(_) => OpenQuestion::Auth,
            ServerQuestion::Xclient(attributes) => OpenQuestion::Xclient(xclient_address(attributes)),
            ServerQuestion::EndOfData => OpenQuestion::EndOfData,
            ServerQuestion::Reset => OpenQuestion::Reset,
            ServerQuestion::Helo { name, .. } => {
                self.log.helo = Some(name.clone());
                OpenQuestion::Other
            }
            ServerQuestion::Connect
            | ServerQuestion::Mail { .. }
            | ServerQuestion::Secured(_)
            | ServerQuestion::Command { .. }
            | ServerQuestion::Data => OpenQuestion::Other,
        };
    }

    fn record_answer(&mut self, now: Monotonic, answer: &ServerAnswer) {
        let is_positive = is_positive(answer);
        match self.open_question {
            OpenQuestion::Rcpt if is_positive => {
                self.log.recipients += 1;
                self.recipients += 1;
            }
            OpenQuestion::EndOfData => {
                if is_positive {
                    self.log.messages += 1;
                    self.errors = 0;
                }
                (self.recipients, self.header_bytes) = (0, 0);
            }
            OpenQuestion::Reset => (self.recipients, self.header_bytes) = (0, 0),
            // Replies 4yz reveal nothing about the credentials.
            OpenQuestion::Auth if matches!(answer, ServerAnswer::Auth(AuthStepAnswer::Reject(reply) | AuthStepAnswer::Close(reply)) if reply.code() >= 500) =>
            {
                // The limit refuses the next attempt, not the current answer.
                let _ = self.count_rate(now, RateKind::AuthFailures);
            }
            OpenQuestion::Xclient(Some(address)) if is_positive => {
                self.log.client.set_ip(address);
                self.is_exempt = self.guard.settings.is_exempt(address);
            }
            OpenQuestion::Rcpt | OpenQuestion::Auth | OpenQuestion::Xclient(_) | OpenQuestion::Other => {}
        }
    }

    /// Withholds replies from a client with many errors for `smtpd_error_sleep_time`. During the delay no input is read from the client.
    fn tarpit(&mut self, out: &mut Actions) {
        let settings = &self.guard.settings;
        let is_delayed = self.errors > settings.config.smtpd_soft_error_limit
            && !self.is_exempt
            && !settings.config.smtpd_error_sleep_time.is_zero();
        let has_reply = out.iter().any(|action| matches!(action, Action::Send(_)));
        if !is_delayed || !has_reply || !matches!(self.phase, GuardPhase::Open) || out.contains(&Action::StartTls) {
            return;
        }
        self.phase = GuardPhase::Delaying(std::mem::take(out));
        out.push(Action::Ask(GuardQuestion::Delay(settings.config.smtpd_error_sleep_time)));
    }

    fn bytes_held(&self) -> u64 {
        SESSION_BYTES + self.inner.held_bytes() as u64 + self.recipients * RECIPIENT_BYTES + self.header_bytes
    }

    fn update_memory_total(&mut self) {
        let (held, before) = (self.bytes_held(), self.accounted_bytes);
        self.accounted_bytes = held;
        let memory = &self.guard.state.memory_bytes;
        if held > before {
            memory.fetch_add(held - before, Ordering::Relaxed);
        } else if held < before {
            memory.fetch_sub(before - held, Ordering::Relaxed);
        }
    }

    fn arm_deadline(&mut self, out: &mut Actions) {
        let settings = &self.guard.settings;
        let deadline = match self.phase {
            GuardPhase::Greeting(until) => Some(until),
            GuardPhase::Open if !out.iter().any(|action| matches!(action, Action::Ask(_))) => {
                let request = settings.config.smtpd_per_request_deadline.then(|| self.deadline_base + settings.smtpd_timeout);
                let is_checked = settings.config.smtpd_stress_timeout < settings.smtpd_timeout;
                let stress_check =
                    is_checked.then(|| self.deadline_base.max(self.last_stress_check) + settings.config.smtpd_stress_timeout);
                [self.inner_deadline, request, stress_check].into_iter().flatten().min()
            }
            GuardPhase::Open | GuardPhase::New(_) | GuardPhase::Delaying(_) | GuardPhase::Closed => return,
        };
        if let Some(deadline) = deadline
            && self.armed_deadline != Some(deadline)
        {
            self.armed_deadline = Some(deadline);
            out.push(Action::WakeAt(deadline));
        }
    }
}

impl Drop for GuardedSession {
    /// Writes the session's log line, for any kind of end.
    fn drop(&mut self) {
        self.guard.state.memory_bytes.fetch_sub(self.accounted_bytes, Ordering::Relaxed);
        self.log.write(self.guard.state.clock.monotonic());
    }
}

/// Address of the XCLIENT attribute ADDR, without the `IPV6:` prefix.
fn xclient_address(attributes: &[(String, Option<String>)]) -> Option<IpAddr> {
    let (_, value) = attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case("ADDR"))?;
    let text = value.as_deref()?;
    let bare = if text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("IPV6:")) { text.get(5..)? } else { text };
    bare.parse().ok()
}

fn is_positive(answer: &ServerAnswer) -> bool {
    match answer {
        ServerAnswer::Step(StepAnswer::Reply(reply))
        | ServerAnswer::Message(MessageAnswer::Committed(reply) | MessageAnswer::Discarded(reply)) => reply.is_positive(),
        ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(replies)) => replies.iter().any(Reply::is_positive),
        ServerAnswer::Step(StepAnswer::Ok | StepAnswer::OkWithoutExtensions(_))
        | ServerAnswer::Auth(AuthStepAnswer::Authenticated)
        | ServerAnswer::Drop(DropAnswer::Done) => true,
        ServerAnswer::Step(StepAnswer::Close(_))
        | ServerAnswer::Message(MessageAnswer::Reject(_) | MessageAnswer::Close(_))
        | ServerAnswer::Auth(AuthStepAnswer::Challenge(_) | AuthStepAnswer::Reject(_) | AuthStepAnswer::Close(_))
        | ServerAnswer::Drop(DropAnswer::Close(_)) => false,
    }
}
