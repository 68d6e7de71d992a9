//! Layout of a target's input: control lines, then octets of a peer, so that a corpus can be read and written by hand.

use waxwing_smtp::server::BareNewline;

/// Maximum size of an input in octets; longer ones are cut, since runs octet by octet are slow.
pub const INPUT_BYTES_MAX: usize = 8192;

/// Splits at the first LF; without LF the whole input is the line.
pub(crate) fn split_line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |octet| *octet == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Mode of bare line ends by flags: `N` takes them as CR LF, else `O` as they are; without either they are refused.
pub(crate) fn bare_newline(letters: &[u8]) -> BareNewline {
    match (letters.contains(&b'N'), letters.contains(&b'O')) {
        (true, _) => BareNewline::Normalize,
        (false, true) => BareNewline::No,
        (false, false) => BareNewline::Reject,
    }
}

/// Input cut to the maximum size.
pub(crate) fn bounded(input: &[u8]) -> &[u8] {
    input.get(..INPUT_BYTES_MAX).unwrap_or(input)
}

/// Divides `octets` into pieces with the sizes in `line`, repeated; an empty line divides at every octet.
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
