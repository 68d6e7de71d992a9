//! The laws of a session, for the SMTP client: whatever the server sends and the host answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{Driver, Event, chop};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use waxwing_smtp::client::{ClientAnswer, ClientJob, ClientQuestion, JobResult};
use waxwing_smtp::server;
use waxwing_smtp::{ClientSession, ClientSettings, ServerSession, ServerSettings};
use waxwing_types::{Address, BodyType, Input, Recipient, Reply, ReversePath};

const REPLY_LINE_MAX: usize = 80;

fn settings() -> Arc<ClientSettings> {
    let mut settings = ClientSettings::with_helo_name("client.example");
    settings.reply_line_bytes_max = REPLY_LINE_MAX;
    settings.reply_lines_max = 20;
    Arc::new(settings)
}

fn job(id: u64, recipients: usize) -> ClientJob {
    let address = |n| Address::new(format!("r{n}"), "d.example").unwrap();
    let recipients = (0..recipients).map(|n| Recipient::new(address(n))).collect();
    let body = match id % 4 {
        0 => BodyType::EightBitMime,
        1 => BodyType::BinaryMime,
        _ => BodyType::SevenBit,
    };
    ClientJob { body, ..ClientJob::new(id, ReversePath::Null, recipients, 10) }
}

/// Gives jobs and bodies by the choices, and counts what was given and told.
struct TestHost {
    choices: Vec<u8>,
    at: usize,
    jobs: u64,
    outcomes: BTreeMap<u64, Vec<JobResult>>,
}

impl TestHost {
    fn new(choices: Vec<u8>) -> Self {
        Self { choices, at: 0, jobs: 0, outcomes: BTreeMap::new() }
    }

    fn choice(&mut self) -> u8 {
        self.at += 1;
        // Long sessions end by QUIT.
        if self.at > 60 { 255 } else { self.choices[self.at % self.choices.len()] }
    }

    fn answer(&mut self, question: &ClientQuestion) -> ClientAnswer {
        let choice = self.choice();
        match question {
            ClientQuestion::Outcome(outcome) => {
                self.outcomes.entry(outcome.job).or_default().push(outcome.result.clone());
                ClientAnswer::Done
            }
            ClientQuestion::Next { .. } => match choice {
                0..170 => {
                    self.jobs += 1;
                    self.outcomes.insert(self.jobs, Vec::new());
                    ClientAnswer::Job(job(self.jobs, usize::from(choice % 4)))
                }
                170..220 => ClientAnswer::NoJob,
                _ => ClientAnswer::Quit,
            },
            ClientQuestion::Body { .. } => match choice {
                0..120 => ClientAnswer::Body { chunk: Bytes::from_static(b"x\r\n.y\nz\r"), last: false },
                120..230 => ClientAnswer::Body { chunk: Bytes::from_static(b"\n."), last: true },
                230..245 => ClientAnswer::NoJob,
                _ => ClientAnswer::Abort,
            },
        }
    }
}

fn any_reply() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(
        &[
            "250 2.0.0 ok\r\n",
            "250 2.0.0 ok\r\n",
            "354 go\r\n",
            "354 go\r\n",
            "220 hi\r\n",
            "550 5.1.1 no\r\n",
            "450 later\r\n",
            "421 closing\r\n",
            "250-a\r\n",
            "250\r\n",
            "250 bare\n",
        ][..],
    );
    prop_oneof![
        20 => known.prop_map(|line| line.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..100),
    ]
}

/// What a server may say, often a sound opening first.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let openings = [
        "",
        "220 s.example ESMTP\r\n250-s.example hi\r\n250-PIPELINING\r\n250-SIZE 100\r\n250 8BITMIME\r\n",
        "220 s.example ESMTP\r\n250-s.example hi\r\n250 SIZE\r\n",
        "220 s.example ESMTP\r\n250-s hi\r\n250-CHUNKING\r\n250-LIMITS MAILMAX=3\r\n250 BINARYMIME\r\n",
        "220 s.example ESMTP\r\n250-s hi\r\n250-CHUNKING\r\n250-PIPELINING\r\n250 BINARYMIME\r\n",
        "220 s.example\r\n502 what\r\n250 s.example\r\n",
    ];
    (0..openings.len(), vec(any_reply(), 0..30)).prop_map(move |(opening, replies)| {
        let mut input = openings[opening].as_bytes().to_vec();
        input.extend(replies.concat());
        input
    })
}

