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
use waxwing_net::{Over, Rate};
use waxwing_smtp::ServerSession;
use waxwing_smtp::server::{Answer, AuthStep, Question};
use waxwing_types::{Action, Input, Monotonic, Reply, Session};

use super::notes::{End, Known, Notes};
use super::{
    Door, NO_MEMORY, RECIPIENT_BYTES, SESSION_BYTES, SPOKE_FIRST, TOO_MANY_AUTHS, TOO_MANY_ERRORS, TOO_MANY_HANDSHAKES,
    TOO_MANY_RECIPIENTS, TOO_MUCH_MAIL, TOO_SLOW,
};

type Actions = Vec<Action<DoorQuestion>>;

/// Question from a guarded session to its session handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorQuestion {
    /// Question of the inner SMTP session.
    Asked(Question),
    /// Tarpit delay before the withheld replies are sent.
    Rest(Duration),
}

/// Answer from the session handler to a guarded session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorAnswer {
    /// Answer to the inner SMTP session, with the client facts known to the session handler.
    Answered(Answer, Option<Known>),
    /// Tarpit delay is over.
    Rested,
}

/// SMTP session of a client behind the session guard. Memory beyond the inner session: the withheld replies to a single input.
pub struct GuardedSession {
    door: Arc<Door>,
    inner: ServerSession,
    phase: Phase,
    notes: Notes,
    asked: Asked,
    is_exempt: bool,
    /// Negative replies since the last accepted message.
    errors: u32,
    /// Start of the time for the next command: the last reply, plus the time credited for bytes received since.
    base: Monotonic,
    /// Time of the last check for server stress.
    looked: Monotonic,
    /// Deadline requested by the inner session.
    inner_deadline: Option<Monotonic>,
    deadline_told: Option<Monotonic>,
    /// Accepted recipients of the transaction.
    recipients: u64,
    /// Bytes of the message received so far, capped at `header_bytes_max`.
    header_bytes: u64,
    /// Bytes added to the shared memory total for this session.
    accounted: u64,
}

enum Phase {
    /// Before [`Input::Start`]; `Some` holds limit and reply of a refusal.
    New(Option<(String, Reply)>),
    /// Greeting delayed until this time.
    Greeting(Monotonic),
    Open,
    /// Replies withheld until the tarpit delay is over.
    Resting(Actions),
    Closed,
}

/// Open question of the inner session, as far as the guard needs to interpret the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Rcpt,
    Auth,
    Xclient(Option<IpAddr>),
    EndOfData,
    Reset,
    Other,
}

/// Cause of a step of the inner session; determines the logged end if the step closes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Talk,
    Tick,
    Eof,
    Shutdown,
}

impl Session for GuardedSession {
    type Question = DoorQuestion;
    type Answer = DoorAnswer;

    fn step(&mut self, now: Monotonic, input: Input<'_, DoorAnswer>, actions: &mut Actions) {
        let mut out = Vec::new();
        let is_delay_over = matches!(input, Input::Answer(DoorAnswer::Rested));
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Bytes(bytes) => self.bytes(now, bytes, &mut out),
            Input::Answer(answer) => self.answered(now, answer, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::Secured(session) => {
                self.notes.secured(session);
                if let Phase::Greeting(_) = self.phase {
                    self.open(now, &mut out);
                }
                self.run(now, Input::Secured(session), Cause::Talk, &mut out);
            }
            Input::Eof => self.ending(now, Input::Eof, Cause::Eof, &mut out),
            Input::Shutdown => self.ending(now, Input::Shutdown, Cause::Shutdown, &mut out),
        }
        if !is_delay_over {
            self.rest(&mut out);
        }
        self.account();
        self.tell_deadline(&mut out);
        actions.append(&mut out);
    }
}

impl GuardedSession {
    pub(super) fn new(
        door: Arc<Door>,
        inner: ServerSession,
        client: SocketAddr,
        refusal: Option<(String, Reply)>,
        now: Monotonic,
    ) -> Self {
        let notes = Notes::new(client, Arc::clone(&door.listener), now);
        let is_exempt = door.settings.is_exempt(client.ip());
        let mut session = Self {
            door,
            inner,
            phase: Phase::New(refusal),
            notes,
            asked: Asked::Other,
            is_exempt,
            errors: 0,
            base: now,
            looked: now,
            inner_deadline: None,
            deadline_told: None,
            recipients: 0,
            header_bytes: 0,
            accounted: 0,
        };
        session.account();
        session
    }

