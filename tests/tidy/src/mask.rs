//! Blanks out comments, strings and character literals of Rust source, so that the rules see code only.

/// `source` with the content of comments and literals replaced by spaces; line breaks stay where they are.
pub fn mask(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let end = match byte {
            b'/' if rest.starts_with(b"//") => rest.iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n),
            b'/' if rest.starts_with(b"/*") => at + block_comment(rest),
            b'"' => at + string(rest, 1),
            b'r' if starts_raw(rest) && !continues_a_word(bytes, at) => at + raw_string(rest),
            b'\'' => at + character(rest),
            _ => at,
        };
        for blanked in out.iter_mut().take(end).skip(at) {
            if *blanked != b'\n' {
                *blanked = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the byte before `at` belongs to the same identifier (`bar"…"` is no raw string; `br"…"` is).
fn continues_a_word(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    before.is_some_and(|&b| b != b'b' && b != b'c' && (b.is_ascii_alphanumeric() || b == b'_'))
}

/// Length of a block comment, nested ones within.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let here = rest.get(at..).unwrap_or_default();
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a string literal whose opening quote takes `open` bytes.
fn string(rest: &[u8], open: usize) -> usize {
    let mut at = open;
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn starts_raw(rest: &[u8]) -> bool {
    let hashes = rest.iter().skip(1).take_while(|&&b| b == b'#').count();
    rest.get(1 + hashes) == Some(&b'"')
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|&&b| b == b'#').count();
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = rest.get(hashes + 2..).unwrap_or_default();
    body.windows(close.len()).position(|window| window == close).map_or(rest.len(), |n| hashes + 2 + n + close.len())
}

/// Length of a character literal, or 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'\\') => rest.iter().skip(3).position(|&b| b == b'\'').map_or(1, |n| n + 4),
        Some(&lead) => {
            let width = match lead {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        let source = "a(); // todo!()\n/* x /* y */ { */ b('{', '\\'', \"}\\\"\", r#\"}\"#); let c: &'static str = d;\n";
        let masked = mask(source);
        assert_eq!(masked.len(), source.len());
        assert_eq!(masked.lines().count(), source.lines().count());
        assert!(!masked.contains("todo") && !masked.contains('{') && !masked.contains('}'), "{masked}");
        assert!(masked.contains("a();") && masked.contains("let c: &'static str = d;"), "{masked}");
    }

    #[test]
    fn a_string_over_lines_keeps_its_line_breaks() {
        assert_eq!(mask("x(\"a\nb\ny\");").matches('\n').count(), 2);
        assert_eq!(mask("é('é'); // ü").lines().next().map(str::trim_end), Some("é(    );"));
    }
}
