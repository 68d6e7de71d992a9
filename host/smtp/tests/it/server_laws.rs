//! The laws of a session, for the SMTP server: whatever the client sends and the host answers.

use std::sync::Arc;

use crate::common::{Driver, Event, chop};
use proptest::collection::vec;
use proptest::prelude::*;
use waxwing_smtp::server::{AuthStepAnswer, DropAnswer, MessageAnswer, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_smtp::{Command, ReplyReader, SaslResponse, ServerSession, ServerSettings};
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
    settings.starttls = true;
    settings.auth = vec!["PLAIN".to_owned()];
    settings.auth_plaintext = vec!["LOGIN".to_owned()];
    settings.auth_line_bytes_max = 70;
    settings.xclient = true;
    settings.smtputf8 = true;
    settings.chunking = true;
    settings.dsn = true;
    settings.requiretls = true;
    settings.prdr = true;
    Arc::new(settings)
}

fn any_answer() -> impl Strategy<Value = ServerAnswer> {
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
        12 => Just(ServerAnswer::Step(StepAnswer::Ok)),
        4 => reply.clone().prop_map(MessageAnswer::Committed).prop_map(ServerAnswer::Message),
        2 => reply.clone().prop_map(StepAnswer::Reply).prop_map(ServerAnswer::Step),
        1 => reply.clone().prop_map(MessageAnswer::Discarded).prop_map(ServerAnswer::Message),
        1 => reply.clone().prop_map(StepAnswer::Close).prop_map(ServerAnswer::Step),
        1 => Just(ServerAnswer::Drop(DropAnswer::Done)),
        1 => reply.clone().prop_map(MessageAnswer::Reject).prop_map(ServerAnswer::Message),
        1 => reply.clone().prop_map(MessageAnswer::Close).prop_map(ServerAnswer::Message),
        1 => reply.clone().prop_map(AuthStepAnswer::Reject).prop_map(ServerAnswer::Auth),
        1 => reply.clone().prop_map(AuthStepAnswer::Close).prop_map(ServerAnswer::Auth),
        1 => reply.clone().prop_map(DropAnswer::Close).prop_map(ServerAnswer::Drop),
        2 => vec(reply, 0..4).prop_map(MessageAnswer::CommittedPerRecipient).prop_map(ServerAnswer::Message),
        1 => Just(ServerAnswer::Auth(AuthStepAnswer::Challenge(b"what?".to_vec()))),
        1 => Just(ServerAnswer::Auth(AuthStepAnswer::Authenticated)),
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
            "MAIL FROM:<> BODY=BINARYMIME PRDR\r\n",
            "MAIL FROM:<\u{e9}@b.example> SMTPUTF8 RET=FULL ENVID=x\r\n",
            "RCPT TO:<\u{e9}@\u{e9}.example> NOTIFY=NEVER\r\n",
            "STARTTLS\r\n",
            "AUTH LOGIN\r\n",
            "AUTH LOGIN =\r\n",
            "AUTH PLAIN AGEAYg==\r\n",
            "*\r\n",
            "AGEAYg==\r\n",
            "XCLIENT NAME=a.example ADDR=192.0.2.1\r\n",
            "BDAT 0\r\n",
            "BDAT 6\r\n",
            "BDAT 6 LAST\r\n",
            "BDAT 0 LAST\r\n",
            "BDAT 41 LAST\r\n",
            "BDAT 999 LAST\r\n",
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
        1 => Just(b"BDAT x\r\n".to_vec()),
        4 => Just(b"BDAT 6\r\ntext\r\n".to_vec()),
        2 => Just(b"BDAT 6 LAST\r\ntext\r\n".to_vec()),
        2 => vec(any::<u8>(), 0..80),
        1 => vec(prop::sample::select(&b"\r\n. aA:<>@\"\\="[..]), 0..80),
    ]
}

/// A dialogue that often gets as far as a message.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let opening = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    let chunked = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 7\r\ntext\r\n\r";
    (0..3, vec(any_line(), 0..30)).prop_map(move |(opened, lines)| {
        let mut input = match opened {
            0 => Vec::new(),
            1 => opening.to_vec(),
            _ => chunked.to_vec(),
        };
        input.extend(lines.concat());
        input
    })
}

