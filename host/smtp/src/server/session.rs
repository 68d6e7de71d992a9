//! State machine of the server session: handling of each input in each state, and the ways a session ends. Sibling
//! files handle the commands.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Action, Input, Line, LineError, LineSplitter, Monotonic, Reply, Session, TlsSession};

use super::state::{AfterReset, PendingEnd, PendingServerQuestion, ServerState, SessionProgress, TlsStart};
use super::{Protocol, ServerAnswer, ServerQuestion, ServerSettings, StepAnswer, replies};
use crate::command::{Command, CommandError, Verb, as_policy_command, parse_verb};
use crate::input_buffer::InputBuffer;

pub(super) type Actions = Vec<Action<ServerQuestion>>;

/// SMTP or LMTP session of one client connection. Memory: one line, and the rest of the input that led to an open
/// question.
#[derive(Debug)]
pub struct ServerSession {
    pub(super) settings: Arc<ServerSettings>,
    pub(super) state: ServerState,
    pub(super) progress: SessionProgress,
    /// The connection is encrypted.
    pub(super) tls: bool,
    /// AUTH has succeeded, or XCLIENT has named a LOGIN.
    pub(super) authenticated: bool,
    pub(super) pending_end: PendingEnd,
    line_splitter: LineSplitter,
    input_buffer: InputBuffer,
    error_count: u32,
    junk_command_count: u32,
    /// Time of the current input.
    pub(super) now: Monotonic,
    pub(super) deadline: Monotonic,
    deadline_armed: Monotonic,
}

/// Answer of the host, reduced to the cases common to most questions.
pub(super) enum ReplyDecision {
    Accept(Option<Reply>),
    Reject(Reply),
    Close(Reply),
}

impl Session for ServerSession {
    type Question = ServerQuestion;
    type Answer = ServerAnswer;

    fn step(&mut self, now: Monotonic, input: Input<'_, ServerAnswer>, actions: &mut Actions) {
        self.now = now;
        match input {
            Input::Start if matches!(self.state, ServerState::New) => {
                self.ask(ServerQuestion::Connect, PendingServerQuestion::Connect(None), actions)
            }
            // Never given by the session loop in other states.
            Input::Start => {}
            Input::Bytes(bytes) => self.handle_bytes(bytes, actions),
            Input::Answer(answer) if matches!(self.state, ServerState::AwaitingAnswer(_)) => {
                self.handle_answer(answer, actions);
                self.resume(actions);
            }
            Input::Answer(_) => {}
            Input::Tick => self.handle_tick(actions),
            Input::Secured(tls) => self.handle_secured(tls, actions),
            Input::Eof => self.handle_eof(actions),
            Input::Shutdown => self.handle_shutdown(actions),
        }
        self.arm_deadline(actions);
    }
}

impl ServerSession {
    /// Creates a session before the first input.
    #[must_use]
    pub fn new(settings: Arc<ServerSettings>) -> Self {
        Self {
            line_splitter: new_line_splitter(&settings),
            settings,
            state: ServerState::New,
            progress: SessionProgress::NoHelo,
            tls: false,
            authenticated: false,
            pending_end: PendingEnd::None,
            input_buffer: InputBuffer::default(),
            error_count: 0,
            junk_command_count: 0,
            now: Monotonic::default(),
            deadline: Monotonic::default(),
            deadline_armed: Monotonic::default(),
        }
    }

