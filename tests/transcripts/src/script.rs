//! Parser of transcript files.

use std::fmt;
use std::time::Duration;

/// Single SMTP dialogue of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Behaviour shown by the dialogue.
    pub title: String,
    /// RFC sections with the required behaviour.
    pub sources: Vec<String>,
    /// Setup lines, key and rest: `set:`, `host:`, `job:`, `B:`, `B>`, `B`, `abort`.
    pub setup: Vec<(String, String)>,
    /// Rounds of the dialogue.
    pub rounds: Vec<Round>,
}

/// Input of a round, and expected output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Input to the session.
    pub input: Vec<Stimulus>,
    /// Expected output lines, in the form written by the runner.
    pub expected: Vec<String>,
}

/// Input event of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stimulus {
    /// Received bytes.
    Octets(Vec<u8>),
    /// Passing of time.
    Wait(Duration),
    /// End of input from the peer.
    Eof,
    /// Shutdown of the server.
    Shutdown,
    /// Finished TLS handshake, after STARTTLS or before any input; `true` for a verified peer certificate.
    Handshake(bool),
}

/// Error in a transcript file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Line number, from 1.
    pub line: usize,
    /// Reason of the error.
    pub reason: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ScriptError {}

/// Parses a file; lines of the `given` side (`C` or `S`) are input, lines of the other side are expected output.
pub fn parse(text: &str, given: char) -> Result<Vec<Transcript>, ScriptError> {
    let mut transcripts: Vec<Transcript> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let failed = |reason: String| ScriptError { line: at + 1, reason };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("=== ") {
            let (sources, stage, rounds) = (Vec::new(), Vec::new(), vec![Round::default()]);
            transcripts.push(Transcript { title: title.to_owned(), sources, setup: stage, rounds });
            continue;
        }
        let transcript = transcripts.last_mut().ok_or_else(|| failed("no `===` line yet".to_owned()))?;
        read_line(transcript, line, given).map_err(failed)?;
    }
    match transcripts.iter().find(|t| t.sources.is_empty() || t.rounds.iter().all(|r| r.expected.is_empty())) {
        Some(bare) => Err(ScriptError { line: 0, reason: format!("{:?} names no RFC or expects nothing", bare.title) }),
        None => Ok(transcripts),
    }
}

fn read_line(transcript: &mut Transcript, line: &str, given: char) -> Result<(), String> {
    if line.starts_with("RFC ") {
        transcript.sources.push(line.to_owned());
        return Ok(());
    }
    let words = line.split_once(' ').unwrap_or((line, ""));
    match words {
        ("set:" | "host:" | "job:" | "B:" | "B>" | "B" | "abort", rest) => {
            transcript.setup.push((words.0.to_owned(), rest.to_owned()));
        }
        ("wait", time) => push_input(transcript, Stimulus::Wait(seconds(time)?)),
        ("eof", "") => push_input(transcript, Stimulus::Eof),
        ("shutdown", "") => push_input(transcript, Stimulus::Shutdown),
        ("handshake", "") => push_input(transcript, Stimulus::Handshake(false)),
        ("handshake", "verified") => push_input(transcript, Stimulus::Handshake(true)),
        ("close" | "reset" | "M." | "secured", "") => push_expected(transcript, line),
        ("R:" | "Q:", _) => push_expected(transcript, line),
        ("M:", text) => push_expected(transcript, &format!("M> {}", shown_line(text))),
        ("M>", text) => push_expected(transcript, &format!("M> {}", escape_bytes(&unescape(text)?))),
        ("C:" | "S:", text) if line.starts_with(given) => {
            push_input(transcript, Stimulus::Octets(format!("{text}\r\n").into_bytes()));
        }
        ("C>" | "S>", text) if line.starts_with(given) => push_input(transcript, Stimulus::Octets(unescape(text)?)),
        ("C:" | "S:", text) => push_expected(transcript, &shown_line(text)),
        ("C>" | "S>", text) => push_expected(transcript, &escape_bytes(&unescape(text)?)),
        _ => return Err(format!("not a line of a transcript: {line}")),
    }
    Ok(())
}

