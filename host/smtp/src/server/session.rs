//! State machine of the server session: handling of each input in each state, and the ways a session ends. Sibling
//! files handle the commands.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Action, Input, Line, LineError, LineSplitter, Monotonic, Reply, Session, TlsSession};

use super::state::{Asked, Begins, Ending, Progress, State, Then};
use super::{Answer, Protocol, Question, ServerSettings, replies};
use crate::backlog::Backlog;
use crate::command::{Command, CommandError, Verb, find_verb, left_to_policy};

pub(super) type Actions = Vec<Action<Question>>;

/// SMTP or LMTP session of one client connection. Memory: one line, and the rest of the input that led to an open
/// question.
#[derive(Debug)]
pub struct ServerSession {
    pub(super) settings: Arc<ServerSettings>,
    pub(super) state: State,
    pub(super) progress: Progress,
    /// The connection is encrypted.
    pub(super) tls: bool,
    /// AUTH has succeeded, or XCLIENT has named a LOGIN.
    pub(super) authenticated: bool,
    pub(super) ending: Ending,
    lines: LineSplitter,
    backlog: Backlog,
    errors: u32,
    junk_commands: u32,
    /// Time of the current input.
    pub(super) now: Monotonic,
    pub(super) deadline: Monotonic,
    deadline_told: Monotonic,
}

/// Answer of the host, reduced to the cases common to most questions.
pub(super) enum Said {
    Yes(Option<Reply>),
    No(Reply),
    Close(Reply),
}

impl Session for ServerSession {
    type Question = Question;
    type Answer = Answer;

    fn step(&mut self, now: Monotonic, input: Input<'_, Answer>, actions: &mut Actions) {
        self.now = now;
        match input {
            Input::Start if matches!(self.state, State::New) => self.ask(Question::Connect, Asked::Connect(None), actions),
            // Never given by the session loop in other states.
            Input::Start => {}
            Input::Bytes(bytes) => self.bytes(bytes, actions),
            Input::Answer(answer) if matches!(self.state, State::Asked(_)) => {
                self.answered(answer, actions);
                self.go_on(actions);
            }
            Input::Answer(_) => {}
            Input::Tick => self.tick(actions),
            Input::Secured(tls) => self.secured(tls, actions),
            Input::Eof => self.eof(actions),
            Input::Shutdown => self.shutdown(actions),
        }
        self.tell_deadline(actions);
    }
}

impl ServerSession {
    /// Creates a session before the first input.
    #[must_use]
    pub fn new(settings: Arc<ServerSettings>) -> Self {
        Self {
            lines: new_lines(&settings),
            settings,
            state: State::New,
            progress: Progress::NoHelo,
            tls: false,
            authenticated: false,
            ending: Ending::No,
            backlog: Backlog::default(),
            errors: 0,
            junk_commands: 0,
            now: Monotonic::default(),
            deadline: Monotonic::default(),
            deadline_told: Monotonic::default(),
        }
    }

