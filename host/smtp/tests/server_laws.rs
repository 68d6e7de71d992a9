//! The laws of a session, for the SMTP server: whatever the client sends and the host answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panic")]

mod common;

use std::sync::Arc;

use common::{Driver, Event, chop};
use proptest::collection::vec;
use proptest::prelude::*;
use waxwing_smtp::server::{Answer, Question};
use waxwing_smtp::{Command, ReplyReader, ServerSession, ServerSettings};
use waxwing_types::{Address, EnhancedCode, Input, Reply, ReversePath};

fn settings() -> Arc<ServerSettings> {
    let mut settings = ServerSettings::new("mx.example");
    settings.message_size_max = 40;
    settings.refused_bytes_max = 60;
    settings.recipients_max = 2;
    settings.recipients_overshoot_max = 2;
    settings.command_line_bytes_max = 64;
    settings.errors_max = 6;
    settings.junk_commands_max = 8;
    Arc::new(settings)
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let reply = prop_oneof![
        Just(Reply::fixed(250, (2, 0, 0), "fine")),
        Just(Reply::fixed(550, (5, 1, 1), "no\nnot at all")),
        Just(Reply::fixed(450, (4, 2, 0), "later")),
        Just(Reply::fixed(421, (4, 3, 2), "gone")),
        Just(Reply::plain(354, "go")),
        Just(Reply::plain(220, "")),
        Just(Reply::plain(7, "bad\r\n250 smuggled")),
        Just(Reply::plain(999, "bad")),
    ];
    prop_oneof![
        12 => Just(Answer::Ok),
        4 => reply.clone().prop_map(Answer::Committed),
        2 => reply.clone().prop_map(Answer::Reply),
        1 => reply.clone().prop_map(Answer::Discarded),
        1 => reply.prop_map(Answer::Close),
        1 => Just(Answer::Done),
    ]
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(
        &[
            "EHLO c.example\r\n",
            "HELO c.example\r\n",
            "MAIL FROM:<a@b.example>\r\n",
            "MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
            "MAIL FROM:<a@b.example> SIZE=41\r\n",
            "RCPT TO:<c@d.example>\r\n",
            "RCPT TO:<\"x y\"@d.example>\r\n",
            "DATA\r\n",
            "RSET\r\n",
            "NOOP\r\n",
            "VRFY postmaster\r\n",
            "HELP\r\n",
            "FOO\r\n",
            "\r\n",
            ".\r\n",
            "..\r\n",
            ".x\r\n",
            "text\r\n",
            "\n",
            ".\n",
            "\r",
            "\r.\r",
        ][..],
    );
    prop_oneof![
        20 => known.prop_map(|line| line.as_bytes().to_vec()),
        1 => Just(b"QUIT\r\n".to_vec()),
        1 => Just(b"BDAT 5\r\n".to_vec()),
        2 => vec(any::<u8>(), 0..80),
        1 => vec(prop::sample::select(&b"\r\n. aA:<>@\"\\="[..]), 0..80),
    ]
}

/// A dialogue that often gets as far as a message.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let opening = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    (any::<bool>(), vec(any_line(), 0..30)).prop_map(move |(opened, lines)| {
        let mut input = if opened { opening.to_vec() } else { Vec::new() };
        input.extend(lines.concat());
        input
    })
}

/// Runs the pieces with these answers, checks memory and silence after Close, and returns what was done.
fn run(pieces: &[&[u8]], answers: &[Answer]) -> Vec<Event<Question>> {
    let settings = settings();
    let mut given = answers.iter().cycle();
    let session = ServerSession::new(Arc::clone(&settings));
    let mut driver = Driver::start(session, |_| given.next().cloned().unwrap_or(Answer::Ok));
    for piece in pieces {
        driver.give(Input::Bytes(piece));
        assert!(driver.session.held_bytes() <= settings.command_line_bytes_max + piece.len());
    }
    driver.give(Input::Eof);
    assert!(driver.closed, "Eof with no question open closes");
    driver.give(Input::Bytes(b"NOOP\r\n"));
    driver.give(Input::Tick);
    driver.give(Input::Shutdown);
    driver.events
}

