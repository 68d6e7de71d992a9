//! Runs a transcript against a session and compares the output.

use waxwing_types::{Action, Input, Monotonic, Session, TlsSession};

use crate::script::{Stimulus, Transcript, escape_bytes};

/// Split of the input into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputSplit {
    /// A chunk for each line of the transcript.
    Lines,
    /// As `Lines`, with an additional split after this number of bytes.
    At(usize),
    /// A chunk for each byte.
    Octets,
    /// All input between two events as a single chunk, before any output is compared.
    Merged,
}

/// Protocol session with scripted host.
pub trait ScriptedSession {
    /// Type of the session.
    type Session: Session;

    /// Creates a session before its start.
    fn session(&self) -> Self::Session;

    /// Answers a question of the session, and may append an output line.
    fn answer(
        &mut self,
        question: <Self::Session as Session>::Question,
        lines: &mut Vec<String>,
    ) -> <Self::Session as Session>::Answer;

    /// Consumes a chunk of message data.
    fn body(&mut self, octets: &[u8]);
}

/// Runs a transcript. The error describes the first difference.
pub fn run<S: ScriptedSession>(transcript: &Transcript, side: S, cut: InputSplit) -> Result<(), String> {
    let session = side.session();
    let mut stage = Runner {
        side,
        session,
        now: Monotonic::from_micros(1),
        wake_at: None,
        handshake: false,
        lines: Vec::new(),
        incomplete_line: Vec::new(),
    };
    let tls_first = transcript
        .rounds
        .first()
        .and_then(|round| round.input.first())
        .is_some_and(|first| matches!(first, Stimulus::Handshake(_)));
    stage.start(tls_first);
    let mut expected: Vec<String> = Vec::new();
    let mut octets_before = 0;
    let mut gathered: Vec<u8> = Vec::new();
    for (at, round) in transcript.rounds.iter().enumerate() {
        for stimulus in round.input.iter().skip(usize::from(tls_first && at == 0)) {
            match stimulus {
                Stimulus::Octets(octets) if cut == InputSplit::Merged => gathered.extend_from_slice(octets),
                Stimulus::Octets(octets) => stage.input_bytes(octets, octets_before, cut),
                Stimulus::Wait(_) | Stimulus::Eof | Stimulus::Shutdown | Stimulus::Handshake(_) => {
                    let octets = std::mem::take(&mut gathered);
                    stage.input_bytes(&octets, 0, cut);
                    stage.input_event(stimulus);
                }
            }
            if let Stimulus::Octets(octets) = stimulus {
                octets_before += octets.len();
            }
        }
        expected.extend(round.expected.iter().cloned());
        if cut != InputSplit::Merged {
            stage.compare(&expected)?;
        }
    }
    stage.input_bytes(&gathered, 0, cut);
    stage.compare(&expected)
}

struct Runner<S: ScriptedSession> {
    side: S,
    session: S::Session,
    now: Monotonic,
    wake_at: Option<Monotonic>,
    /// Session waits for a TLS handshake.
    handshake: bool,
    /// Output lines so far.
    lines: Vec<String>,
    /// Sent bytes of an incomplete line.
    incomplete_line: Vec<u8>,
}

impl<S: ScriptedSession> Runner<S> {
    fn input_bytes(&mut self, octets: &[u8], before: usize, cut: InputSplit) {
        let pieces: Vec<&[u8]> = match cut {
            InputSplit::Lines | InputSplit::Merged => vec![octets],
            InputSplit::Octets => octets.chunks(1).collect(),
            InputSplit::At(at) => match at.checked_sub(before).and_then(|at| octets.split_at_checked(at)) {
                Some((head, tail)) => vec![head, tail],
                None => vec![octets],
            },
        };
        pieces.into_iter().filter(|piece| !piece.is_empty()).for_each(|piece| self.step(Input::Bytes(piece)));
    }

    fn input_event(&mut self, stimulus: &Stimulus) {
        match stimulus {
            Stimulus::Octets(octets) => self.step(Input::Bytes(octets)),
            Stimulus::Eof => self.step(Input::Eof),
            Stimulus::Shutdown => self.step(Input::Shutdown),
            Stimulus::Handshake(verified) if std::mem::take(&mut self.handshake) => {
                self.step(Input::Secured(&TlsSession { verified: *verified, ..TlsSession::default() }));
            }
            Stimulus::Handshake(_) => self.lines.push("a handshake that was not asked for".to_owned()),
            Stimulus::Wait(time) => {
                self.now = self.now + *time;
                if self.wake_at.is_some_and(|at| at <= self.now) {
                    self.wake_at = None;
                    self.step(Input::Tick);
                }
            }
        }
    }

    /// Same order as in the network loop: with implicit TLS, `Secured` follows directly after `Start`.
    fn start(&mut self, tls_first: bool) {
        let mut actions = Vec::new();
        self.session.step(self.now, Input::Start, &mut actions);
        if tls_first {
            self.session.step(self.now, Input::Secured(&TlsSession::default()), &mut actions);
        }
        self.perform(actions);
    }

    /// Input bytes in place of a handshake count as a failed handshake.
    fn step(&mut self, input: Input<'_, <S::Session as Session>::Answer>) {
        let failed = matches!(input, Input::Bytes(_)) && std::mem::take(&mut self.handshake);
        let input = if failed { Input::Eof } else { input };
        let mut actions = Vec::new();
        self.session.step(self.now, input, &mut actions);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action<<S::Session as Session>::Question>>) {
        let mut next = Some(actions);
        while let Some(actions) = next.take() {
            let mut question = None;
            for action in actions {
                match action {
                    Action::Send(octets) => self.record_sent(&octets),
                    Action::Body(octets) => self.side.body(&octets),
                    Action::WakeAt(at) => self.wake_at = Some(at),
                    Action::StartTls => self.handshake = true,
                    Action::Close => self.lines.push("close".to_owned()),
                    Action::Ask(asked) => question = Some(asked),
                }
            }
            if let Some(asked) = question {
                let answer = self.side.answer(asked, &mut self.lines);
                let mut actions = Vec::new();
                self.session.step(self.now, Input::Answer(answer), &mut actions);
                next = Some(actions);
            }
        }
    }

    fn record_sent(&mut self, octets: &[u8]) {
        self.incomplete_line.extend_from_slice(octets);
        while let Some(end) = self.incomplete_line.windows(2).position(|pair| pair == b"\r\n") {
            let rest = self.incomplete_line.split_off(end + 2);
            let line = std::mem::replace(&mut self.incomplete_line, rest);
            self.lines.push(escape_bytes(&line));
        }
    }

    fn compare(&self, expected: &[String]) -> Result<(), String> {
        let at = self.lines.iter().zip(expected).take_while(|(found, wanted)| found == wanted).count();
        match (self.lines.get(at), expected.get(at)) {
            (None, None) if self.incomplete_line.is_empty() => Ok(()),
            (found, wanted) => Err(format!(
                "line {at} of ours: found {found:?}, expected {wanted:?}, unfinished {:?}",
                escape_bytes(&self.incomplete_line)
            )),
        }
    }
}
