//! The door, driven by hand with a clock that does not move by itself.

use std::sync::Mutex;

use waxwing_config::{GuardConfig, SmtpdConfig};
use waxwing_net::SessionLimits;
use waxwing_types::{Action, Input, ManualClock, Monotonic, Session};

use super::*;

const CLIENT: &str = "192.0.2.1:4000";

/// Counts by limit.
#[derive(Default)]
struct Counted(Mutex<Vec<String>>);

impl Metrics for Counted {
    fn count(&self, name: &str, labels: &[(&str, &str)], _: u64) {
        assert_eq!(name, REFUSED_TOTAL);
        self.0.lock().unwrap().push(labels[0].1.to_owned());
    }
    fn observe(&self, _: &str, _: &[(&str, &str)], _: f64) {}
}

struct World {
    clock: Arc<ManualClock>,
    counted: Arc<Counted>,
    door: Arc<Guard>,
}

fn settings() -> GuardSettings {
    let config = GuardConfig {
        smtpd_client_event_limit_exceptions: vec!["127.0.0.0/8".parse().unwrap()],
        smtpd_soft_error_limit: 2,
        postscreen_greet_ttl: Duration::from_secs(3600),
        smtpd_sessions_memory_max: 1 << 20,
        ..GuardConfig::default()
    };
    let SmtpdConfig { smtpd_timeout, header_size_limit, .. } = SmtpdConfig::default();
    let rates = RateSettings::new(config.anvil_rate_time_unit);
    GuardSettings { rates, source: Source::Smtp, smtpd_timeout, header_size_limit, config }
}

impl World {
    fn new(settings: GuardSettings) -> Self {
        let (clock, counted) = (Arc::new(ManualClock::default()), Arc::new(Counted::default()));
        let counts = SessionCounts::with_limits(SessionLimits::new(10, 10));
        let shared = GuardState::new(counts, Arc::clone(&counted) as _, Arc::clone(&clock) as _);
        Self { clock, counted, door: Arc::new(Guard::new(settings, shared, "smtp".into())) }
    }

    fn come(&self, from: &str) -> Talk<'_> {
        self.come_as(from, Admission::Admitted)
    }

    fn come_as(&self, from: &str, admission: Admission) -> Talk<'_> {
        let settings = Arc::new(ServerSettings::new("h.example"));
        let session = self.door.new_session(settings, from.parse().unwrap(), admission);
        let mut talk = Talk { world: self, session, said: String::new(), wake: None, closed: false, question: None };
        talk.step(Input::Start);
        talk
    }

    fn limits(&self) -> Vec<String> {
        self.counted.0.lock().unwrap().clone()
    }
}

/// A session whose host says yes to everything but recipients with "no" in them.
struct Talk<'a> {
    world: &'a World,
    session: GuardedSession,
    said: String,
    wake: Option<Monotonic>,
    closed: bool,
    /// A question that is not answered at once.
    question: Option<GuardQuestion>,
}

impl Talk<'_> {
    fn step(&mut self, input: Input<'_, GuardAnswer>) {
        let mut actions = Vec::new();
        self.session.step(self.world.clock.monotonic(), input, &mut actions);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action<GuardQuestion>>) {
        assert!(!self.closed || actions.is_empty(), "nothing follows Close");
        for action in actions {
            match action {
                Action::Send(octets) => self.said.push_str(std::str::from_utf8(&octets).unwrap()),
                Action::Ask(GuardQuestion::Session(question)) => {
                    let answer = answer(&question);
                    self.step(Input::Answer(GuardAnswer::Session(answer, None)));
                }
                Action::Ask(rest) => self.question = Some(rest),
                Action::WakeAt(at) => self.wake = Some(at),
                Action::Close => self.closed = true,
                Action::Body(_) | Action::StartTls => {}
            }
        }
    }

    fn say(&mut self, text: &str) -> String {
        self.said.clear();
        self.step(Input::Bytes(text.as_bytes()));
        self.said.clone()
    }

    /// Time passes, with the wake-ups that the session asked for.
    fn wait(&mut self, seconds: u64) -> String {
        self.said.clear();
        let end = self.world.clock.monotonic() + Duration::from_secs(seconds);
        while let Some(wake) = self.wake.filter(|wake| *wake <= end && !self.closed) {
            self.world.clock.advance(wake.since(self.world.clock.monotonic()));
            self.wake = None;
            self.step(Input::Tick);
        }
        self.world.clock.advance(end.since(self.world.clock.monotonic()));
        self.said.clone()
    }
}

