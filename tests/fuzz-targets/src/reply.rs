//! Target `reply_reader`: a line of sizes, then replies of a server to the client.

use waxwing_smtp::{ReplyParseError, ReplyReader};
use waxwing_types::Reply;

use crate::layout::{bounded, chop, split_line};

const LINE_MAX: usize = 200;
const LINES_MAX: usize = 8;
/// Maximum size of a reply's text in [`ReplyReader`].
const TEXT_MAX: usize = 2048;

/// Any division of the input gives the same up to the first fault, memory is bounded, and a parsed reply prints as a reply that is parsed as equal.
pub fn reply_reader(input: &[u8]) {
    let (sizes, wire) = split_line(bounded(input));
    let whole = read(&[wire]);
    assert_eq!(read(&chop(wire, sizes)), whole, "cut by {sizes:?}");
    assert_eq!(read(&chop(wire, b"")), whole, "octet by octet");
    for reply in whole.iter().flatten() {
        let mut printed = Vec::new();
        reply.write_to(&mut printed);
        let mut again = ReplyReader::new(TEXT_MAX * 2, LINES_MAX);
        let back = again.next(&mut printed.as_slice()).expect("a whole reply").expect("a reply");
        assert_eq!((back.code(), back.enhanced()), (reply.code(), reply.enhanced()), "{reply:?}");
        assert_eq!(again.held_bytes(), 0);
    }
}

fn read(pieces: &[&[u8]]) -> Vec<Result<Reply, ReplyParseError>> {
    let mut reader = ReplyReader::new(LINE_MAX, LINES_MAX);
    let mut found = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            if let Some(reply) = reader.next(&mut rest) {
                let fault = reply.is_err();
                found.push(reply);
                if fault {
                    return found; // the session closes there
                }
            }
        }
        assert!(reader.held_bytes() <= LINE_MAX + TEXT_MAX, "holds {}", reader.held_bytes());
    }
    found
}