    /// Returns whether the client is refused at connect; intake takes no part in such a session.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::New(Some(_)))
    }

    fn client(&self) -> IpAddr {
        self.notes.client.ip()
    }

    fn start(&mut self, now: Monotonic, out: &mut Actions) {
        let Phase::New(refusal) = &mut self.phase else { return };
        if let Some((limit, reply)) = refusal.take() {
            return self.refuse(now, &limit, &reply, out);
        }
        let settings = &self.door.settings;
        let is_delayed = !settings.greet_wait.is_zero() && !self.is_exempt;
        if is_delayed && !self.door.shared.rates.is_known_to_wait(self.client(), now, settings.greet_ttl) {
            self.phase = Phase::Greeting(now + settings.greet_wait);
        } else {
            self.open(now, out);
        }
    }

    fn open(&mut self, now: Monotonic, out: &mut Actions) {
        (self.phase, self.base, self.looked) = (Phase::Open, now, now);
        self.run(now, Input::Start, Cause::Talk, out);
    }

    fn bytes(&mut self, now: Monotonic, bytes: &[u8], out: &mut Actions) {
        self.notes.octets_in += bytes.len() as u64;
        match self.phase {
            Phase::Greeting(_) => self.refuse(now, "postscreen_greet_wait", &SPOKE_FIRST, out),
            Phase::Open => {
                self.base = self.earned(now, bytes.len());
                self.run(now, Input::Bytes(bytes), Cause::Talk, out);
            }
            Phase::New(_) | Phase::Resting(_) | Phase::Closed => {}
        }
    }

    /// Credits time for received bytes at the minimum data rate, so that neither a command nor a message can be stretched without limit.
    fn earned(&self, now: Monotonic, octets: usize) -> Monotonic {
        if !self.door.settings.per_request_deadline {
            return now;
        }
        let micros = (octets as u64).saturating_mul(1_000_000) / u64::from(self.door.settings.data_rate_min);
        now.min(self.base + Duration::from_micros(micros))
    }

    fn answered(&mut self, now: Monotonic, answer: DoorAnswer, out: &mut Actions) {
        self.base = now;
        match answer {
            DoorAnswer::Rested => {
                // Client may have disconnected during the delay: the session stays closed.
                if let Phase::Resting(replies) = &mut self.phase {
                    *out = std::mem::take(replies);
                    self.phase = Phase::Open;
                }
            }
            DoorAnswer::Answered(answer, identity) => {
                if let Some(identity) = identity {
                    self.notes.known = identity;
                }
                self.note_answer(now, &answer);
                self.run(now, Input::Answer(answer), Cause::Talk, out);
            }
        }
    }

    fn tick(&mut self, now: Monotonic, out: &mut Actions) {
        self.deadline_told = None;
        match self.phase {
            Phase::Greeting(until) if now >= until => {
                self.door.shared.rates.has_waited(self.client(), now, self.door.settings.greet_ttl);
                self.open(now, out);
            }
            Phase::Open if self.inner_deadline.is_some_and(|deadline| now >= deadline) => {
                self.inner_deadline = None;
                self.run(now, Input::Tick, Cause::Tick, out);
            }
            Phase::Open => self.look_at_time(now, out),
            Phase::Greeting(_) | Phase::New(_) | Phase::Resting(_) | Phase::Closed => {}
        }
    }

    fn look_at_time(&mut self, now: Monotonic, out: &mut Actions) {
        let settings = &self.door.settings;
        let limit = if settings.per_request_deadline && now >= self.base + settings.timeout {
            "smtpd_per_request_deadline"
        } else if now >= self.base + settings.stress_timeout && self.door.is_under_stress() {
            "smtpd_stress_timeout"
        } else {
            self.looked = now;
            return;
        };
        self.refuse(now, limit, &TOO_SLOW, out);
        self.notes.end = End::Timeout;
    }

    fn ending(&mut self, now: Monotonic, input: Input<'_, Answer>, cause: Cause, out: &mut Actions) {
        self.notes.end = if cause == Cause::Eof { End::Lost } else { End::Shutdown };
        match self.phase {
            Phase::Open => self.run(now, input, cause, out),
            Phase::New(_) | Phase::Greeting(_) | Phase::Resting(_) => {
                self.phase = Phase::Closed;
                out.push(Action::Close);
            }
            Phase::Closed => {}
        }
    }

    /// Runs a step of the inner session and applies limits to the resulting actions.
    fn run(&mut self, now: Monotonic, input: Input<'_, Answer>, cause: Cause, out: &mut Actions) {
        let mut inner = Vec::new();
        self.inner.step(now, input, &mut inner);
        // Questions answered by a limit do not reach the session handler.
        while let Some((at, answer)) = self.answer_of_limit(now, &inner) {
            inner.remove(at);
            self.inner.step(now, Input::Answer(answer), &mut inner);
        }
        let mut exceeded = None;
        for action in inner {
            match action {
                Action::Send(octets) => {
                    exceeded = self.note_reply(now, &octets).err().or(exceeded);
                    out.push(Action::Send(octets));
                }
                Action::Ask(question) => {
                    self.note_question(&question);
                    out.push(Action::Ask(DoorQuestion::Asked(question)));
                }
                Action::Body(chunk) => {
                    let header_bytes_max = self.door.settings.header_bytes_max;
                    self.header_bytes = header_bytes_max.min(self.header_bytes + chunk.len() as u64);
                    out.push(Action::Body(chunk));
                }
                Action::WakeAt(deadline) => self.inner_deadline = Some(deadline),
                Action::StartTls => match self.count(now, Rate::Handshakes) {
                    Ok(()) => out.push(Action::StartTls),
                    Err(exceeded) => {
                        out.pop(); // Reply 220 to STARTTLS
                        return self.refuse(now, &exceeded.to_string(), &TOO_MANY_HANDSHAKES, out);
                    }
                },
                Action::Close => return self.close(cause, out),
            }
        }
        self.end_for_limits(now, exceeded, out);
    }

    /// Ends the session when error or memory limits are exceeded, in any protocol state.
    fn end_for_limits(&mut self, now: Monotonic, exceeded: Option<Over>, out: &mut Actions) {
        let (limit, reply) = if let Some(exceeded) = exceeded {
            (exceeded.to_string(), &TOO_MANY_ERRORS)
        } else if self.errors >= self.door.settings.stress_errors_max && !self.is_exempt && self.door.is_under_stress() {
            ("smtpd_stress_hard_error_limit".to_owned(), &TOO_MANY_ERRORS)
        } else if self.header_bytes > 0 && self.door.is_out_of_memory(self.bytes_held().saturating_sub(self.accounted)) {
            ("smtpd_sessions_memory_max".to_owned(), &NO_MEMORY)
        } else {
            return;
        };
        // After the end of a session, questions need no answer and body bytes no reader.
        out.retain(|action| matches!(action, Action::Send(_)));
        self.refuse(now, &limit, reply, out);
    }

    /// Answer of an exceeded limit to the question in `inner`, with the index of the question.
    fn answer_of_limit(&self, now: Monotonic, inner: &[Action<Question>]) -> Option<(usize, Answer)> {
        let position = inner.iter().enumerate().find_map(|(at, action)| match action {
            Action::Ask(question) => Some((at, question)),
            Action::Send(_) | Action::Body(_) | Action::WakeAt(_) | Action::StartTls | Action::Close => None,
        });
        let (at, question) = position?;
        let (rate, refusal) = match question {
            Question::Mail { .. } => (Rate::Messages, TOO_MUCH_MAIL),
            Question::Rcpt { .. } => (Rate::Recipients, TOO_MANY_RECIPIENTS),
            Question::Auth(AuthStep::Begin(..)) => (Rate::Auths, TOO_MANY_AUTHS),
            Question::Auth(AuthStep::Response(_) | AuthStep::Cancel)
            | Question::Connect
            | Question::Helo { .. }
            | Question::Secured(_)
            | Question::Xclient(_)
            | Question::Command { .. }
            | Question::Data
            | Question::EndOfData
            | Question::Reset => return None,
        };
        let counted = self.count(now, rate).and_then(|()| match rate {
            Rate::Auths => self.check(now, Rate::AuthFailures),
            Rate::Connections | Rate::Messages | Rate::Recipients | Rate::Errors | Rate::AuthFailures | Rate::Handshakes => {
                Ok(())
            }
        });
        if let Err(exceeded) = counted {
            self.log_refusal(&exceeded.to_string(), &refusal);
            return Some((at, Answer::Reply(refusal)));
        }
        if rate != Rate::Auths && self.door.is_out_of_memory(RECIPIENT_BYTES) {
            self.log_refusal("smtpd_sessions_memory_max", &NO_MEMORY);
            return Some((at, Answer::Close(NO_MEMORY)));
        }
        None
    }

    fn count(&self, now: Monotonic, rate: Rate) -> Result<(), Over> {
        match self.is_exempt {
            true => Ok(()),
            false => self.door.shared.rates.count(&self.door.settings.rates, self.client(), rate, now),
        }
    }

    fn check(&self, now: Monotonic, rate: Rate) -> Result<(), Over> {
        match self.is_exempt {
            true => Ok(()),
            false => self.door.shared.rates.check(&self.door.settings.rates, self.client(), rate, now),
        }
    }

    fn log_refusal(&self, limit: &str, reply: &Reply) {
        self.door.count_refusal(limit);
        tracing::info!(target: "smtpd", client = %self.client(), listener = &*self.notes.listener, limit, "refused: {reply}");
    }

    /// Sends the refusal reply of a limit and closes the session.
    fn refuse(&mut self, now: Monotonic, limit: &str, reply: &Reply, out: &mut Actions) {
        // The disconnect line contains the limit already; a second line per refusal would double the log volume of a flood.
        self.door.count_refusal(limit);
        self.notes.limit = Some(limit.to_owned());
        let mut octets = Vec::new();
        reply.write_to(&mut octets);
        // The session ends anyway, whether or not the error rate is exceeded.
        let _ = self.note_reply(now, &octets);
        out.push(Action::Send(Bytes::from(octets)));
        self.close(Cause::Talk, out);
    }

    fn close(&mut self, cause: Cause, out: &mut Actions) {
        self.phase = Phase::Closed;
        if self.notes.end == End::CutOff {
            self.notes.end = match cause {
                Cause::Talk => End::Closed,
                Cause::Tick => End::Timeout,
                Cause::Eof => End::Lost,
                Cause::Shutdown => End::Shutdown,
            };
        }
        out.push(Action::Close);
    }

    /// Records a reply and restarts the client's command time.
    ///
    /// Errors: the error rate is exceeded by a negative reply.
    fn note_reply(&mut self, now: Monotonic, reply: &[u8]) -> Result<(), Over> {
        self.base = now;
        self.notes.octets_out += reply.len() as u64;
        match reply.first() {
            Some(b'4' | b'5') => {
                self.notes.refused(reply);
                self.errors = self.errors.saturating_add(1);
                self.count(now, Rate::Errors)
            }
            Some(_) if reply.starts_with(b"221") => {
                self.notes.end = End::Quit;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn note_question(&mut self, question: &Question) {
        self.asked = match question {
            Question::Rcpt { .. } => Asked::Rcpt,
            Question::Auth(_) => Asked::Auth,
            Question::Xclient(attributes) => Asked::Xclient(address_of(attributes)),
            Question::EndOfData => Asked::EndOfData,
            Question::Reset => Asked::Reset,
            Question::Helo { name, .. } => {
                self.notes.helo = Some(name.clone());
                Asked::Other
            }
            Question::Connect | Question::Mail { .. } | Question::Secured(_) | Question::Command { .. } | Question::Data => {
                Asked::Other
            }
        };
    }

    fn note_answer(&mut self, now: Monotonic, answer: &Answer) {
        let is_positive = match answer {
            Answer::Reply(reply) | Answer::Committed(reply) | Answer::Discarded(reply) => reply.is_positive(),
            Answer::CommittedEach(replies) => replies.iter().any(Reply::is_positive),
            Answer::Ok | Answer::OkWithout(_) | Answer::Authenticated | Answer::Done => true,
            Answer::Close(_) | Answer::Challenge(_) => false,
        };
        match self.asked {
            Asked::Rcpt if is_positive => {
                self.notes.recipients += 1;
                self.recipients += 1;
            }
            Asked::EndOfData => {
                if is_positive {
                    self.notes.messages += 1;
                    self.errors = 0;
                }
                (self.recipients, self.header_bytes) = (0, 0);
            }
            Asked::Reset => (self.recipients, self.header_bytes) = (0, 0),
            // Replies 4yz reveal nothing about the credentials.
            Asked::Auth if matches!(answer, Answer::Reply(reply) | Answer::Close(reply) if reply.code() >= 500) => {
                // The limit refuses the next attempt, not the current answer.
                let _ = self.count(now, Rate::AuthFailures);
            }
            Asked::Xclient(Some(address)) if is_positive => {
                self.notes.client.set_ip(address);
                self.is_exempt = self.door.settings.is_exempt(address);
            }
            Asked::Rcpt | Asked::Auth | Asked::Xclient(_) | Asked::Other => {}
        }
    }

    /// Withholds replies from a client with many errors for `smtpd_error_sleep_time`. During the delay no input is read from the client.
    fn rest(&mut self, out: &mut Actions) {
        let settings = &self.door.settings;
        let is_delayed = self.errors > settings.soft_errors && !self.is_exempt && !settings.error_sleep.is_zero();
        let has_reply = out.iter().any(|action| matches!(action, Action::Send(_)));
        if !is_delayed || !has_reply || !matches!(self.phase, Phase::Open) || out.contains(&Action::StartTls) {
            return;
        }
        self.phase = Phase::Resting(std::mem::take(out));
        out.push(Action::Ask(DoorQuestion::Rest(settings.error_sleep)));
    }

    fn bytes_held(&self) -> u64 {
        SESSION_BYTES + self.inner.held_bytes() as u64 + self.recipients * RECIPIENT_BYTES + self.header_bytes
    }

    fn account(&mut self) {
        let (held, before) = (self.bytes_held(), self.accounted);
        self.accounted = held;
        let memory = &self.door.shared.memory;
        if held > before {
            memory.fetch_add(held - before, Ordering::Relaxed);
        } else if held < before {
            memory.fetch_sub(before - held, Ordering::Relaxed);
        }
    }

    fn tell_deadline(&mut self, out: &mut Actions) {
        let settings = &self.door.settings;
        let deadline = match self.phase {
            Phase::Greeting(until) => Some(until),
            Phase::Open if !out.iter().any(|action| matches!(action, Action::Ask(_))) => {
                let request = settings.per_request_deadline.then(|| self.base + settings.timeout);
                let is_checked = settings.stress_timeout < settings.timeout;
                let stress_check = is_checked.then(|| self.base.max(self.looked) + settings.stress_timeout);
                [self.inner_deadline, request, stress_check].into_iter().flatten().min()
            }
            Phase::Open | Phase::New(_) | Phase::Resting(_) | Phase::Closed => return,
        };
        if let Some(deadline) = deadline
            && self.deadline_told != Some(deadline)
        {
            self.deadline_told = Some(deadline);
            out.push(Action::WakeAt(deadline));
        }
    }
}

impl Drop for GuardedSession {
    /// Writes the session's log line, for any kind of end.
    fn drop(&mut self) {
        self.door.shared.memory.fetch_sub(self.accounted, Ordering::Relaxed);
        self.notes.log(self.door.shared.clock.monotonic());
    }
}

/// Address of the XCLIENT attribute ADDR, without the `IPV6:` prefix.
fn address_of(attributes: &[(String, Option<String>)]) -> Option<IpAddr> {
    let (_, value) = attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case("ADDR"))?;
    let text = value.as_deref()?;
    let bare = if text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("IPV6:")) { text.get(5..)? } else { text };
    bare.parse().ok()
}
