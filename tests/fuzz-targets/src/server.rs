//! Target `server_session`: a line of the host's answers, a line of sizes, then the input of a whole client session.

use std::sync::Arc;

use waxwing_smtp::server::{AuthStepAnswer, DropAnswer, MessageAnswer, Protocol, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_smtp::{ReplyReader, ServerSession, ServerSettings};
use waxwing_types::{Input, Reply};

use crate::drive::{Driver, Event};
use crate::layout::{bare_newline, bounded, chop, split_line};

/// Separator of flights: at it the client has received all replies and completed a pending handshake. First octet of a TLS handshake.
pub(crate) const FLIGHT: u8 = 0x16;

/// Any division of the input gives the same; memory is bounded; nothing follows a close; the output is whole replies; the end of a message has a
/// positive reply only if the host committed it; no plain text is buffered once the connection is encrypted.
///
/// The last flags of the first line choose the kind of listener: `S` offers AUTH only over TLS, `L` speaks LMTP, `N` takes bare line ends.
pub fn server_session(input: &[u8]) {
    let (answers, rest) = split_line(bounded(input));
    let (sizes, wire) = split_line(rest);
    let flights: Vec<&[u8]> = wire.split(|octet| *octet == FLIGHT).collect();
    let settings = Arc::new(settings(answers));
    let whole = run(&flights, |flight| vec![flight], answers, &settings);
    assert_eq!(run(&flights, |flight| chop(flight, sizes), answers, &settings), whole, "cut by {sizes:?}");
    assert_eq!(run(&flights, |flight| chop(flight, b""), answers, &settings), whole, "octet by octet");
}

fn settings(letters: &[u8]) -> ServerSettings {
    let has = |letter: u8| letters.contains(&letter);
    let mut settings = ServerSettings::new("mx.example");
    settings.message_size_max = 300;
    settings.refused_bytes_max = 200;
    settings.recipients_max = 3;
    settings.recipients_overshoot_max = 2;
    settings.command_line_bytes_max = 256;
    settings.auth_line_bytes_max = HELD_MAX;
    settings.errors_max = 8;
    settings.junk_commands_max = 12;
    settings.starttls = true;
    settings.auth = vec!["PLAIN".to_owned(), "SCRAM-SHA-256".to_owned()];
    settings.auth_plaintext = if has(b'S') { Vec::new() } else { vec!["SCRAM-SHA-256".to_owned(), "LOGIN".to_owned()] };
    settings.xclient = true;
    settings.prdr = true;
    settings.protocol = if has(b'L') { Protocol::Lmtp } else { Protocol::Smtp };
    settings.bare_newline = bare_newline(letters);
    settings
}

/// Maximum of buffered octets besides the present piece: one line.
const HELD_MAX: usize = 320;

fn run<'w>(
    flights: &[&'w [u8]],
    cut: impl Fn(&'w [u8]) -> Vec<&'w [u8]>,
    answers: &[u8],
    settings: &Arc<ServerSettings>,
) -> Vec<Event<ServerQuestion>> {
    let mut host = Host { answers, at: 0, committed: None };
    let session = ServerSession::new(Arc::clone(settings));
    let mut driver = Driver::start(session, |question: &ServerQuestion| host.answer(question));
    for flight in flights {
        for piece in cut(flight).into_iter().filter(|piece| !piece.is_empty()) {
            driver.give(Input::Bytes(piece));
            assert!(driver.session.held_bytes() <= HELD_MAX + piece.len(), "{} octets held", driver.session.held_bytes());
        }
        if driver.handshake {
            driver.shake_hands();
            let held = driver.session.held_bytes();
            assert!(held == 0 || driver.closed, "{held} octets of plain text are held behind the handshake"); // CVE-2011-0411
        }
    }
    driver.give(Input::Eof);
    assert!(driver.closed, "Eof with no question open closes");
    driver.give(Input::Bytes(b"NOOP\r\n"));
    driver.give(Input::Tick);
    driver.give(Input::Shutdown);
    let events = driver.events;
    check_replies(&events, answers);
    events
}

/// Checks that the output between two questions is whole replies, and the first reply to the end of a message agrees with the host's answer.
fn check_replies(events: &[Event<ServerQuestion>], answers: &[u8]) {
    let mut host = Host { answers, at: 0, committed: None };
    for event in events {
        match event {
            Event::Asked(question) => {
                let _ = host.answer(question);
            }
            Event::Sent(octets) => {
                let replies = whole_replies(octets);
                if let (Some(committed), Some(first)) = (host.committed.take(), replies.first()) {
                    assert!(committed || !first.is_positive(), "a positive reply without a commit: {first}");
                }
            }
            Event::Body(_) | Event::Handshake | Event::Closed => {}
        }
    }
    let behind = events.windows(2).filter(|pair| matches!(pair.first(), Some(Event::Handshake))).filter_map(|pair| pair.get(1));
    for event in behind {
        assert!(matches!(event, Event::Asked(ServerQuestion::Secured(_))), "{event:?} right behind a handshake");
    }
}

pub(crate) fn whole_replies(octets: &[u8]) -> Vec<Reply> {
    let mut reader = ReplyReader::new(4096, 100);
    let mut input = octets;
    let mut found = Vec::new();
    while let Some(reply) = reader.next(&mut input) {
        found.push(reply.expect("what the server sends is a reply"));
    }
    assert_eq!(reader.held_bytes(), 0, "half a reply: {:?}", String::from_utf8_lossy(octets));
    found
}

/// Host with answers by the octets of a line, repeated; most of them fit the question.
struct Host<'a> {
    answers: &'a [u8],
    at: usize,
    /// Whether the message that has just ended was committed.
    committed: Option<bool>,
}

impl Host<'_> {
    fn answer(&mut self, question: &ServerQuestion) -> ServerAnswer {
        let choice = self.answers.get(self.at % self.answers.len().max(1)).copied().unwrap_or(b'a');
        self.at += 1;
        let answer = match choice {
            b'n' => question.reject_with(Reply::fixed(550, (5, 1, 1), "no\nnot at all")),
            b'l' => question.reject_with(Reply::fixed(450, (4, 2, 0), "later")),
            b'g' => question.reject_with(Reply::fixed(421, (4, 3, 2), "gone")),
            b'c' => question.close_with(Reply::fixed(554, (5, 7, 1), "go away")),
            b'w' => question.reject_with(Reply::plain(354, "go")),
            b'b' => question.reject_with(Reply::plain(7, "bad\r\n250 smuggled")),
            b'p' => question.reject_with(Reply::plain(250, "fine")),
            b'k' => ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(450, (4, 2, 0), "not committed at all"))),
            b'e' => ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(vec![
                Reply::fixed(250, (2, 0, 0), "one"),
                Reply::fixed(550, (5, 0, 0), "two"),
            ])),
            b'd' => ServerAnswer::Drop(DropAnswer::Done),
            b'o' => ServerAnswer::Step(StepAnswer::Ok),
            b'x' => ServerAnswer::Step(StepAnswer::OkWithoutExtensions(vec!["SIZE".to_owned(), "PIPELINING".to_owned()])),
            b'h' => ServerAnswer::Auth(AuthStepAnswer::Challenge(b"challenge".to_vec())),
            b'i' => ServerAnswer::Auth(AuthStepAnswer::Authenticated),
            _ => fitting(question),
        };
        self.committed = (*question == ServerQuestion::EndOfData).then(|| is_commit(&answer));
        answer
    }
}