/// Runs the pieces with these answers, checks memory and silence after Close, and returns what was done.
fn run(pieces: &[&[u8]], answers: &[ServerAnswer]) -> Vec<Event<ServerQuestion>> {
    let settings = settings();
    let mut given = answers.iter().cycle();
    let session = ServerSession::new(Arc::clone(&settings));
    let mut driver = Driver::start(session, |_| given.next().cloned().unwrap_or(ServerAnswer::Step(StepAnswer::Ok)));
    for piece in pieces {
        driver.give(Input::Bytes(piece));
        assert!(driver.session.held_bytes() <= settings.auth_line_bytes_max + piece.len());
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

    /// Also: what goes out is nothing but whole replies, whatever the host's words are. PRDR has its own number of replies at the end of a
    /// message; here it is left out.
    #[test]
    fn each_command_has_one_final_reply(lines in vec(any_line(), 1..40), answers in vec(any_answer(), 1..12)) {
        let mut given = answers.iter().cycle();
        let mut driver = Driver::start(ServerSession::new(settings()), |_| given.next().cloned().unwrap_or(ServerAnswer::Step(StepAnswer::Ok)));
        let mut replies = replies(&mut driver.sent);
        prop_assert_eq!(replies.len(), 1, "the greeting");
        let mut in_message = false;
        // Lines only: a command that is cut in two is the other property's matter.
        let is_line = |line: &Vec<u8>| line.ends_with(b"\r\n") && line.iter().filter(|b| **b == b'\n').count() == 1;
        let is_one = |line: &Vec<u8>| is_line(line) && !line.starts_with(b"BDAT") && !line.windows(4).any(|w| w == b"PRDR");
        for line in lines.into_iter().filter(is_one) {
            if driver.closed {
                break;
            }
            driver.give(Input::Bytes(&line));
            driver.shake_hands();
            replies = self::replies(&mut driver.sent);
            let closing = driver.closed && replies.len() == 2;
            if in_message && line != b".\r\n" {
                prop_assert!(replies.is_empty() || driver.closed, "a reply within a message: {:?}", replies);
            } else {
                prop_assert!(replies.len() == 1 || closing, "{:?} has {:?}", String::from_utf8_lossy(&line), replies);
                in_message = replies[0].code() == 354;
            }
        }
    }

    /// Chunks too, whatever is answered, and however many are under way; octets in them are never commands.
    #[test]
    fn each_chunk_has_one_final_reply(
        chunks in vec((0_usize..30, any::<bool>()), 1..8), answers in vec(any_answer(), 1..12), size in 1_usize..50,
    ) {
        let mut given = answers.iter().cycle();
        let mut driver = Driver::start(ServerSession::new(settings()), |_| given.next().cloned().unwrap_or(ServerAnswer::Step(StepAnswer::Ok)));
        let mut input = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\n".to_vec();
        for (octets, last) in &chunks {
            input.extend_from_slice(format!("BDAT {octets}{}\r\n", if *last { " LAST" } else { "" }).as_bytes());
            input.extend(b"\r\nQUIT\r\n".iter().cycle().take(*octets));
        }
        for piece in chop(&input, &[size]) {
            driver.give(Input::Bytes(piece));
        }
        let found = replies(&mut driver.sent);
        let expected = 1 + 3 + chunks.len();
        prop_assert!(found.len() == expected || driver.closed, "{} replies: {:?}", found.len(), found);
        prop_assert!(found.iter().all(|reply| reply.code() != 221), "a command within a chunk");
    }

    /// RFC 2033 §4.2: one for each recipient that was accepted.
    #[test]
    fn lmtp_answers_for_each_recipient(answer in any_answer(), recipients in 1_usize..3, chunked in any::<bool>()) {
        let mut lmtp = (*settings()).clone();
        lmtp.protocol = waxwing_smtp::server::Protocol::Lmtp;
        let mut driver = Driver::start(ServerSession::new(Arc::new(lmtp)), |question: &ServerQuestion| {
            if *question == ServerQuestion::EndOfData { answer.clone() } else { ServerAnswer::Step(StepAnswer::Ok) }
        });
        driver.give(Input::Bytes(b"LHLO c\r\nMAIL FROM:<>\r\n"));
        (0..recipients).for_each(|_| driver.give(Input::Bytes(b"RCPT TO:<c@d>\r\n")));
        if !chunked {
            driver.give(Input::Bytes(b"DATA\r\n"));
        }
        driver.sent.clear();
        driver.give(Input::Bytes(if chunked { b"BDAT 3 LAST\r\nx\r\n" } else { b"x\r\n.\r\n" }));
        let replies = replies(&mut driver.sent);
        prop_assert!(replies.len() == recipients || (driver.closed && replies.len() == 1), "{:?}", replies);
    }

    /// STARTTLS forgets what was said before it, and what was said behind it in plain text is never heard.
    #[test]
    fn nothing_crosses_the_handshake(before in any_input(), behind in any_line(), size in 1_usize..40) {
        let mut driver = Driver::start(ServerSession::new(settings()), |_| ServerAnswer::Step(StepAnswer::Ok));
        driver.give(Input::Bytes(&before));
        driver.give(Input::Bytes(b"\r\n.\r\nRSET\r\nSTARTTLS\r\n"));
        if driver.handshake && !driver.closed {
            let mut other = Driver::start(ServerSession::new(settings()), |_| ServerAnswer::Step(StepAnswer::Ok));
            other.give(Input::Bytes(&[b"STARTTLS\r\n", behind.as_slice()].concat()));
            prop_assert!(other.closed || behind.is_empty());
            driver.shake_hands();
            driver.sent.clear();
            for piece in chop(b"MAIL FROM:<>\r\nEHLO c\r\n", &[size]) {
                driver.give(Input::Bytes(piece));
            }
            let replies = replies(&mut driver.sent);
            prop_assert_eq!(replies[0].code(), 503);
            prop_assert!(driver.closed || (replies[1].text().contains("AUTH PLAIN") && !replies[1].text().contains("STARTTLS")));
        }
    }

    #[test]
    fn no_positive_reply_to_end_of_data_without_commit(answer in any_answer()) {
        let mut driver = Driver::start(ServerSession::new(settings()), |question: &ServerQuestion| {
            if *question == ServerQuestion::EndOfData { answer.clone() } else { ServerAnswer::Step(StepAnswer::Ok) }
        });
        driver.give(Input::Bytes(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n"));
        driver.sent.clear();
        driver.give(Input::Bytes(b"x\r\n.\r\n"));
        let replies = replies(&mut driver.sent);
        let committed = match &answer {
            ServerAnswer::Message(MessageAnswer::Committed(reply) | MessageAnswer::Discarded(reply)) => !(400..600).contains(&reply.code()),
            ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(replies)) => replies.iter().take(1).any(|reply| !(400..600).contains(&reply.code())),
            ServerAnswer::Message(MessageAnswer::Reject(_) | MessageAnswer::Close(_)) => false,
            ServerAnswer::Step(_) | ServerAnswer::Auth(_) | ServerAnswer::Drop(_) => false,
        };
        prop_assert_eq!(replies[0].is_positive(), committed, "{:?}", replies);
    }

    /// Whatever else the host answers to AUTH, nobody gets in.
    #[test]
    fn only_authenticated_lets_in(answer in any_answer(), initial in any::<bool>()) {
        let mut submission = (*settings()).clone();
        submission.auth_required = true;
        let mut driver = Driver::start(ServerSession::new(Arc::new(submission)), |question: &ServerQuestion| {
            if matches!(question, ServerQuestion::Auth(_)) { answer.clone() } else { ServerAnswer::Step(StepAnswer::Ok) }
        });
        driver.give(Input::Bytes(b"EHLO c\r\n"));
        driver.give(Input::Bytes(if initial { b"AUTH LOGIN =\r\n" } else { b"AUTH LOGIN\r\n" }));
        driver.give(Input::Bytes(b"*\r\n"));
        driver.sent.clear();
        driver.give(Input::Bytes(b"MAIL FROM:<>\r\n"));
        let replies = replies(&mut driver.sent);
        let taken = replies.first().is_some_and(Reply::is_positive);
        prop_assert_eq!(taken, answer == ServerAnswer::Auth(AuthStepAnswer::Authenticated), "{:?}", replies);
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
    assert_eq!(reader.held_bytes(), 0, "half a reply");
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
    let sender = prop_oneof![Just(ReversePath::Null), any_address().prop_map(ReversePath::Address)];
    prop_oneof![
        "[!-~]{1,40}".prop_map(Command::Helo),
        "[!-~]{1,40}".prop_map(Command::Ehlo),
        "[!-~]{1,40}".prop_map(Command::Lhlo),
        ("[A-Z][A-Z0-9_-]{0,19}", prop::option::of(vec(any::<u8>(), 0..30)))
            .prop_map(|(mechanism, initial)| Command::Auth { mechanism, initial: initial.map(SaslResponse) }),
        (any::<u64>(), any::<bool>()).prop_map(|(size, last)| Command::Bdat { size, last }),
        ("[ -Z^-~é]{1,30}", prop::option::of("[0-9]{1,5}"))
            .prop_map(|(name, port)| Command::Xclient(vec![("NAME".into(), Some(name)), ("PORT".into(), port)])),
        (sender, parameters.clone()).prop_map(|(sender, parameters)| Command::Mail { sender, parameters }),
        (any_address(), parameters).prop_map(|(recipient, parameters)| Command::Rcpt { recipient, parameters }),
        any_address().prop_map(Command::Vrfy),
        prop::sample::select(&[Command::Data, Command::StartTls, Command::Rset, Command::Noop, Command::Help, Command::Quit][..]),
    ]
}