fn answer(question: &waxwing_smtp::server::ServerQuestion) -> waxwing_smtp::server::ServerAnswer {
    use waxwing_smtp::server::{DropAnswer, MessageAnswer, ServerAnswer, ServerQuestion, StepAnswer};
    match question {
        ServerQuestion::Rcpt { recipient, .. } if recipient.local().contains("no") => {
            ServerAnswer::Step(StepAnswer::Reply(Reply::fixed(550, (5, 1, 1), "User unknown")))
        }
        ServerQuestion::EndOfData => ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "queued"))),
        ServerQuestion::Reset => ServerAnswer::Drop(DropAnswer::Done),
        ServerQuestion::Connect
        | ServerQuestion::Helo { .. }
        | ServerQuestion::Mail { .. }
        | ServerQuestion::Rcpt { .. }
        | ServerQuestion::Secured(_)
        | ServerQuestion::Auth(_)
        | ServerQuestion::Xclient(_)
        | ServerQuestion::Command { .. }
        | ServerQuestion::Data => ServerAnswer::Step(StepAnswer::Ok),
    }
}

#[test]
fn a_session_passes_unchanged() {
    let world = World::new(settings());
    let mut talk = world.come(CLIENT);
    assert_eq!(talk.said, "220 h.example ESMTP Waxwing\r\n");
    assert!(talk.say("EHLO c.example\r\n").starts_with("250-h.example\r\n"));
    let said = talk.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n");
    assert!(said.ends_with("354 End data with <CR><LF>.<CR><LF>\r\n"), "{said}");
    assert!(talk.say("Subject: x\r\n\r\nHello\r\n.\r\n").starts_with("250 2.0.0 queued"));
    assert_eq!(talk.say("QUIT\r\n"), "221 2.0.0 Bye\r\n");
    assert!(talk.closed && world.limits().is_empty());
    assert!(world.door.state.memory_held() > 0);
    drop(talk);
    assert_eq!(world.door.state.memory_held(), 0, "what a session held is given back");
}

#[test]
fn rates_are_refused_by_name() {
    let mut settings = settings();
    settings.rates =
        settings.rates.with_limit(RateKind::Connections, 3).with_limit(RateKind::Messages, 2).with_limit(RateKind::Recipients, 3);
    let world = World::new(settings);
    let mut talk = world.come(CLIENT);
    talk.say("EHLO c.example\r\n");
    let begin = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<d@d.example>\r\nRSET\r\n";
    assert!(!talk.say(begin).contains("450"));
    let said = talk.say(begin);
    assert!(said.contains("250 2.1.5 Ok\r\n450 4.7.1 Error: too many recipients"), "{said}");
    assert!(talk.say("MAIL FROM:<a@b.example>\r\n").starts_with("450 4.7.1 Error: too much mail"));
    assert_eq!(world.limits(), ["smtpd_client_recipient_rate_limit", "smtpd_client_message_rate_limit"]);
    assert!(world.come(CLIENT).said.starts_with("220"));
    assert!(world.come(CLIENT).said.starts_with("220"));
    let mut refused = world.come(CLIENT);
    assert!(refused.closed && refused.said.starts_with("421 4.7.0 Error: too many connections"), "{}", refused.said);
    assert_eq!(refused.say("EHLO x\r\n"), "");
    assert!(world.come("127.0.0.1:4000").said.starts_with("220"), "exempt");
    assert!(world.come("192.0.2.2:4000").said.starts_with("220"), "another client");
    world.clock.advance(Duration::from_secs(60));
    assert!(world.come(CLIENT).said.starts_with("220"), "its time is over");
}

#[test]
fn counts_of_open_sessions_are_told_as_they_are() {
    let world = World::new(settings());
    for (admission, limit, words) in [
        (Admission::TooManySessions, "smtpd_sessions_max", "421 4.3.2 All server ports are busy"),
        (
            Admission::TooManyFromClient,
            "smtpd_client_connection_count_limit",
            "421 4.7.0 Error: too many connections from your address",
        ),
        (
            Admission::TooManyFromNetwork,
            "smtpd_client_connection_count_limit of the network",
            "421 4.7.0 Error: too many connections from your network",
        ),
    ] {
        let talk = world.come_as(CLIENT, admission);
        assert!(talk.closed && talk.said.starts_with(words), "{}", talk.said);
        assert_eq!(world.limits().last().unwrap(), limit);
    }
}

