//! Target `header`: a line of sizes, then a message: the split, the fields, the addresses in them, the parts, the conversion to 7bit.

use bytes::Bytes;
use waxwing_message::{HeaderBlock, HeaderSplit, HeaderSplitter, MimeParts, find_addresses, rewrite_addresses, to_seven_bit};
use waxwing_types::Address;

use crate::layout::{bounded, chop, split_line};

const HEADER_MAX: usize = 4096;

/// Any division of the input gives the same and loses nothing; reported positions of addresses are right; a rewrite changes nothing else;
/// the conversion to 7bit has no octet above 127.
pub fn header(input: &[u8]) {
    let (sizes, message) = split_line(bounded(input));
    let whole = split(&[message]);
    assert_eq!(split(&chop(message, sizes)), whole, "cut by {sizes:?}");
    assert_eq!(split(&chop(message, b"")), whole, "octet by octet");
    let Some((head, body)) = whole else { return };
    let mut again: Vec<u8> = head.fields().iter().flat_map(|field| field.raw().to_vec()).collect();
    if let Some(rest) = message.strip_prefix(again.as_slice()) {
        assert!(rest.ends_with(&body) && rest.len() - body.len() <= 2, "between header and body is an empty line or nothing");
    } else {
        // A last line without CR LF gets one.
        again.truncate(message.len());
        assert_eq!(again, message, "the fields are what came");
    }
    head.fields().iter().for_each(|field| addresses(field.raw()));
    let _ = MimeParts::parse(&head, Bytes::copy_from_slice(&body));
    if let Ok(Some((head, body))) = to_seven_bit(&head, &body) {
        assert!(body.is_ascii(), "a body of 8 bits for a server of 7");
        let _ = head.to_bytes(body.is_empty());
    }
}

/// Splits a message; `None` if the header is too long.
fn split(pieces: &[&[u8]]) -> Option<(HeaderBlock, Vec<u8>)> {
    let mut splitter = Some(HeaderSplitter::new(HEADER_MAX));
    let mut found: Option<(HeaderBlock, Vec<u8>)> = None;
    for piece in pieces {
        if let Some((_, body)) = &mut found {
            body.extend_from_slice(piece);
            continue;
        }
        let Some(open) = &mut splitter else { continue };
        match open.push(Bytes::copy_from_slice(piece)) {
            Ok(HeaderSplit::Incomplete) => {}
            Ok(HeaderSplit::Complete(head, body)) => found = Some((head, body.to_vec())),
            Err(_) => return None,
        }
    }
    found.or_else(|| splitter.take().map(HeaderSplitter::finish).map(|(head, body)| (head, body.to_vec())))
}

fn addresses(value: &[u8]) {
    let mut before = 0;
    for found in find_addresses(value) {
        assert!(before <= found.range.start && found.range.end <= value.len(), "{found:?} out of order");
        before = found.range.end;
    }
    assert_eq!(rewrite_addresses(value, |_| None), None);
    let other = Address::new("a", "b.example").expect("an address");
    if let Some(rewritten) = rewrite_addresses(value, |_| Some(other.clone())) {
        assert!(
            find_addresses(&rewritten).iter().all(|found| found.address == other),
            "{:?}",
            String::from_utf8_lossy(&rewritten)
        );
    }
}