    /// Octets of input held in memory: less than a line and one input together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.line_splitter.buffered_bytes() + self.input_buffer.unread().len()
    }

    fn handle_bytes(&mut self, bytes: &[u8], actions: &mut Actions) {
        match &self.state {
            ServerState::Closed => {}
            ServerState::New | ServerState::AwaitingAnswer(_) => self.input_buffer.append(bytes),
            // Octets outside a TLS handshake are unencrypted.
            ServerState::Handshake => self.close_silently(actions),
            ServerState::Command | ServerState::Data(_) | ServerState::Chunk(_) | ServerState::AuthExchange => {
                let ends_at = match &self.state {
                    ServerState::Data(incoming) => Some(incoming.ends_at),
                    ServerState::Chunk(chunk) => Some(chunk.ends_at),
                    ServerState::New
                    | ServerState::AwaitingAnswer(_)
                    | ServerState::Command
                    | ServerState::AuthExchange
                    | ServerState::Handshake
                    | ServerState::Closed => None,
                };
                if let Some(ends_at) = ends_at {
                    self.deadline = ends_at.min(self.now + self.settings.data_idle);
                }
                let mut rest = bytes;
                self.process_input(&mut rest, actions);
                self.input_buffer.append(rest);
            }
        }
    }

    fn handle_tick(&mut self, actions: &mut Actions) {
        match self.state {
            ServerState::New | ServerState::AwaitingAnswer(_) | ServerState::Closed => {}
            ServerState::Handshake if self.now >= self.deadline => self.close_silently(actions),
            ServerState::Command | ServerState::Data(_) | ServerState::Chunk(_) | ServerState::AuthExchange
                if self.now >= self.deadline =>
            {
                self.close(&replies::TIMED_OUT, actions);
            }
            ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange
            | ServerState::Handshake => {
                self.deadline_armed = Monotonic::default();
            }
        }
    }

    fn handle_secured(&mut self, tls: &TlsSession, actions: &mut Actions) {
        match &mut self.state {
            ServerState::AwaitingAnswer(PendingServerQuestion::Connect(slot)) => *slot = Some(tls.clone()),
            ServerState::Handshake => {
                self.reset_session();
                self.tls = true;
                self.ask(ServerQuestion::Secured(tls.clone()), PendingServerQuestion::Secured(TlsStart::StartTls), actions);
            }
            // Never given by the session loop in other states.
            ServerState::New
            | ServerState::AwaitingAnswer(_)
            | ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange
            | ServerState::Closed => {}
        }
    }

    fn handle_eof(&mut self, actions: &mut Actions) {
        match self.state {
            ServerState::Closed => {}
            ServerState::AwaitingAnswer(_) => self.pending_end = PendingEnd::Eof,
            ServerState::New
            | ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange
            | ServerState::Handshake => {
                self.close_silently(actions);
            }
        }
    }

    fn handle_shutdown(&mut self, actions: &mut Actions) {
        match self.state {
            ServerState::Closed => {}
            ServerState::AwaitingAnswer(_) => self.pending_end = PendingEnd::Shutdown,
            // A reply in plain text would break the handshake and look like an attack.
            ServerState::Handshake => self.close_silently(actions),
            ServerState::New
            | ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange => {
                self.close(&replies::SHUTTING_DOWN, actions);
            }
        }
    }

    /// Discards all knowledge obtained from the client (RFC 3207 §4.2). The error count stays.
    pub(super) fn reset_session(&mut self) {
        self.progress = SessionProgress::NoHelo;
        self.authenticated = false;
        self.line_splitter = new_line_splitter(&self.settings);
        self.input_buffer = InputBuffer::default();
    }

    /// Processes the input received while a question was open.
    fn resume(&mut self, actions: &mut Actions) {
        if self.pending_end == PendingEnd::Shutdown {
            // 421 replaces the next reply; an answer leading to a close or to another question is not disturbed.
            match self.state {
                ServerState::Command
                | ServerState::Data(_)
                | ServerState::Chunk(_)
                | ServerState::AuthExchange
                | ServerState::Handshake => self.handle_shutdown(actions),
                ServerState::New | ServerState::AwaitingAnswer(_) | ServerState::Closed => {}
            }
            return;
        }
        let mut backlog = mem::take(&mut self.input_buffer);
        let mut rest = backlog.unread();
        self.process_input(&mut rest, actions);
        let left = rest.len();
        backlog.retain_last(left);
        self.input_buffer = backlog;
        match self.state {
            ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange
            | ServerState::Handshake
                if self.pending_end == PendingEnd::Eof =>
            {
                self.close_silently(actions);
            }
            ServerState::New
            | ServerState::AwaitingAnswer(_)
            | ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange
            | ServerState::Handshake
            | ServerState::Closed => {}
        }
    }

    /// Processes input until all is consumed or a question is open.
    fn process_input(&mut self, input: &mut &[u8], actions: &mut Actions) {
        while !input.is_empty() {
            match mem::replace(&mut self.state, ServerState::Command) {
                ServerState::Command => {
                    let Some(line) = self.line_splitter.next(input) else { return };
                    let line = line.map(|Line(line)| parse_line(line, &self.settings, self.progress));
                    self.deadline = self.now + self.settings.command_idle;
                    self.handle_line(line, actions);
                }
                ServerState::AuthExchange => {
                    let Some(line) = self.line_splitter.next(input) else {
                        self.state = ServerState::AuthExchange;
                        return;
                    };
                    let line = line.map(|Line(line)| super::auth::parse_response(line, &self.settings));
                    self.deadline = self.now + self.settings.command_idle;
                    self.handle_auth_response(line, actions);
                }
                ServerState::Data(incoming) => self.read_message(incoming, input, actions),
                ServerState::Chunk(chunk) => self.read_chunk(chunk, input, actions),
                // Input behind STARTTLS in the same packet was not encrypted (RFC 3207 §6, CVE-2011-0411).
                ServerState::Handshake => {
                    actions.retain(|action| !matches!(action, Action::StartTls));
                    self.close_silently(actions);
                }
                ServerState::Closed => {
                    self.state = ServerState::Closed;
                    *input = &[];
                }
                other @ (ServerState::New | ServerState::AwaitingAnswer(_)) => {
                    self.state = other;
                    return;
                }
            }
        }
    }

    fn handle_line(&mut self, line: Result<ParsedLine, LineError>, actions: &mut Actions) {
        match line {
            Ok(ParsedLine::Policy { verb, argument, default_action }) => {
                self.ask(ServerQuestion::Command { verb, argument }, PendingServerQuestion::Command(default_action), actions);
            }
            Ok(ParsedLine::Command(command)) => self.handle_command(command, actions),
            Ok(ParsedLine::Error(error)) => self.refuse_command(error, actions),
            Ok(ParsedLine::TooLong) | Err(LineError::TooLong) => self.refuse(&replies::LINE_TOO_LONG, actions),
            Err(LineError::BareLineEnd) => self.refuse(&replies::BARE_LINE_END, actions),
        }
    }

    fn handle_command(&mut self, command: Command, actions: &mut Actions) {
        if self.settings.tls_required && !self.tls && needs_tls(&command) {
            if let Command::Bdat { size, last } = command {
                return self.refuse_chunk(size, last, replies::TLS_REQUIRED, actions);
            }
            return self.refuse(&replies::TLS_REQUIRED, actions);
        }
        match command {
            Command::Mail { sender, parameters } => self.handle_mail(sender, parameters, actions),
            Command::Rcpt { recipient, parameters } => self.handle_rcpt(recipient, parameters, actions),
            Command::Data => self.handle_data(actions),
            Command::Bdat { size, last } => self.handle_bdat(size, last, actions),
            Command::Helo(_) | Command::Ehlo(_) if self.settings.protocol == Protocol::Lmtp => {
                self.refuse(&replies::LHLO_ONLY, actions);
            }
            Command::Helo(name) => self.handle_helo(name, false, actions),
            Command::Ehlo(name) | Command::Lhlo(name) => self.handle_helo(name, true, actions),
            Command::StartTls => self.handle_starttls(actions),
            Command::Auth { mechanism, initial } => self.handle_auth(mechanism, initial, actions),
            Command::Xclient(attributes) => self.handle_xclient(attributes, actions),
            Command::Rset => match self.progress {
                SessionProgress::Transaction(_) => {
                    self.ask(ServerQuestion::Reset, PendingServerQuestion::Reset(AfterReset::Rset), actions)
                }
                SessionProgress::ChunksRefused { .. } => {
                    self.progress = SessionProgress::Greeted;
                    self.send_junk_reply(Bytes::from_static(replies::OK), actions);
                }
                SessionProgress::NoHelo | SessionProgress::Greeted => {
                    self.send_junk_reply(Bytes::from_static(replies::OK), actions)
                }
            },
            Command::Noop => self.send_junk_reply(Bytes::from_static(replies::OK), actions),
            Command::Vrfy(_) => self.send_junk_reply(replies::encode(&replies::CANNOT_VERIFY), actions),
            Command::Help => self.send_junk_reply(replies::encode(&replies::help_reply(|verb| self.is_offered(verb))), actions),
            Command::Quit => self.close(&replies::BYE, actions),
        }
    }

    /// Returns whether HELP lists the verb.
    fn is_offered(&self, verb: Verb) -> bool {
        let lmtp = self.settings.protocol == Protocol::Lmtp;
        match verb {
            Verb::Helo | Verb::Ehlo => !lmtp,
            Verb::StartTls => self.settings.starttls && !self.tls,
            Verb::Auth => !self.mechanisms().is_empty(),
            Verb::Bdat => self.settings.chunking,
            Verb::Lhlo | Verb::Xclient => is_supported(verb, &self.settings),
            Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Help | Verb::Quit => true,
        }
    }

    fn refuse_command(&mut self, error: CommandError, actions: &mut Actions) {
        let (reply, closes) = replies::for_command_error(error, self.settings.smtputf8);
        if closes { self.close(&reply, actions) } else { self.refuse(&reply, actions) }
    }

    fn handle_answer(&mut self, answer: ServerAnswer, actions: &mut Actions) {
        let ServerState::AwaitingAnswer(asked) = mem::replace(&mut self.state, ServerState::Command) else { return };
        self.deadline = self.now + self.settings.command_idle;
        match asked {
            PendingServerQuestion::Connect(tls) => self.connect_answered(tls, answer.into_step(), actions),
            PendingServerQuestion::Secured(begins) => self.secured_answered(begins, answer.into_step(), actions),
            PendingServerQuestion::Helo { esmtp } => self.helo_answered(esmtp, answer.into_step(), actions),
            PendingServerQuestion::Xclient { login } => self.xclient_answered(login, answer.into_step(), actions),
            PendingServerQuestion::Auth => self.auth_answered(answer.into_auth(), actions),
            PendingServerQuestion::AuthCancelled(reply) => self.auth_cancelled(&reply, answer.into_drop(), actions),
            PendingServerQuestion::Mail(transaction) => self.mail_answered(transaction, answer.into_step(), actions),
            PendingServerQuestion::Rcpt => self.rcpt_answered(answer.into_step(), actions),
            PendingServerQuestion::Data => self.data_answered(answer.into_step(), actions),
            PendingServerQuestion::Chunk(chunk) => self.first_chunk_answered(chunk, answer.into_step(), actions),
            PendingServerQuestion::EndOfData => self.end_of_data_answered(answer.into_message(), actions),
            PendingServerQuestion::Reset(then) => self.reset_answered(then, answer.into_drop(), actions),
            PendingServerQuestion::Command(default_action) => self.command_answered(default_action, answer.into_step(), actions),
        }
    }

    /// Handles the answer to [`ServerQuestion::Command`]. With 221 or 3yz the client would wait for further action, so
    /// both are replaced.
    fn command_answered(&mut self, default_action: Result<Command, CommandError>, answer: StepAnswer, actions: &mut Actions) {
        match (reply_decision(answer), default_action) {
            (ReplyDecision::Reject(reply), _) => self.refuse(&reply, actions),
            (ReplyDecision::Close(reply), _) => self.close(&reply, actions),
            (ReplyDecision::Accept(Some(reply)), _) if reply.code() < 300 && reply.code() != 221 => {
                self.send_junk_reply(replies::encode(&reply), actions);
            }
            (ReplyDecision::Accept(_), Ok(command)) => self.handle_command(command, actions),
            (ReplyDecision::Accept(_), Err(error)) => self.refuse_command(error, actions),
        }
    }

    pub(super) fn ask(&mut self, question: ServerQuestion, asked: PendingServerQuestion, actions: &mut Actions) {
        self.state = ServerState::AwaitingAnswer(asked);
        actions.push(Action::Ask(question));
    }

    pub(super) fn send(&mut self, reply: &Reply, actions: &mut Actions) {
        actions.push(Action::Send(replies::encode(reply)));
    }

    /// Sends the reply of the host if the code fits, else the default reply.
    pub(super) fn accept(&mut self, reply: Option<Reply>, default_reply: &'static [u8], actions: &mut Actions) {
        match reply.filter(|r| (250..253).contains(&r.code())) {
            Some(reply) => self.send(&reply, actions),
            None => actions.push(Action::Send(Bytes::from_static(default_reply))),
        }
    }

    /// Resets the error counters after an accepted message.
    pub(super) fn reset_error_count(&mut self) {
        (self.error_count, self.junk_command_count) = (0, 0);
    }

    /// Sends a positive reply to a junk command (`smtpd_junk_command_limit`), and counts an error above the limit.
    pub(super) fn send_junk_reply(&mut self, reply: Bytes, actions: &mut Actions) {
        actions.push(Action::Send(reply));
        self.junk_command_count = self.junk_command_count.saturating_add(1);
        if self.junk_command_count > self.settings.junk_commands_max {
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
        self.error_count = self.error_count.saturating_add(1);
        if self.error_count >= self.settings.errors_max {
            self.close(&replies::TOO_MANY_ERRORS, actions);
        }
    }

    pub(super) fn close(&mut self, reply: &Reply, actions: &mut Actions) {
        self.send(reply, actions);
        self.close_silently(actions);
    }

    pub(super) fn close_silently(&mut self, actions: &mut Actions) {
        self.state = ServerState::Closed;
        self.input_buffer = InputBuffer::default();
        actions.push(Action::Close);
    }

    /// Sends the deadline to the session loop, at most once per step and only after a change: setting the timer has a
    /// cost.
    fn arm_deadline(&mut self, actions: &mut Actions) {
        let runs = match self.state {
            ServerState::Command
            | ServerState::Data(_)
            | ServerState::Chunk(_)
            | ServerState::AuthExchange
            | ServerState::Handshake => true,
            ServerState::New | ServerState::AwaitingAnswer(_) | ServerState::Closed => false,
        };
        if runs && self.deadline != self.deadline_armed {
            self.deadline_armed = self.deadline;
            // The session loop ignores actions after StartTls.
            let at = actions.len() - usize::from(matches!(actions.last(), Some(Action::StartTls)));
            actions.insert(at, Action::WakeAt(self.deadline));
        }
    }
}