#[test]
fn who_speaks_before_the_greeting_is_refused() {
    let mut settings = settings();
    settings.config.postscreen_greet_wait = Duration::from_secs(2);
    let world = World::new(settings);
    let mut talk = world.come(CLIENT);
    assert_eq!(talk.said, "");
    assert!(talk.say("EHLO c.example\r\n").starts_with("521 5.5.1 Protocol error") && talk.closed);
    assert_eq!(world.limits(), ["postscreen_greet_wait"]);
    let mut patient = world.come(CLIENT);
    assert_eq!(patient.wait(1), "");
    assert!(patient.wait(1).starts_with("220 "));
    assert!(patient.say("EHLO c.example\r\n").starts_with("250-"));
    assert!(world.come(CLIENT).said.starts_with("220 "), "it is known to wait");
    assert!(world.come("127.0.0.1:4000").said.starts_with("220 "), "exempt");
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.come(CLIENT).said, "", "that was long ago");
}

#[test]
fn who_goes_while_replies_rest_hears_nothing_more() {
    let world = World::new(settings());
    let mut talk = world.come(CLIENT);
    talk.say("EHLO c.example\r\nBAD\r\nBAD\r\n");
    assert_eq!(talk.say("BAD\r\n"), "");
    talk.step(Input::Eof);
    assert!(talk.closed);
    talk.step(Input::Answer(GuardAnswer::DelayOver));
    talk.step(Input::Bytes(b"NOOP\r\n"));
    assert_eq!(talk.said, "");
}

#[test]
fn replies_to_many_errors_rest() {
    let world = World::new(settings());
    let mut talk = world.come(CLIENT);
    assert!(talk.say("EHLO c.example\r\nBAD\r\nBAD\r\n").ends_with("500 5.5.1 Command not recognized\r\n"));
    assert_eq!(talk.say("BAD\r\n"), "", "the third waits");
    assert_eq!(talk.question.take(), Some(GuardQuestion::Delay(Duration::from_secs(1))));
    world.clock.advance(Duration::from_secs(1));
    talk.step(Input::Answer(GuardAnswer::DelayOver));
    assert_eq!(talk.said, "500 5.5.1 Command not recognized\r\n");
    assert_eq!(talk.say("NOOP\r\n"), "", "good commands too");
    talk.step(Input::Answer(GuardAnswer::DelayOver));
    let message = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    for part in [message, ".\r\n"] {
        talk.say(part);
        for _ in 0..3 {
            if talk.question.take().is_some() {
                talk.step(Input::Answer(GuardAnswer::DelayOver));
            }
        }
    }
    assert_eq!(talk.say("NOOP\r\n"), "250 2.0.0 Ok\r\n", "a message makes good for it");
    assert!(world.limits().is_empty());
}

#[test]
fn a_byte_a_second_does_not_survive_the_deadline() {
    let world = World::new(settings());
    let mut talk = world.come(CLIENT);
    let mut seconds = 0;
    while !talk.closed {
        talk.step(Input::Bytes(b"x"));
        talk.wait(1);
        seconds += 1;
        assert!(seconds < 310, "it survives");
    }
    assert!(seconds >= 300 && talk.said.starts_with("421 4.4.2 Timeout"), "{seconds} {}", talk.said);
}

#[test]
fn a_slow_message_is_cut_and_one_at_the_least_rate_is_not() {
    for (octets, survives) in [(100, false), (500, true)] {
        let world = World::new(settings());
        let mut talk = world.come(CLIENT);
        talk.say("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n");
        let piece = "x".repeat(octets - 2) + "\r\n";
        let mut seconds = 0;
        while !talk.closed && seconds < 1000 {
            talk.step(Input::Bytes(piece.as_bytes()));
            talk.wait(1);
            seconds += 1;
        }
        assert_eq!(!talk.closed, survives, "{octets} octets a second for {seconds} s");
        assert_eq!(world.limits().is_empty(), survives);
    }
}

