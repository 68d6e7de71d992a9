//! Redaction of passwords in text with quotes from clients.

use std::borrow::Cow;

/// Replacement text of a secret.
const REDACTED_TEXT: &str = "(redacted)";
/// AUTH command with its space, in lower case; a mechanism and an initial response may follow.
const AUTH_COMMAND: &[u8] = b"auth ";

/// Replaces the initial response after `AUTH mechanism`. Traces record no commands and so no secrets, but replies and plugin log
/// lines may quote a client.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let Some(first) = find_auth(text, 0) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        let rest = text.get(at + AUTH_COMMAND.len()..).unwrap_or_default();
        let line_length = rest.find(['\r', '\n']).unwrap_or(rest.len());
        let line = rest.get(..line_length).unwrap_or_default();
        let end = at + AUTH_COMMAND.len() + line_length;
        match line.trim_start().split_once(' ') {
            Some((mechanism, secret)) if is_mechanism(mechanism) && !secret.trim().is_empty() => {
                out.push_str(text.get(done..at + AUTH_COMMAND.len()).unwrap_or_default());
                out.push_str(mechanism);
                out.push(' ');
                out.push_str(REDACTED_TEXT);
            }
            Some(_) | None => out.push_str(text.get(done..end).unwrap_or_default()),
        }
        done = end;
        next = find_auth(text, end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(out)
}

/// Finds the next `AUTH `, in any case, at the start of a word.
fn find_auth(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let tail = bytes.get(from..)?;
    memchr::memchr2_iter(b'a', b'A', tail).map(|at| from + at).find(|&at| {
        let begins = at == 0 || bytes.get(at - 1).is_some_and(|b| !b.is_ascii_alphanumeric());
        begins && bytes.get(at..at + AUTH_COMMAND.len()).is_some_and(|word| word.eq_ignore_ascii_case(AUTH_COMMAND))
    })
}

/// SASL mechanism names (RFC 4422 §3.1): up to 20 upper-case letters, digits, hyphens, underscores; clients use any case.
fn is_mechanism(word: &str) -> bool {
    (1..=20).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_words_stay() {
        for (text, clean) in [
            ("AUTH PLAIN AGRlbW8Ac2VjcmV0", "AUTH PLAIN (redacted)"),
            ("502 5.5.2 bad command \"auth LOGIN ZGVtbw==\"", "502 5.5.2 bad command \"auth LOGIN (redacted)"),
            ("AUTH PLAIN a\r\nAUTH LOGIN b\nend", "AUTH PLAIN (redacted)\r\nAUTH LOGIN (redacted)\nend"),
            ("AUTH PLAIN", "AUTH PLAIN"),
            ("authors write", "authors write"),
            ("OAUTH PLAIN x", "OAUTH PLAIN x"),
            ("auth é x", "auth é x"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redact(text), clean, "{text}");
        }
        assert!(matches!(redact("a plain text about art"), Cow::Borrowed(_)));
    }
}