proptest! {
    #[test]
    fn any_chopping_gives_the_same(
        input in any_input(), sizes in vec(1_usize..40, 1..8), answers in vec(any_answer(), 1..12),
    ) {
        let whole = run(&[&input], &answers);
        prop_assert_eq!(&run(&chop(&input, &sizes), &answers), &whole);
        prop_assert_eq!(&run(&chop(&input, &[1]), &answers), &whole);
    }

    #[test]
    fn no_octets_panic(input in vec(any::<u8>(), 0..3000), answers in vec(any_answer(), 1..4)) {
        run(&[&input], &answers);
    }

    /// Also: what goes out is nothing but whole replies, whatever the host's words are.
    #[test]
    fn each_command_has_one_final_reply(lines in vec(any_line(), 1..40), answers in vec(any_answer(), 1..12)) {
        let mut given = answers.iter().cycle();
        let mut driver = Driver::start(ServerSession::new(settings()), |_| given.next().cloned().unwrap_or(Answer::Ok));
        let mut replies = replies(&mut driver.sent);
        prop_assert_eq!(replies.len(), 1, "the greeting");
        let mut in_message = false;
        // Lines only: a command that is cut in two is the other property's matter.
        let is_line = |line: &Vec<u8>| line.ends_with(b"\r\n") && line.iter().filter(|b| **b == b'\n').count() == 1;
        for line in lines.into_iter().filter(is_line) {
            if driver.closed {
                break;
            }
            driver.give(Input::Bytes(&line));
            replies = self::replies(&mut driver.sent);
            let closing = replies.last().is_some_and(|r| r.code() == 421) && replies.len() == 2;
            if in_message && line != b".\r\n" {
                prop_assert!(replies.is_empty() || driver.closed, "a reply within a message: {:?}", replies);
            } else {
                prop_assert!(replies.len() == 1 || closing, "{:?} has {:?}", String::from_utf8_lossy(&line), replies);
                in_message = replies[0].code() == 354;
            }
        }
    }

    #[test]
    fn no_positive_reply_to_end_of_data_without_commit(answer in any_answer()) {
        let mut driver = Driver::start(ServerSession::new(settings()), |question: &Question| {
            if *question == Question::EndOfData { answer.clone() } else { Answer::Ok }
        });
        driver.give(Input::Bytes(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n"));
        driver.sent.clear();
        driver.give(Input::Bytes(b"x\r\n.\r\n"));
        let replies = replies(&mut driver.sent);
        let committed = match &answer {
            Answer::Committed(reply) | Answer::Discarded(reply) => !(400..600).contains(&reply.code()),
            Answer::CommittedEach(replies) => replies.iter().any(|reply| !(400..600).contains(&reply.code())),
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Done
            | Answer::Reply(_)
            | Answer::Close(_) => false,
        };
        prop_assert_eq!(replies[0].is_positive(), committed, "{:?}", replies);
    }

    #[test]
    fn prints_and_reads_commands(command in any_command()) {
        let printed = command.to_string();
        prop_assert_eq!(Command::parse(printed.as_bytes()), Ok(command), "{}", printed);
    }

    #[test]
    fn prints_and_reads_replies(
        code in 200_u16..600, enhanced in prop::option::of((0_u16..1000, 0_u16..1000)),
        lines in vec("[a-zA-Z <>:é-]{0,30}", 1..5), size in 1_usize..20,
    ) {
        let class = u8::try_from(code / 100).unwrap();
        let enhanced = enhanced.filter(|_| class != 3).map(|(subject, detail)| EnhancedCode::new(class, subject, detail));
        let reply = Reply::new(code, enhanced, lines.join("\n")).unwrap();
        let mut printed = Vec::new();
        reply.write_to(&mut printed);
        let mut reader = ReplyReader::new(2048, 100);
        let mut read = Vec::new();
        for piece in chop(&printed, &[size]) {
            let mut input = piece;
            read.extend(reader.next(&mut input));
        }
        prop_assert_eq!(read, vec![Ok(reply)]);
    }
}

/// Takes the replies out of what was sent.
fn replies(sent: &mut Vec<u8>) -> Vec<Reply> {
    let octets = std::mem::take(sent);
    let mut input = octets.as_slice();
    let mut reader = ReplyReader::new(4096, 100);
    let mut found = Vec::new();
    while let Some(reply) = reader.next(&mut input) {
        found.push(reply.unwrap());
    }
    assert_eq!(reader.held(), 0, "half a reply");
    found
}

fn any_address() -> impl Strategy<Value = Address> {
    let local = prop_oneof!["[a-z0-9.+]{1,20}", "[ -~]{1,30}"];
    let domain = prop_oneof!["[a-z0-9]{1,10}(\\.[a-z]{1,5}){0,3}", Just("[127.0.0.1]".to_owned()), Just(String::new())];
    (local, domain).prop_map(|(local, domain)| Address::new(local, &domain).unwrap())
}

fn any_command() -> impl Strategy<Value = Command> {
    let parameters = prop::collection::btree_map("[A-Z0-9][A-Z0-9-]{0,9}", prop::option::of("[!-<>-~]{1,20}"), 0..5)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>());
    let sender = prop_oneof![Just(ReversePath::Null), any_address().prop_map(ReversePath::Of)];
    prop_oneof![
        "[!-~]{1,40}".prop_map(Command::Helo),
        "[!-~]{1,40}".prop_map(Command::Ehlo),
        (sender, parameters.clone()).prop_map(|(sender, parameters)| Command::Mail { sender, parameters }),
        (any_address(), parameters).prop_map(|(recipient, parameters)| Command::Rcpt { recipient, parameters }),
        any_address().prop_map(Command::Vrfy),
        prop::sample::select(&[Command::Data, Command::Rset, Command::Noop, Command::Help, Command::Quit][..]),
    ]
}