#[test]
fn times_are_short_under_stress() {
    let world = World::new(settings());
    let mut talk = world.come(CLIENT);
    assert_eq!(talk.wait(30), "", "an idle client has time");
    let permits: Vec<_> =
        (0..8_u8).map(|n| world.door.state.sessions.admit([198, 51, 100, n].into(), false).unwrap().1).collect();
    assert!(world.door.is_under_stress());
    assert!(talk.wait(10).starts_with("421 4.4.2 Timeout") && talk.closed);
    let mut faulty = world.come(CLIENT);
    assert_eq!(faulty.say("BAD\r\n"), "500 5.5.1 Command not recognized\r\n421 4.7.0 Error: too many errors, closing\r\n");
    assert_eq!(world.limits(), ["smtpd_stress_timeout", "smtpd_stress_hard_error_limit"]);
    drop(permits);
    assert!(!world.door.is_under_stress());
}

#[test]
fn memory_of_all_sessions_is_bounded() {
    let world = World::new(settings());
    let mut held = Vec::new();
    let mut refused = None;
    for n in 0..200_u16 {
        let talk = world.come(&format!("192.0.2.{}:{n}", n % 250));
        if talk.closed {
            refused = Some(talk.said);
            break;
        }
        held.push(talk);
    }
    assert!(refused.unwrap().starts_with("421 4.3.2 No memory for more sessions"));
    assert!(world.door.state.memory_held() <= 1 << 20, "{}", world.door.state.memory_held());
    held.truncate(held.len() - 1);
    let mut talk = held.pop().unwrap();
    talk.say("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n");
    let mut said = String::new();
    for n in 0..1000 {
        said = talk.say(&format!("RCPT TO:<r{n}@d.example>\r\n"));
        if talk.closed {
            break;
        }
    }
    assert!(talk.closed && said.starts_with("421 4.3.2"), "{said}");
    assert!(world.door.state.memory_held() <= (1 << 20) + SESSION_BYTES);
    assert!(world.limits().iter().all(|limit| limit == "smtpd_sessions_memory_max"));
}

#[test]
fn a_long_header_counts_as_memory() {
    let mut settings = settings();
    settings.config.smtpd_sessions_memory_max = 64 << 10;
    let world = World::new(settings);
    let mut talk = world.come(CLIENT);
    talk.say("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n");
    let mut said = String::new();
    for _ in 0..100 {
        said = talk.say(&format!("X: {}\r\n", "x".repeat(1000)));
        if talk.closed {
            break;
        }
    }
    assert!(talk.closed && said.starts_with("421 4.3.2"), "{said}");
}

#[test]
fn errors_of_a_client_count_over_all_its_sessions() {
    let mut settings = settings();
    settings.rates = settings.rates.with_limit(RateKind::Errors, 2);
    let world = World::new(settings);
    let mut talk = world.come(CLIENT);
    talk.say("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n");
    assert!(talk.say("RCPT TO:<no1@d.example>\r\n").starts_with("550"));
    talk.say("RCPT TO:<no2@d.example>\r\n");
    let mut other = world.come(CLIENT);
    assert!(other.closed && other.said.starts_with("421 4.7.0 Error: too many errors"), "{}", other.said);
    assert_eq!(other.say("x"), "");
    assert_eq!(world.limits(), ["smtpd_client_error_rate_limit"]);
}

#[test]
fn bodies_pass() {
    let world = World::new(settings());
    let mut session = world.door.new_session(Arc::new(ServerSettings::new("h")), CLIENT.parse().unwrap(), Admission::Admitted);
    let mut actions = Vec::new();
    let yes = || GuardAnswer::Session(waxwing_smtp::server::ServerAnswer::Step(waxwing_smtp::server::StepAnswer::Ok), None);
    session.step(Monotonic::default(), Input::Start, &mut actions);
    session.step(Monotonic::default(), Input::Answer(yes()), &mut actions);
    for line in ["EHLO c\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<c@d.example>\r\n", "DATA\r\n"] {
        session.step(Monotonic::default(), Input::Bytes(line.as_bytes()), &mut actions);
        session.step(Monotonic::default(), Input::Answer(yes()), &mut actions);
    }
    actions.clear();
    session.step(Monotonic::default(), Input::Bytes(b"A: b\r\n\r\nc\r\n"), &mut actions);
    let bodies = actions.iter().filter_map(|a| if let Action::Body(body) = a { Some(body) } else { None });
    let bodies: Vec<u8> = bodies.flatten().copied().collect();
    assert_eq!(bodies, b"A: b\r\n\r\nc\r\n");
}
