//! A server session with the limits of the door around it, without I/O as the session itself.
//!
//! It waits with the greeting, answers for a limit that is passed, rests before replies to who makes many errors, ends who is too slow, and
//! takes the notes for the session's line. What it does not have to meddle with goes through unchanged.

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

/// What a guarded session asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorQuestion {
    /// The session inside asks.
    Asked(Question),
    /// Rest so long before the replies that wait are sent.
    Rest(Duration),
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorAnswer {
    /// To the session inside, and what the host knows of the client by now.
    Answered(Answer, Option<Known>),
    /// The time is over.
    Rested,
}

/// One client's session behind the door. Beyond the session inside it holds the replies that rest, which are one input's.
pub struct GuardedSession {
    door: Arc<Door>,
    inner: ServerSession,
    phase: Phase,
    notes: Notes,
    asked: Asked,
    is_exempt: bool,
    /// Negative replies since the last accepted message.
    errors: u32,
    /// From when the time for the next command counts: the last reply, and what the octets since then have earned.
    base: Monotonic,
    /// The last look whether the server is under stress.
    looked: Monotonic,
    /// What the session inside wants.
    inner_deadline: Option<Monotonic>,
    deadline_told: Option<Monotonic>,
    /// Of the transaction.
    recipients: u64,
    /// Octets of the message so far, as many as can be in its header.
    header_bytes: u64,
    /// What was added to the memory of all sessions.
    accounted: u64,
}

enum Phase {
    /// Before [`Input::Start`], with why it is refused.
    New(Option<(String, Reply)>),
    /// Waits for the time of the greeting.
    Greeting(Monotonic),
    Open,
    /// Replies wait for the end of a rest.
    Resting(Actions),
    Closed,
}

/// The open question, as far as its answer is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Rcpt,
    Auth,
    Xclient(Option<IpAddr>),
    EndOfData,
    Reset,
    Other,
}