    /// Octets of input held in memory: less than a line and one input together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.lines.held() + self.backlog.rest().len()
    }

    fn bytes(&mut self, bytes: &[u8], actions: &mut Actions) {
        match &self.state {
            State::Closed => {}
            State::New | State::Asked(_) => self.backlog.keep(bytes),
            // Octets outside a TLS handshake are unencrypted.
            State::Handshake => self.close_silently(actions),
            State::Command | State::Data(_) | State::Chunk(_) | State::Exchange => {
                let ends_at = match &self.state {
                    State::Data(incoming) => Some(incoming.ends_at),
                    State::Chunk(chunk) => Some(chunk.ends_at),
                    State::New | State::Asked(_) | State::Command | State::Exchange | State::Handshake | State::Closed => None,
                };
                if let Some(ends_at) = ends_at {
                    self.deadline = ends_at.min(self.now + self.settings.data_idle);
                }
                let mut rest = bytes;
                self.run(&mut rest, actions);
                self.backlog.keep(rest);
            }
        }
    }

    fn tick(&mut self, actions: &mut Actions) {
        match self.state {
            State::New | State::Asked(_) | State::Closed => {}
            State::Handshake if self.now >= self.deadline => self.close_silently(actions),
            State::Command | State::Data(_) | State::Chunk(_) | State::Exchange if self.now >= self.deadline => {
                self.close(&replies::TIMED_OUT, actions);
            }
            State::Command | State::Data(_) | State::Chunk(_) | State::Exchange | State::Handshake => {
                self.deadline_told = Monotonic::default();
            }
        }
    }

    fn secured(&mut self, tls: &TlsSession, actions: &mut Actions) {
        match &mut self.state {
            State::Asked(Asked::Connect(slot)) => *slot = Some(tls.clone()),
            State::Handshake => {
                self.forget();
                self.tls = true;
                self.ask(Question::Secured(tls.clone()), Asked::Secured(Begins::Silently), actions);
            }
            // Never given by the session loop in other states.
            State::New
            | State::Asked(_)
            | State::Command
            | State::Data(_)
            | State::Chunk(_)
            | State::Exchange
            | State::Closed => {}
        }
    }

    fn eof(&mut self, actions: &mut Actions) {
        match self.state {
            State::Closed => {}
            State::Asked(_) => self.ending = Ending::Eof,
            State::New | State::Command | State::Data(_) | State::Chunk(_) | State::Exchange | State::Handshake => {
                self.close_silently(actions);
            }
        }
    }

    fn shutdown(&mut self, actions: &mut Actions) {
        match self.state {
            State::Closed => {}
            State::Asked(_) => self.ending = Ending::Shutdown,
            // A reply in plain text would break the handshake and look like an attack.
            State::Handshake => self.close_silently(actions),
            State::New | State::Command | State::Data(_) | State::Chunk(_) | State::Exchange => {
                self.close(&replies::SHUTTING_DOWN, actions);
            }
        }
    }

    /// Discards all knowledge obtained from the client (RFC 3207 §4.2). The error count stays.
    pub(super) fn forget(&mut self) {
        self.progress = Progress::NoHelo;
        self.authenticated = false;
        self.lines = new_lines(&self.settings);
        self.backlog = Backlog::default();
    }

    /// Processes the input received while a question was open.
    fn go_on(&mut self, actions: &mut Actions) {
        if self.ending == Ending::Shutdown {
            // 421 replaces the next reply; an answer leading to a close or to another question is not disturbed.
            match self.state {
                State::Command | State::Data(_) | State::Chunk(_) | State::Exchange | State::Handshake => self.shutdown(actions),
                State::New | State::Asked(_) | State::Closed => {}
            }
            return;
        }
        let mut backlog = mem::take(&mut self.backlog);
        let mut rest = backlog.rest();
        self.run(&mut rest, actions);
        let left = rest.len();
        backlog.leave(left);
        self.backlog = backlog;
        match self.state {
            State::Command | State::Data(_) | State::Chunk(_) | State::Exchange | State::Handshake
                if self.ending == Ending::Eof =>
            {
                self.close_silently(actions);
            }
            State::New
            | State::Asked(_)
            | State::Command
            | State::Data(_)
            | State::Chunk(_)
            | State::Exchange
            | State::Handshake
            | State::Closed => {}
        }
    }

    /// Processes input until all is consumed or a question is open.
    fn run(&mut self, input: &mut &[u8], actions: &mut Actions) {
        while !input.is_empty() {
            match mem::replace(&mut self.state, State::Command) {
                State::Command => {
                    let Some(line) = self.lines.next(input) else { return };
                    let line = line.map(|Line(line)| read(line, &self.settings, self.progress));
                    self.deadline = self.now + self.settings.command_idle;
                    self.line(line, actions);
                }
                State::Exchange => {
                    let Some(line) = self.lines.next(input) else {
                        self.state = State::Exchange;
                        return;
                    };
                    let line = line.map(|Line(line)| super::exchange::read(line, &self.settings));
                    self.deadline = self.now + self.settings.command_idle;
                    self.response(line, actions);
                }
                State::Data(incoming) => self.message(incoming, input, actions),
                State::Chunk(chunk) => self.chunk(chunk, input, actions),
                // Input behind STARTTLS in the same packet was not encrypted (RFC 3207 §6, CVE-2011-0411).
                State::Handshake => {
                    actions.retain(|action| !matches!(action, Action::StartTls));
                    self.close_silently(actions);
                }
                State::Closed => {
                    self.state = State::Closed;
                    *input = &[];
                }
                other @ (State::New | State::Asked(_)) => {
                    self.state = other;
                    return;
                }
            }
        }
    }

    fn line(&mut self, line: Result<Read, LineError>, actions: &mut Actions) {
        match line {
            Ok(Read::Policy { verb, argument, default_action }) => {
                self.ask(Question::Command { verb, argument }, Asked::Command(default_action), actions);
            }
            Ok(Read::Command(command)) => self.command(command, actions),
            Ok(Read::Fault(error)) => self.refuse_command(error, actions),
            Ok(Read::TooLong) | Err(LineError::TooLong) => self.refuse(&replies::LINE_TOO_LONG, actions),
            Err(LineError::BareLineEnd) => self.refuse(&replies::BARE_LINE_END, actions),
        }
    }

    fn command(&mut self, command: Command, actions: &mut Actions) {
        if self.settings.tls_required && !self.tls && needs_tls(&command) {
            if let Command::Bdat { size, last } = command {
                return self.refuse_chunk(size, last, replies::TLS_FIRST, actions);
            }
            return self.refuse(&replies::TLS_FIRST, actions);
        }
        match command {
            Command::Mail { sender, parameters } => self.mail(sender, parameters, actions),
            Command::Rcpt { recipient, parameters } => self.rcpt(recipient, parameters, actions),
            Command::Data => self.data(actions),
            Command::Bdat { size, last } => self.bdat(size, last, actions),
            Command::Helo(_) | Command::Ehlo(_) if self.settings.protocol == Protocol::Lmtp => {
                self.refuse(&replies::LHLO_ONLY, actions);
            }
            Command::Helo(name) => self.helo(name, false, actions),
            Command::Ehlo(name) | Command::Lhlo(name) => self.helo(name, true, actions),
            Command::StartTls => self.start_tls(actions),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, actions),
            Command::Xclient(attributes) => self.xclient(attributes, actions),
            Command::Rset => match self.progress {
                Progress::Transaction(_) => self.ask(Question::Reset, Asked::Reset(Then::Rset), actions),
                Progress::ChunksRefused { .. } => {
                    self.progress = Progress::Greeted;
                    self.junk(Bytes::from_static(replies::OK), actions);
                }
                Progress::NoHelo | Progress::Greeted => self.junk(Bytes::from_static(replies::OK), actions),
            },
            Command::Noop => self.junk(Bytes::from_static(replies::OK), actions),
            Command::Vrfy(_) => self.junk(replies::wire(&replies::VERIFY), actions),
            Command::Help => self.junk(replies::wire(&replies::help(|verb| self.offers(verb))), actions),
            Command::Quit => self.close(&replies::BYE, actions),
        }
    }

    /// Returns whether HELP lists the verb.
    fn offers(&self, verb: Verb) -> bool {
        let lmtp = self.settings.protocol == Protocol::Lmtp;
        match verb {
            Verb::Helo | Verb::Ehlo => !lmtp,
            Verb::StartTls => self.settings.starttls && !self.tls,
            Verb::Auth => !self.mechanisms().is_empty(),
            Verb::Bdat => self.settings.chunking,
            Verb::Lhlo | Verb::Xclient => is_known(verb, &self.settings),
            Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Help | Verb::Quit => true,
        }
    }

    fn refuse_command(&mut self, error: CommandError, actions: &mut Actions) {
        let (reply, closes) = replies::for_command(error, self.settings.smtputf8);
        if closes { self.close(&reply, actions) } else { self.refuse(&reply, actions) }
    }

    fn answered(&mut self, answer: Answer, actions: &mut Actions) {
        let State::Asked(asked) = mem::replace(&mut self.state, State::Command) else { return };
        self.deadline = self.now + self.settings.command_idle;
        match asked {
            Asked::Connect(tls) => self.connect_answered(tls, answer, actions),
            Asked::Secured(begins) => self.secured_answered(begins, answer, actions),
            Asked::Helo { esmtp } => self.helo_answered(esmtp, answer, actions),
            Asked::Xclient { login } => self.xclient_answered(login, answer, actions),
            Asked::Auth => self.auth_answered(answer, actions),
            Asked::AuthOver(reply) => self.auth_over(&reply, answer, actions),
            Asked::Mail(transaction) => self.mail_answered(transaction, answer, actions),
            Asked::Rcpt => self.rcpt_answered(answer, actions),
            Asked::Data => self.data_answered(answer, actions),
            Asked::Chunk(chunk) => self.first_chunk_answered(chunk, answer, actions),
            Asked::EndOfData => self.message_answered(answer, actions),
            Asked::Reset(then) => self.reset_answered(then, answer, actions),
            Asked::Command(default_action) => self.command_answered(default_action, answer, actions),
        }
    }

    /// Handles the answer to [`ServerQuestion::Command`]. With 221 or 3yz the client would wait for further action, so
    /// both are replaced.
    fn command_answered(&mut self, default_action: Result<Command, CommandError>, answer: Answer, actions: &mut Actions) {
        match (said(answer), default_action) {
            (Said::No(reply), _) => self.refuse(&reply, actions),
            (Said::Close(reply), _) => self.close(&reply, actions),
            (Said::Yes(Some(reply)), _) if reply.code() < 300 && reply.code() != 221 => {
                self.junk(replies::wire(&reply), actions);
            }
            (Said::Yes(_), Ok(command)) => self.command(command, actions),
            (Said::Yes(_), Err(error)) => self.refuse_command(error, actions),
        }
    }

    pub(super) fn ask(&mut self, question: Question, asked: Asked, actions: &mut Actions) {
        self.state = State::Asked(asked);
        actions.push(Action::Ask(question));
    }

    pub(super) fn send(&mut self, reply: &Reply, actions: &mut Actions) {
        actions.push(Action::Send(replies::wire(reply)));
    }

    /// Sends the reply of the host if the code fits, else the default reply.
    pub(super) fn accept(&mut self, reply: Option<Reply>, default_reply: &'static [u8], actions: &mut Actions) {
        match reply.filter(|r| (250..253).contains(&r.code())) {
            Some(reply) => self.send(&reply, actions),
            None => actions.push(Action::Send(Bytes::from_static(default_reply))),
        }
    }

    /// Resets the error counters after an accepted message.
    pub(super) fn forgive(&mut self) {
        (self.errors, self.junk_commands) = (0, 0);
    }

    /// Sends a positive reply to a junk command (`smtpd_junk_command_limit`), and counts an error above the limit.
    pub(super) fn junk(&mut self, reply: Bytes, actions: &mut Actions) {
        actions.push(Action::Send(reply));
        self.junk_commands = self.junk_commands.saturating_add(1);
        if self.junk_commands > self.settings.junk_commands_max {
            self.count_error(actions);
        }
    }

    /// Sends a negative reply and counts an error.
    pub(super) fn refuse(&mut self, reply: &Reply, actions: &mut Actions) {
        self.send(reply, actions);
        if reply.code() == 421 {
            return self.close_silently(actions); // RFC 5321 §3.8: 421 announces the close
        }
        self.count_error(actions);
    }

    pub(super) fn count_error(&mut self, actions: &mut Actions) {
        self.errors = self.errors.saturating_add(1);
        if self.errors >= self.settings.errors_max {
            self.close(&replies::TOO_MANY_ERRORS, actions);
        }
    }

    pub(super) fn close(&mut self, reply: &Reply, actions: &mut Actions) {
        self.send(reply, actions);
        self.close_silently(actions);
    }

    pub(super) fn close_silently(&mut self, actions: &mut Actions) {
        self.state = State::Closed;
        self.backlog = Backlog::default();
        actions.push(Action::Close);
    }

    /// Sends the deadline to the session loop, at most once per step and only after a change: setting the timer has a
    /// cost.
    fn tell_deadline(&mut self, actions: &mut Actions) {
        let runs = match self.state {
            State::Command | State::Data(_) | State::Chunk(_) | State::Exchange | State::Handshake => true,
            State::New | State::Asked(_) | State::Closed => false,
        };
        if runs && self.deadline != self.deadline_told {
            self.deadline_told = self.deadline;
            // The session loop ignores actions after StartTls.
            let at = actions.len() - usize::from(matches!(actions.last(), Some(Action::StartTls)));
            actions.insert(at, Action::WakeAt(self.deadline));
        }
    }
}

