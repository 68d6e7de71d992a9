//! Target `server_session`: a line that says what the host answers, a line of sizes, then what a client sends in a whole session.

use std::sync::Arc;

use waxwing_smtp::server::{Answer, Question};
use waxwing_smtp::{ReplyReader, ServerSession, ServerSettings};
use waxwing_types::{Input, Reply};

use crate::drive::{Driver, Event};
use crate::layout::{bounded, chop, split_line};

/// Any chopping gives the same; memory is bounded; nothing follows a close; what is sent is whole replies; the end of a message has a
/// positive reply only if the host committed it; plain text behind STARTTLS is never answered over TLS.
pub fn server_session(input: &[u8]) {
    let (answers, rest) = split_line(bounded(input));
    let (sizes, wire) = split_line(rest);
    let whole = run(&[wire], answers);
    let cut = run(&chop(wire, sizes), answers);
    let octets = run(&chop(wire, b""), answers);
    if !cuts_into_starttls(wire) {
        assert_eq!(cut, whole, "cut by {sizes:?}");
        assert_eq!(octets, whole, "octet by octet");
    }
}

/// Whether something stands behind a STARTTLS in the same flight: then it matters whether it came before the handshake or after it.
fn cuts_into_starttls(wire: &[u8]) -> bool {
    wire.windows(8).any(|word| word.eq_ignore_ascii_case(b"STARTTLS"))
}

fn settings() -> ServerSettings {
    let mut settings = ServerSettings::new("mx.example");
    settings.message_size_max = 300;
    settings.refused_bytes_max = 200;
    settings.recipients_max = 3;
    settings.recipients_overshoot_max = 2;
    settings.command_line_bytes_max = 256;
    settings.errors_max = 8;
    settings.junk_commands_max = 12;
    settings
}

/// What may be held beside the piece at hand: a command line.
const HELD_MAX: usize = 256;

fn run(pieces: &[&[u8]], answers: &[u8]) -> Vec<Event<Question>> {
    let mut host = Host { answers, at: 0, committed: None };
    let session = ServerSession::new(Arc::new(settings()));
    let mut driver = Driver::start(session, |question: &Question| host.answer(question));
    for piece in pieces {
        driver.give(Input::Bytes(piece));
        assert!(driver.session.held_bytes() <= HELD_MAX + piece.len(), "{} octets held", driver.session.held_bytes());
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

/// What is sent between two questions is whole replies, and the first behind the end of a message says what the host did.
fn check_replies(events: &[Event<Question>], answers: &[u8]) {
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
}

fn whole_replies(octets: &[u8]) -> Vec<Reply> {
    let mut reader = ReplyReader::new(4096, 100);
    let mut input = octets;
    let mut found = Vec::new();
    while let Some(reply) = reader.next(&mut input) {
        found.push(reply.expect("what the server sends is a reply"));
    }
    assert_eq!(reader.held(), 0, "half a reply: {:?}", String::from_utf8_lossy(octets));
    found
}

/// A host that says what the octets say, over and over: most of them what fits the question.
struct Host<'a> {
    answers: &'a [u8],
    at: usize,
    /// Whether the message that has just ended was committed.
    committed: Option<bool>,
}

impl Host<'_> {
    fn answer(&mut self, question: &Question) -> Answer {
        let choice = self.answers.get(self.at % self.answers.len().max(1)).copied().unwrap_or(b'a');
        self.at += 1;
        let answer = match choice {
            b'n' => Answer::Reply(Reply::fixed(550, (5, 1, 1), "no\nnot at all")),
            b'l' => Answer::Reply(Reply::fixed(450, (4, 2, 0), "later")),
            b'g' => Answer::Reply(Reply::fixed(421, (4, 3, 2), "gone")),
            b'c' => Answer::Close(Reply::fixed(554, (5, 7, 1), "go away")),
            b'w' => Answer::Reply(Reply::plain(354, "go")),
            b'b' => Answer::Reply(Reply::plain(7, "bad\r\n250 smuggled")),
            b'p' => Answer::Reply(Reply::plain(250, "fine")),
            b'k' => Answer::Committed(Reply::fixed(450, (4, 2, 0), "not committed at all")),
            b'e' => Answer::CommittedEach(vec![Reply::fixed(250, (2, 0, 0), "one"), Reply::fixed(550, (5, 0, 0), "two")]),
            b'd' => Answer::Done,
            b'o' => Answer::Ok,
            b'x' => Answer::OkWithout(vec!["SIZE".to_owned(), "PIPELINING".to_owned()]),
            b'h' => Answer::Challenge(b"challenge".to_vec()),
            b'i' => Answer::Authenticated,
            _ => fitting(question),
        };
        self.committed = (*question == Question::EndOfData).then(|| is_commit(&answer));
        answer
    }
}

fn fitting(question: &Question) -> Answer {
    match question {
        Question::EndOfData => Answer::Committed(Reply::fixed(250, (2, 0, 0), "queued")),
        Question::Reset => Answer::Done,
        Question::Auth(_) => Answer::Authenticated,
        Question::Connect
        | Question::Helo { .. }
        | Question::Mail { .. }
        | Question::Rcpt { .. }
        | Question::Secured(_)
        | Question::Xclient(_)
        | Question::Command { .. }
        | Question::Data => Answer::Ok,
    }
}

fn is_commit(answer: &Answer) -> bool {
    let negative = |reply: &Reply| (400..600).contains(&reply.code());
    match answer {
        Answer::Committed(reply) | Answer::Discarded(reply) => !negative(reply),
        Answer::CommittedEach(replies) => replies.iter().any(|reply| !negative(reply)),
        Answer::Ok
        | Answer::OkWithout(_)
        | Answer::Reply(_)
        | Answer::Close(_)
        | Answer::Challenge(_)
        | Answer::Authenticated
        | Answer::Done => false,
    }
}