fn push_input(transcript: &mut Transcript, stimulus: Stimulus) {
    if transcript.rounds.last().is_none_or(|round| !round.expected.is_empty()) {
        transcript.rounds.push(Round::default());
    }
    if let Some(round) = transcript.rounds.last_mut() {
        round.input.push(stimulus);
    }
}

/// Sent bytes are recorded in escaped form, so that both sides compare as text.
fn push_expected(transcript: &mut Transcript, line: &str) {
    if let Some(round) = transcript.rounds.last_mut() {
        round.expected.push(line.to_owned());
    }
}

fn shown_line(text: &str) -> String {
    escape_bytes(format!("{text}\r\n").as_bytes())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').and_then(|n| n.parse().ok());
    number.map(Duration::from_secs).ok_or_else(|| format!("not a time like 300s: {text}"))
}

/// Decodes `\r \n \0 \\ \xE9` and `{x*500}`; all other characters stand for themselves.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (octets, used) = match c {
            '\\' => escape(rest)?,
            '{' => repeat(rest)?,
            _ => (c.to_string().into_bytes(), c.len_utf8()),
        };
        out.extend_from_slice(&octets);
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(out)
}

fn escape(text: &str) -> Result<(Vec<u8>, usize), String> {
    let octet = match text.as_bytes().get(1) {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = text.get(2..4).ok_or("\\x needs two digits")?;
            return Ok((vec![u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?], 4));
        }
        Some(_) | None => return Err(format!("unknown escape in {text}")),
    };
    Ok((vec![octet], 2))
}

fn repeat(text: &str) -> Result<(Vec<u8>, usize), String> {
    let end = text.find('}').ok_or("no } to a {")?;
    let inner = text.get(1..end).unwrap_or_default();
    let (what, times) = inner.rsplit_once('*').ok_or("not {x*500}")?;
    let times: usize = times.parse().map_err(|_| "not a number of times")?;
    Ok((unescape(what)?.repeat(times), end + 1))
}

/// Inverse of [`unescape`]: printable ASCII stays unchanged, all other bytes are escaped.
pub(crate) fn escape_bytes(octets: &[u8]) -> String {
    let mut out = String::new();
    for octet in octets {
        match octet {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            0 => out.push_str("\\0"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(*octet)),
            _ => out.push_str(&format!("\\x{octet:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_format() {
        let text = "=== T\nRFC 1 §2\n# x\nset: a 1\nS: hi\nC: a\nC> b\\n{yz*2}\nwait 5s\nS: c\nclose\n";
        let found = parse(text, 'C').unwrap();
        assert_eq!(found[0].setup, [("set:".to_owned(), "a 1".to_owned())]);
        assert_eq!(found[0].rounds.len(), 2);
        assert_eq!(found[0].rounds[0].expected, ["hi\\r\\n"]);
        let given =
            [Stimulus::Octets(b"a\r\n".to_vec()), Stimulus::Octets(b"b\nyzyz".to_vec()), Stimulus::Wait(Duration::from_secs(5))];
        assert_eq!(found[0].rounds[1], Round { input: given.into(), expected: vec!["c\\r\\n".into(), "close".into()] });
    }

    #[test]
    fn refuses_what_is_not_in_the_format() {
        for text in ["C: a", "=== T\nS: a\n", "=== T\nRFC 1\n", "=== T\nRFC 1\nS: a\nX: y\n", "=== T\nRFC 1\nS: a\nC> \\q\n"] {
            assert!(parse(text, 'C').is_err(), "{text}");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        let octets = b"a\\\r\n\0\xe9~";
        assert_eq!(unescape(&escape_bytes(octets)).unwrap(), octets);
    }
}