/// Complete line, parsed.
enum Read {
    /// Command left to policy: the host is asked first.
    Policy {
        verb: String,
        argument: Bytes,
        default_action: Result<Command, CommandError>,
    },
    Command(Command),
    Fault(CommandError),
    TooLong,
}

fn read(line: &[u8], settings: &ServerSettings, progress: Progress) -> Read {
    let verb = find_verb(line.trim_ascii_end().split(|octet| *octet == b' ').next().unwrap_or_default());
    // Only AUTH may have the longer lines let through by the splitter.
    let line_bytes_max = match verb {
        Ok(Verb::Auth) => settings.command_line_bytes_max.max(settings.auth_line_bytes_max),
        Ok(_) | Err(_) => settings.command_line_bytes_max,
    };
    if line.len() + 2 > line_bytes_max {
        return Read::TooLong;
    }
    let utf8 = matches!(progress, Progress::Transaction(transaction) if transaction.utf8);
    let default_action = match verb {
        Ok(verb) if !is_known(verb, settings) => Err(CommandError::Unknown),
        Ok(_) | Err(_) => Command::parse_in(line, utf8),
    };
    match (left_to_policy(line, |verb| is_known(verb, settings)), default_action) {
        (Some((verb, argument)), default_action) => Read::Policy { verb, argument, default_action },
        (None, Ok(command)) => Read::Command(command),
        (None, Err(error)) => Read::Fault(error),
    }
}