/// Complete line, parsed.
enum ParsedLine {
    /// Command left to policy: the host is asked first.
    Policy {
        verb: String,
        argument: Bytes,
        default_action: Result<Command, CommandError>,
    },
    Command(Command),
    Error(CommandError),
    TooLong,
}

fn parse_line(line: &[u8], settings: &ServerSettings, progress: SessionProgress) -> ParsedLine {
    let verb = parse_verb(line.trim_ascii_end().split(|octet| *octet == b' ').next().unwrap_or_default());
    // Only AUTH may have the longer lines let through by the splitter.
    let line_bytes_max = match verb {
        Ok(Verb::Auth) => settings.command_line_bytes_max.max(settings.auth_line_bytes_max),
        Ok(_) | Err(_) => settings.command_line_bytes_max,
    };
    if line.len() + 2 > line_bytes_max {
        return ParsedLine::TooLong;
    }
    let utf8 = matches!(progress, SessionProgress::Transaction(transaction) if transaction.smtputf8);
    let default_action = match verb {
        Ok(verb) if !is_supported(verb, settings) => Err(CommandError::Unknown),
        Ok(_) | Err(_) => Command::parse_with_utf8(line, utf8),
    };
    match (as_policy_command(line, |verb| is_supported(verb, settings)), default_action) {
        (Some((verb, argument)), default_action) => ParsedLine::Policy { verb, argument, default_action },
        (None, Ok(command)) => ParsedLine::Command(command),
        (None, Err(error)) => ParsedLine::Error(error),
    }
}