fn run(pieces: &[&[u8]], choices: &[u8]) -> Vec<Event<ClientQuestion>> {
    let mut host = TestHost::new(choices.to_vec());
    let mut driver = Driver::start(ClientSession::new(settings()), |question: &ClientQuestion| host.answer(question));
    for piece in pieces {
        driver.give(Input::Bytes(piece));
        let reply_max = REPLY_LINE_MAX + 2048;
        assert!(driver.session.held_bytes() <= reply_max + piece.len());
    }
    driver.give(Input::Eof);
    assert!(driver.closed, "Eof closes");
    driver.give(Input::Bytes(b"250 ok\r\n"));
    driver.give(Input::Tick);
    driver.give(Input::Shutdown);
    let (events, sent) = (driver.events, driver.sent);
    // Chunks go octet for octet.
    if !sent.windows(5).any(|octets| octets == b"BDAT ") {
        only_crlf(&sent);
    }
    for (job, results) in &host.outcomes {
        assert_eq!(results.len(), 1, "job {job} has {results:?}");
        if let JobResult::Replied(replies) = &results[0] {
            assert!(replies.len() < 4);
        }
    }
    events
}

fn only_crlf(sent: &[u8]) {
    for (at, octet) in sent.iter().enumerate() {
        match octet {
            b'\r' => assert_eq!(sent.get(at + 1), Some(&b'\n'), "a CR without LF"),
            b'\n' => assert_eq!(at.checked_sub(1).map(|n| sent[n]), Some(b'\r'), "an LF without CR"),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn any_chopping_gives_the_same(
        input in any_input(), sizes in vec(1_usize..40, 1..8), choices in vec(any::<u8>(), 1..20),
    ) {
        let whole = run(&[&input], &choices);
        prop_assert_eq!(&run(&chop(&input, &sizes), &choices), &whole);
        prop_assert_eq!(&run(&chop(&input, &[1]), &choices), &whole);
    }

    #[test]
    fn no_octets_panic(input in vec(any::<u8>(), 0..3000), choices in vec(any::<u8>(), 1..4)) {
        run(&[&input], &choices);
    }

    /// Our client and our server, cut anywhere, with and without PIPELINING: the message arrives as it was, line ends apart.
    #[test]
    fn what_the_client_sends_the_server_receives(
        bodies in vec(vec(prop::sample::select(&b"\r\n.ab\0\xe9"[..]), 0..60), 1..4),
        sizes in vec(1_usize..50, 1..6), piece in 1_usize..20, pipelining in any::<bool>(),
    ) {
        let received = converse(&bodies, &sizes, piece, pipelining);
        let expected: Vec<Vec<u8>> = bodies.iter().map(|body| canonical(body)).collect();
        prop_assert_eq!(received, expected);
    }
}

/// Every line end CRLF, and one at the end.
fn canonical(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut octets = body.iter().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(*other),
        }
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn converse(bodies: &[Vec<u8>], sizes: &[usize], piece: usize, pipelining: bool) -> Vec<Vec<u8>> {
    let mut told = 0;
    let (mut next, mut left) = (0, Vec::<Vec<u8>>::new());
    let mut client = Driver::start(ClientSession::new(settings()), |question: &ClientQuestion| match question {
        ClientQuestion::Next { .. } if next < bodies.len() => {
            left.push(bodies[next].clone());
            next += 1;
            ClientAnswer::Job(ClientJob { body: BodyType::EightBitMime, ..job(next as u64, 2) })
        }
        ClientQuestion::Next { .. } => ClientAnswer::Quit,
        ClientQuestion::Body { job } => {
            let body = &mut left[*job as usize - 1];
            let rest = body.split_off(piece.min(body.len()));
            let chunk = Bytes::from(std::mem::replace(body, rest));
            ClientAnswer::Body { last: body.is_empty(), chunk }
        }
        ClientQuestion::Outcome(outcome) => {
            let JobResult::Replied(replies) = &outcome.result else { panic!("{outcome:?}") };
            assert!(replies.len() == 2 && replies.iter().all(Reply::is_positive), "{replies:?}");
            told += 1;
            ClientAnswer::Done
        }
    });
    let session = ServerSession::new(Arc::new(ServerSettings::new("s.example")));
    let mut server = Driver::start(session, |question: &server::ServerQuestion| {
        let committed = server::ServerAnswer::Message(server::MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "queued")));
        if *question == server::ServerQuestion::EndOfData {
            committed
        } else {
            server::ServerAnswer::Step(server::StepAnswer::Ok)
        }
    });
    while !client.closed || !server.closed {
        let to_client = String::from_utf8(std::mem::take(&mut server.sent)).unwrap();
        let to_client = if pipelining { to_client } else { to_client.replace("250-PIPELINING\r\n", "") };
        chop(to_client.as_bytes(), sizes).into_iter().for_each(|piece| client.give(Input::Bytes(piece)));
        let to_server = std::mem::take(&mut client.sent);
        only_crlf(&to_server);
        chop(&to_server, sizes).into_iter().for_each(|piece| server.give(Input::Bytes(piece)));
    }
    let mut messages = Vec::new();
    for event in server.events {
        match event {
            Event::Asked(server::ServerQuestion::Data) => messages.push(Vec::new()),
            Event::Body(octets) => messages.last_mut().unwrap().extend(octets),
            Event::Asked(_) | Event::Sent(_) | Event::Closed | Event::Handshake => {}
        }
    }
    drop(client);
    assert_eq!(told, bodies.len());
    messages
}