pub(crate) fn fitting(question: &ServerQuestion) -> ServerAnswer {
    match question {
        ServerQuestion::EndOfData => ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "queued"))),
        ServerQuestion::Reset => ServerAnswer::Drop(DropAnswer::Done),
        ServerQuestion::Auth(_) => ServerAnswer::Auth(AuthStepAnswer::Authenticated),
        ServerQuestion::Connect
        | ServerQuestion::Helo { .. }
        | ServerQuestion::Mail { .. }
        | ServerQuestion::Rcpt { .. }
        | ServerQuestion::Secured(_)
        | ServerQuestion::Xclient(_)
        | ServerQuestion::Command { .. }
        | ServerQuestion::Data => ServerAnswer::Step(StepAnswer::Ok),
    }
}

fn is_commit(answer: &ServerAnswer) -> bool {
    let negative = |reply: &Reply| (400..600).contains(&reply.code());
    match answer {
        ServerAnswer::Message(MessageAnswer::Committed(reply) | MessageAnswer::Discarded(reply)) => !negative(reply),
        ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(replies)) => replies.iter().any(|reply| !negative(reply)),
        ServerAnswer::Message(MessageAnswer::Reject(_) | MessageAnswer::Close(_)) => false,
        ServerAnswer::Step(_) | ServerAnswer::Auth(_) | ServerAnswer::Drop(_) => false,
    }
}