/// Returns whether the listener supports a verb; unsupported verbs are left to policy like unknown verbs.
fn is_supported(verb: Verb, settings: &ServerSettings) -> bool {
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

fn new_line_splitter(settings: &ServerSettings) -> LineSplitter {
    let auth = if settings.has_auth() { settings.auth_line_bytes_max } else { 0 };
    LineSplitter::new(settings.command_line_bytes_max.max(auth))
}

pub(super) fn is_negative(reply: &Reply) -> bool {
    (400..600).contains(&reply.code())
}

pub(super) fn reply_decision(answer: StepAnswer) -> ReplyDecision {
    match answer {
        StepAnswer::Ok | StepAnswer::OkWithoutExtensions(_) => ReplyDecision::Accept(None),
        StepAnswer::Reply(reply) if is_negative(&reply) => ReplyDecision::Reject(reply),
        StepAnswer::Reply(reply) if (200..400).contains(&reply.code()) => ReplyDecision::Accept(Some(reply)),
        StepAnswer::Reply(_) => ReplyDecision::Reject(replies::INTERNAL),
        StepAnswer::Close(reply) => ReplyDecision::Close(closing_reply(reply)),
    }
}

/// Returns the reply sent before closing; a non-negative reply is replaced.
pub(super) fn closing_reply(reply: Reply) -> Reply {
    if is_negative(&reply) { reply } else { replies::INTERNAL_CLOSING }
}
