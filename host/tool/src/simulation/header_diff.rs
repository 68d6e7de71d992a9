//! Differences between two message headers.

use waxwing_message::HeaderBlock;

/// Maximum number of header fields for a comparison field by field; for more fields only the counts are printed.
const FIELDS_MAX: usize = 2000;

/// Returns removed (`-`) and added (`+`) fields in header order, each as one unfolded line.
pub(crate) fn header_diff(before: &HeaderBlock, after: &HeaderBlock) -> Vec<String> {
    let texts =
        |block: &HeaderBlock| block.fields().iter().map(|f| format!("{}: {}", f.name(), f.unfolded())).collect::<Vec<_>>();
    let raws = |block: &HeaderBlock| block.fields().iter().map(|f| f.raw().to_vec()).collect::<Vec<_>>();
    let (old, new) = (texts(before), texts(after));
    if old.len() > FIELDS_MAX || new.len() > FIELDS_MAX {
        return vec![format!("~ {} fields became {}", old.len(), new.len())];
    }
    let kept = longest_common_subsequence(&raws(before), &raws(after));
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (a, b) in kept.into_iter().chain([(old.len(), new.len())]) {
        lines.extend(old.iter().take(a).skip(i).map(|text| format!("- {text}")));
        lines.extend(new.iter().take(b).skip(j).map(|text| format!("+ {text}")));
        (i, j) = (a + 1, b + 1);
    }
    lines
}

/// Returns the index pairs of a longest common subsequence.
pub(crate) fn longest_common_subsequence<T: PartialEq>(old: &[T], new: &[T]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut lengths = vec![0u32; (old.len() + 1) * width];
    let at = |lengths: &[u32], i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or_default();
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let length = if a == b { at(&lengths, i + 1, j + 1) + 1 } else { at(&lengths, i + 1, j).max(at(&lengths, i, j + 1)) };
            if let Some(slot) = lengths.get_mut(i * width + j) {
                *slot = length;
            }
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while let (Some(a), Some(b)) = (old.get(i), new.get(j)) {
        if a == b {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if at(&lengths, i + 1, j) >= at(&lengths, i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn head(text: &str) -> HeaderBlock {
        HeaderBlock::split(Bytes::copy_from_slice(text.as_bytes())).0
    }

    #[test]
    fn fields_come_go_and_stay() {
        let before = head("A: 1\r\nSubject: old\r\n folded\r\nB: 2\r\n\r\nbody");
        let after = head("X: new\r\nA: 1\r\nSubject: changed\r\nB: 2\r\nB: 2\r\n\r\n");
        let lines = header_diff(&before, &after);
        assert_eq!(lines, ["+ X: new", "- Subject: old folded", "+ Subject: changed", "+ B: 2"]);
        assert_eq!(header_diff(&before, &before), [""; 0]);
    }

    #[test]
    fn a_message_without_an_empty_line_is_header() {
        let (head, body) = HeaderBlock::split(Bytes::from_static(b"A: 1\r\nB: 2\r\n"));
        assert_eq!((head.fields().len(), body.len()), (2, 0));
    }
}