/// Why the session inside takes a step; if it closes, that is how it ended.
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
        let has_rested = matches!(input, Input::Answer(DoorAnswer::Rested));
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
        if !has_rested {
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

    /// It is not let in, and says so: intake has no part in it.
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
        let waits = !settings.greet_wait.is_zero() && !self.is_exempt;
        if waits && !self.door.shared.rates.is_known_to_wait(self.client(), now, settings.greet_ttl) {
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

    /// Octets earn time by their number, so that neither a command nor a message of any length can be stretched for ever.
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
                // The client may have gone meanwhile: then it stays closed.
                if let Phase::Resting(replies) = &mut self.phase {
                    *out = std::mem::take(replies);
                    self.phase = Phase::Open;
                }
            }
            DoorAnswer::Answered(answer, known) => {
                if let Some(known) = known {
                    self.notes.known = known;
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

    /// One step of the session inside, and what follows from it.
    fn run(&mut self, now: Monotonic, input: Input<'_, Answer>, cause: Cause, out: &mut Actions) {
        let mut inner = Vec::new();
        self.inner.step(now, input, &mut inner);
        // What a limit answers is not asked of the host.
        while let Some((at, answer)) = self.answer_of_limit(now, &inner) {
            inner.remove(at);
            self.inner.step(now, Input::Answer(answer), &mut inner);
        }
        let mut over = None;
        for action in inner {
            match action {
                Action::Send(octets) => {
                    over = self.note_reply(now, &octets).err().or(over);
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
                    Err(over) => {
                        out.pop(); // the 220 of STARTTLS
                        return self.refuse(now, &over.to_string(), &TOO_MANY_HANDSHAKES, out);
                    }
                },
                Action::Close => return self.close(cause, out),
            }
        }
        self.end_for_limits(now, over, out);
    }

    /// Errors and memory can end a session whatever it is doing.
    fn end_for_limits(&mut self, now: Monotonic, over: Option<Over>, out: &mut Actions) {
        let (limit, reply) = if let Some(over) = over {
            (over.to_string(), &TOO_MANY_ERRORS)
        } else if self.errors >= self.door.settings.stress_errors_max && !self.is_exempt && self.door.is_under_stress() {
            ("smtpd_stress_hard_error_limit".to_owned(), &TOO_MANY_ERRORS)
        } else if self.header_bytes > 0 && self.door.is_out_of_memory(self.bytes_held().saturating_sub(self.accounted)) {
            ("smtpd_sessions_memory_max".to_owned(), &NO_MEMORY)
        } else {
            return;
        };
        // A question that is not answered any more is not asked; nor is a body taken.
        out.retain(|action| matches!(action, Action::Send(_)));
        self.refuse(now, &limit, reply, out);
    }

    /// A limit's answer to the question in `inner`, and where that stands.
    fn answer_of_limit(&self, now: Monotonic, inner: &[Action<Question>]) -> Option<(usize, Answer)> {
        let found = inner.iter().enumerate().find_map(|(at, action)| match action {
            Action::Ask(question) => Some((at, question)),
            Action::Send(_) | Action::Body(_) | Action::WakeAt(_) | Action::StartTls | Action::Close => None,
        });
        let (at, question) = found?;
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
        let passed = self.count(now, rate).and_then(|()| match rate {
            Rate::Auths => self.check(now, Rate::AuthFailures),
            Rate::Connections | Rate::Messages | Rate::Recipients | Rate::Errors | Rate::AuthFailures | Rate::Handshakes => {
                Ok(())
            }
        });
        if let Err(over) = passed {
            self.log_refusal(&over.to_string(), &refusal);
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

    /// Says no by a limit, and closes.
    fn refuse(&mut self, now: Monotonic, limit: &str, reply: &Reply, out: &mut Actions) {
        // The session's line says all that a line of its own would: a flood is not written down twice.
        self.door.count_refusal(limit);
        self.notes.limit = Some(limit.to_owned());
        let mut octets = Vec::new();
        reply.write_to(&mut octets);
        // It ends anyway, whatever this one counts.
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

    /// A reply has the client's time begin anew. An error: one negative reply too many.
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
            // 4yz says nothing of the secret.
            Asked::Auth if matches!(answer, Answer::Reply(reply) | Answer::Close(reply) if reply.code() >= 500) => {
                // The next attempt is refused, not this one's answer.
                let _ = self.count(now, Rate::AuthFailures);
            }
            Asked::Xclient(Some(address)) if is_positive => {
                self.notes.client.set_ip(address);
                self.is_exempt = self.door.settings.is_exempt(address);
            }
            Asked::Rcpt | Asked::Auth | Asked::Xclient(_) | Asked::Other => {}
        }
    }

    /// Puts replies aside until the client has rested, if it makes many errors. While it rests nothing more is read from it.
    fn rest(&mut self, out: &mut Actions) {
        let settings = &self.door.settings;
        let is_due = self.errors > settings.soft_errors && !self.is_exempt && !settings.error_sleep.is_zero();
        let replies = out.iter().any(|action| matches!(action, Action::Send(_)));
        if !is_due || !replies || !matches!(self.phase, Phase::Open) || out.contains(&Action::StartTls) {
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
                let own = settings.per_request_deadline.then(|| self.base + settings.timeout);
                let look = settings.stress_timeout < settings.timeout;
                let look = look.then(|| self.base.max(self.looked) + settings.stress_timeout);
                [self.inner_deadline, own, look].into_iter().flatten().min()
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
    /// The session's one line, however it ended.
    fn drop(&mut self) {
        self.door.shared.memory.fetch_sub(self.accounted, Ordering::Relaxed);
        self.notes.log(self.door.shared.clock.monotonic());
    }
}

/// The address that XCLIENT gives, without the prefix that marks IPv6.
fn address_of(attributes: &[(String, Option<String>)]) -> Option<IpAddr> {
    let (_, value) = attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case("ADDR"))?;
    let text = value.as_deref()?;
    let bare = if text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("IPV6:")) { text.get(5..)? } else { text };
    bare.parse().ok()
}
