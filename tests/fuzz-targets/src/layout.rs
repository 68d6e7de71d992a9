//! How a target's input is laid out: lines that steer, then octets as a stranger sends them. So a corpus can be read and written by hand.

use waxwing_smtp::server::BareNewline;

/// Longer inputs are cut: what matters fits, and octet by octet takes its time.
pub const INPUT_BYTES_MAX: usize = 8192;

/// The line up to the first LF, and what stands behind it. Without LF all is the line.
pub(crate) fn split_line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |octet| *octet == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// What letters that steer say of bare line ends: `N` takes them as CR LF, else `O` as they are; without either they are refused.
pub(crate) fn bare_newline(letters: &[u8]) -> BareNewline {
    match (letters.contains(&b'N'), letters.contains(&b'O')) {
        (true, _) => BareNewline::Normalize,
        (false, true) => BareNewline::No,
        (false, false) => BareNewline::Reject,
    }
}

/// The input, no longer than is useful.
pub(crate) fn bounded(input: &[u8]) -> &[u8] {
    input.get(..INPUT_BYTES_MAX).unwrap_or(input)
}

/// Cuts `octets` into pieces whose sizes the octets of `line` say, over and over; an empty line cuts at every octet.
pub(crate) fn chop<'a>(octets: &'a [u8], line: &[u8]) -> Vec<&'a [u8]> {
    let sizes: Vec<usize> =
        if line.is_empty() { vec![1] } else { line.iter().map(|octet| usize::from(*octet % 64) + 1).collect() };
    let mut rest = octets;
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, left) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces
}