/// Returns whether the listener supports a verb; unsupported verbs are left to policy like unknown verbs.
fn is_known(verb: Verb, settings: &ServerSettings) -> bool {
    match verb {
        Verb::Lhlo => settings.protocol == Protocol::Lmtp,
        Verb::Xclient => settings.xclient,
        Verb::Helo | Verb::Ehlo | Verb::StartTls | Verb::Auth | Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat => true,
        Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Help | Verb::Quit => true,
    }
}

/// RFC 3207 §4: all commands but NOOP, EHLO, STARTTLS, QUIT and HELP.
fn needs_tls(command: &Command) -> bool {
    match command {
        Command::Helo(_) | Command::Ehlo(_) | Command::Lhlo(_) | Command::StartTls => false,
        Command::Noop | Command::Help | Command::Quit => false,
        Command::Auth { .. } | Command::Mail { .. } | Command::Rcpt { .. } | Command::Data | Command::Bdat { .. } => true,
        Command::Rset | Command::Vrfy(_) | Command::Xclient(_) => true,
    }
}

fn new_lines(settings: &ServerSettings) -> LineSplitter {
    let auth = if settings.has_auth() { settings.auth_line_bytes_max } else { 0 };
    LineSplitter::new(settings.command_line_bytes_max.max(auth))
}

pub(super) fn is_negative(reply: &Reply) -> bool {
    (400..600).contains(&reply.code())
}

pub(super) fn said(answer: Answer) -> Said {
    match answer {
        Answer::Ok | Answer::OkWithout(_) => Said::Yes(None),
        Answer::Reply(reply) if is_negative(&reply) => Said::No(reply),
        Answer::Reply(reply) if (200..400).contains(&reply.code()) => Said::Yes(Some(reply)),
        Answer::Close(reply) => Said::Close(closing(reply)),
        Answer::Reply(_)
        | Answer::Committed(_)
        | Answer::CommittedEach(_)
        | Answer::Challenge(_)
        | Answer::Authenticated
        | Answer::Discarded(_)
        | Answer::Done => Said::No(replies::INTERNAL),
    }
}

/// Returns the reply sent before closing; a non-negative reply is replaced.
pub(super) fn closing(reply: Reply) -> Reply {
    if is_negative(&reply) { reply } else { replies::INTERNAL_CLOSING }
}
