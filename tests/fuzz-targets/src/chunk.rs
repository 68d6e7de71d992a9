//! Target `chunk_reader`: a line with the sizes of the chunks, a line of sizes of reads, then the octets of the message.

use std::sync::Arc;

use waxwing_smtp::server::{BareNewline, ServerQuestion};
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{Input, Reply};

use crate::drive::{Driver, Event};
use crate::layout::{bare_newline, bounded, chop, split_line};
use crate::server::{fitting, whole_replies};

const MESSAGE_MAX: u64 = 300;
const REFUSED_MAX: u64 = 200;
/// Number of replies besides those to BDAT: the greeting, and the replies to EHLO, MAIL, RCPT and the NOOP behind the message.
const OTHER_REPLIES: usize = 5;

/// Each octet of the first line is the size of a chunk, but for `B`, which declares BODY=BINARYMIME, and `N` and `O`, which take bare line ends
/// as CR LF, or as they are. The rest of the message is the last chunk.
///
/// Any division of the input gives the same; no octet of a chunk is taken for a command, and each BDAT has one reply; the host gets the result of a
/// plain second implementation, whole or, for a refused message, its beginning; exactly the valid messages end.
pub fn chunk_reader(input: &[u8]) {
    let (letters, rest) = split_line(bounded(input));
    let (sizes, message) = split_line(rest);
    let mode = if letters.contains(&b'B') { BareNewline::No } else { bare_newline(letters) };
    let (wire, chunks) = sent(letters, message);
    let settings = Arc::new(settings(letters));
    let whole = run(&[&wire], &settings);
    assert_eq!(run(&chop(&wire, sizes), &settings), whole, "cut by {sizes:?}");
    assert_eq!(run(&chop(&wire, b""), &settings), whole, "octet by octet");
    check_given(&whole, message, mode);
    check_replies(&whole, chunks);
}

fn settings(letters: &[u8]) -> ServerSettings {
    let mut settings = ServerSettings::new("mx.example");
    (settings.message_size_max, settings.refused_bytes_max) = (MESSAGE_MAX, REFUSED_MAX);
    (settings.errors_max, settings.junk_commands_max) = (u32::MAX, u32::MAX);
    settings.bare_newline = bare_newline(letters);
    settings
}

/// Input of a session that sends the message in chunks, and the number of chunks.
fn sent(letters: &[u8], message: &[u8]) -> (Vec<u8>, usize) {
    let body = if letters.contains(&b'B') { " BODY=BINARYMIME" } else { "" };
    let mut wire = format!("EHLO a.example\r\nMAIL FROM:<a@a.example>{body}\r\nRCPT TO:<b@b.example>\r\n").into_bytes();
    let mut rest = message;
    let sizes = letters.iter().filter(|letter| !b"BNO".contains(letter)).map(|letter| usize::from(*letter % 64));
    let mut chunks = 1;
    for size in sizes {
        let (chunk, left) = rest.split_at(size.min(rest.len()));
        wire.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        (rest, chunks) = (left, chunks + 1);
    }
    wire.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
    wire.extend_from_slice(rest);
    wire.extend_from_slice(b"NOOP\r\n");
    (wire, chunks)
}

fn run(pieces: &[&[u8]], settings: &Arc<ServerSettings>) -> Vec<Event<ServerQuestion>> {
    let mut driver = Driver::start(ServerSession::new(Arc::clone(settings)), fitting);
    pieces.iter().for_each(|piece| driver.give(Input::Bytes(piece)));
    driver.events
}

/// Octets that the host received, and whether the end of the message was reported.
fn check_given(events: &[Event<ServerQuestion>], message: &[u8], mode: BareNewline) {
    let given: Vec<u8> =
        events.iter().flat_map(|event| if let Event::Body(octets) = event { octets.as_slice() } else { &[] }).copied().collect();
    let asked = |question: &ServerQuestion| events.iter().filter(|event| **event == Event::Asked(question.clone())).count();
    let (octets, is_clean) = plain_reading(message, mode);
    assert!(octets.starts_with(&given), "what the host got is not what was sent");
    assert!(given.len() as u64 <= MESSAGE_MAX, "{} octets given out", given.len());
    let is_taken = is_clean && message.len() as u64 <= MESSAGE_MAX && octets.len() as u64 <= MESSAGE_MAX;
    assert_eq!(asked(&ServerQuestion::EndOfData), usize::from(is_taken));
    assert_eq!(asked(&ServerQuestion::Reset), usize::from(!is_taken));
    if is_taken {
        assert_eq!(given, octets);
    }
    let known = |question: &ServerQuestion| match question {
        ServerQuestion::Connect | ServerQuestion::Helo { .. } | ServerQuestion::Mail { .. } | ServerQuestion::Rcpt { .. } => true,
        ServerQuestion::Data | ServerQuestion::EndOfData | ServerQuestion::Reset => true,
        ServerQuestion::Secured(_) | ServerQuestion::Auth(_) | ServerQuestion::Xclient(_) | ServerQuestion::Command { .. } => {
            false
        }
    };
    let is_stray = |event: &&Event<ServerQuestion>| matches!(event, Event::Asked(question) if !known(question));
    assert_eq!(events.iter().find(is_stray), None, "octets of a chunk were a command");
}

/// Checks for one reply per command; a session closed after too many refused octets ends with its 421.
fn check_replies(events: &[Event<ServerQuestion>], chunks: usize) {
    let sent: Vec<u8> =
        events.iter().flat_map(|event| if let Event::Sent(octets) = event { octets.as_slice() } else { &[] }).copied().collect();
    let replies = whole_replies(&sent);
    match (events.last(), replies.last()) {
        (Some(Event::Closed), last) => assert_eq!(last.map(Reply::is_positive), Some(false)),
        (_, last) => {
            assert_eq!(replies.len(), chunks + OTHER_REPLIES);
            assert_eq!(last.map(Reply::code), Some(250), "NOOP behind the message");
        }
    }
}

/// Expected stored message up to its first error, and whether it is free of errors.
fn plain_reading(message: &[u8], mode: BareNewline) -> (Vec<u8>, bool) {
    let mut octets = Vec::new();
    let mut rest = message;
    loop {
        rest = match (rest, mode) {
            ([], _) => return (octets, true),
            (all, BareNewline::No) => return (all.to_vec(), true),
            ([b'\r', b'\n', left @ ..], _) => {
                octets.extend_from_slice(b"\r\n");
                left
            }
            ([b'\r' | b'\n', ..], BareNewline::Reject) => return (octets, false),
            ([b'\r' | b'\n', left @ ..], BareNewline::Normalize) => {
                octets.extend_from_slice(b"\r\n");
                left
            }
            ([octet, left @ ..], _) => {
                octets.push(*octet);
                left
            }
        };
    }
}
