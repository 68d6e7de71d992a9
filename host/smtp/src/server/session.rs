//! The states of a server session.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Action, Input, Line, LineError, LineSplitter, Monotonic, Parameter, Reply, ReversePath, Session};

use super::{Answer, MailOptions, Question, RcptOptions, ServerSettings, replies};
use crate::backlog::Backlog;
use crate::command::{Command, CommandError, left_to_policy, mail_parameters};
use crate::data::{DataEvent, DataReader, Refusal, Runs};

type Actions = Vec<Action<Question>>;

/// One client's connection. Memory: a command line, and what one input held behind the octets that opened a question.
#[derive(Debug)]
pub struct ServerSession {
    settings: Arc<ServerSettings>,
    state: State,
    progress: Progress,
    ending: Ending,
    lines: LineSplitter,
    backlog: Backlog,
    errors: u32,
    junk_commands: u32,
    deadline: Monotonic,
    deadline_told: Monotonic,
}

#[derive(Debug)]
enum State {
    /// Before [`Input::Start`].
    New,
    /// A question is open.
    Asked(Asked),
    /// Reads commands.
    Command,
    /// Reads a message.
    Data(Incoming),
    /// Nothing follows.
    Closed,
}

/// The open question, with what its answer needs.
#[derive(Debug)]
enum Asked {
    Connect,
    Helo {
        esmtp: bool,
    },
    Mail,
    Rcpt,
    Data,
    /// With what is answered if the host has nothing to say.
    Command(Result<Command, CommandError>),
    EndOfData,
    Reset(Then),
}

/// What goes on when the host has dropped a transaction.
#[derive(Debug)]
enum Then {
    Rset,
    Helo {
        name: String,
        esmtp: bool,
    },
    /// Reads the refused message to its end.
    Skip(Incoming),
}

#[derive(Debug)]
struct Incoming {
    reader: DataReader,
    ends_at: Monotonic,
}

/// How far the client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    NoHelo,
    Greeted,
    Transaction { accepted: usize, overshoot: usize },
}

/// What waits for the open question's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// The peer sends no more: what it has sent is answered, then we close.
    Eof,
    Shutdown,
}

/// An answer as most questions understand it.
enum Said {
    Yes(Option<Reply>),
    No(Reply),
    Close(Reply),
}

impl Session for ServerSession {
    type Question = Question;
    type Answer = Answer;

    fn step(&mut self, now: Monotonic, input: Input<'_, Answer>, actions: &mut Actions) {
        match (&self.state, input) {
            (State::Closed, _) => return,
            (State::New, Input::Start) => self.ask(Question::Connect, Asked::Connect, actions),
            (State::New | State::Asked(_), Input::Bytes(bytes)) => self.backlog.keep(bytes),
            (State::Command | State::Data(_), Input::Bytes(bytes)) => {
                if let State::Data(incoming) = &self.state {
                    self.deadline = incoming.ends_at.min(now + self.settings.data_idle);
                }
                let mut rest = bytes;
                self.run(now, &mut rest, actions);
                self.backlog.keep(rest);
            }
            (State::Asked(_), Input::Answer(answer)) => {
                self.answered(now, answer, actions);
                self.go_on(now, actions);
            }
            (State::Command | State::Data(_), Input::Tick) if now >= self.deadline => self.close(&replies::TIMED_OUT, actions),
            (State::Command | State::Data(_), Input::Tick) => self.deadline_told = Monotonic::default(),
            (State::Asked(_), Input::Eof) => self.ending = Ending::Eof,
            (State::Asked(_), Input::Shutdown) => self.ending = Ending::Shutdown,
            (State::New | State::Command | State::Data(_), Input::Eof) => self.close_silently(actions),
            (State::New | State::Command | State::Data(_), Input::Shutdown) => self.close(&replies::SHUTTING_DOWN, actions),
            // Input that the loop never gives here.
            (State::New | State::Asked(_), Input::Tick) => {}
            (State::Command | State::Data(_) | State::Asked(_), Input::Start) => {}
            (State::New | State::Command | State::Data(_), Input::Answer(_)) => {}
            (State::New | State::Command | State::Data(_) | State::Asked(_), Input::Secured(_)) => {}
        }
        self.tell_deadline(actions);
    }
}

impl ServerSession {
    /// A session before its first input.
    #[must_use]
    pub fn new(settings: Arc<ServerSettings>) -> Self {
        Self {
            lines: LineSplitter::new(settings.command_line_bytes_max),
            settings,
            state: State::New,
            progress: Progress::NoHelo,
            ending: Ending::No,
            backlog: Backlog::default(),
            errors: 0,
            junk_commands: 0,
            deadline: Monotonic::default(),
            deadline_told: Monotonic::default(),
        }
    }

    /// Octets of input that are held: less than a command line and one input together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.lines.held() + self.backlog.rest().len()
    }

    /// Takes up what came while a question was open.
    fn go_on(&mut self, now: Monotonic, actions: &mut Actions) {
        if self.ending == Ending::Shutdown {
            // 421 in place of whatever was next; an answer that closed or asked again is not disturbed.
            match self.state {
                State::Command | State::Data(_) => return self.close(&replies::SHUTTING_DOWN, actions),
                State::New | State::Asked(_) | State::Closed => return,
            }
        }
        let mut backlog = mem::take(&mut self.backlog);
        let mut rest = backlog.rest();
        self.run(now, &mut rest, actions);
        let left = rest.len();
        backlog.leave(left);
        self.backlog = backlog;
        match self.state {
            State::Command | State::Data(_) if self.ending == Ending::Eof => self.close_silently(actions),
            State::New | State::Asked(_) | State::Command | State::Data(_) | State::Closed => {}
        }
    }

    /// Reads until the input is used up or a question is open.
    fn run(&mut self, now: Monotonic, input: &mut &[u8], actions: &mut Actions) {
        while !input.is_empty() {
            match mem::replace(&mut self.state, State::Command) {
                State::Command => {
                    let Some(line) = self.lines.next(input) else { return };
                    let parsed = line.map(|Line(line)| (Command::parse(line), left_to_policy(line)));
                    self.deadline = now + self.settings.command_idle;
                    match parsed {
                        Ok((usual, Some((verb, argument)))) => {
                            self.ask(Question::Command { verb, argument }, Asked::Command(usual), actions);
                        }
                        Ok((Ok(command), None)) => self.command(command, actions),
                        Ok((Err(error), None)) => self.refuse_command(error, actions),
                        Err(LineError::TooLong) => self.refuse(&replies::LINE_TOO_LONG, actions),
                        Err(LineError::BareLineEnd) => self.refuse(&replies::BARE_LINE_END, actions),
                    }
                }
                State::Data(incoming) => self.message(now, incoming, input, actions),
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

    fn message(&mut self, now: Monotonic, mut incoming: Incoming, input: &mut &[u8], actions: &mut Actions) {
        let mut runs = Runs::default();
        let event = incoming.reader.read(input, &mut runs);
        actions.extend(runs.into_bytes().map(Action::Body));
        match event {
            DataEvent::More => self.state = State::Data(incoming),
            DataEvent::Refused(_) => self.ask(Question::Reset, Asked::Reset(Then::Skip(incoming)), actions),
            DataEvent::End(None) => self.ask(Question::EndOfData, Asked::EndOfData, actions),
            DataEvent::End(Some(refusal)) => self.message_refused(now, refusal, actions),
            DataEvent::Runaway => self.close(&replies::RUNAWAY, actions),
        }
    }

    fn message_refused(&mut self, now: Monotonic, refusal: Refusal, actions: &mut Actions) {
        self.progress = Progress::Greeted;
        self.deadline = now + self.settings.command_idle;
        self.refuse(&replies::for_refusal(refusal), actions);
    }

    fn command(&mut self, command: Command, actions: &mut Actions) {
        match command {
            Command::Mail { sender, parameters } => self.mail(sender, parameters, actions),
            Command::Rcpt { recipient, parameters } => self.rcpt(recipient, parameters, actions),
            Command::Data => self.data(actions),
            Command::Helo(name) => self.helo(name, false, actions),
            Command::Ehlo(name) => self.helo(name, true, actions),
            Command::Rset => match self.progress {
                Progress::Transaction { .. } => self.ask(Question::Reset, Asked::Reset(Then::Rset), actions),
                Progress::NoHelo | Progress::Greeted => self.junk(Bytes::from_static(replies::OK), actions),
            },
            Command::Noop => self.junk(Bytes::from_static(replies::OK), actions),
            Command::Vrfy(_) => self.junk(replies::wire(&replies::VERIFY), actions),
            Command::Help => self.junk(replies::wire(&replies::help()), actions),
            Command::Quit => self.close(&replies::BYE, actions),
        }
    }

    fn refuse_command(&mut self, error: CommandError, actions: &mut Actions) {
        let (reply, closes) = replies::for_command(error);
        if closes { self.close(&reply, actions) } else { self.refuse(&reply, actions) }
    }

    fn helo(&mut self, name: String, esmtp: bool, actions: &mut Actions) {
        match self.progress {
            // RFC 5321 §4.1.4: EHLO in a transaction resets it.
            Progress::Transaction { .. } => self.ask(Question::Reset, Asked::Reset(Then::Helo { name, esmtp }), actions),
            Progress::NoHelo | Progress::Greeted => self.ask(Question::Helo { name, esmtp }, Asked::Helo { esmtp }, actions),
        }
    }

    fn mail(&mut self, sender: ReversePath, parameters: Vec<Parameter>, actions: &mut Actions) {
        match self.progress {
            Progress::NoHelo if self.settings.helo_required => return self.refuse(&replies::HELO_FIRST, actions),
            Progress::Transaction { .. } => return self.refuse(&replies::NESTED_MAIL, actions),
            Progress::NoHelo | Progress::Greeted => {}
        }
        let known = match mail_parameters(&parameters) {
            Ok(known) => known,
            Err(error) => return self.refuse(&replies::for_parameter(&error), actions),
        };
        if known.size.is_some_and(|size| size > self.settings.message_size_max) {
            return self.refuse(&replies::SIZE_TOO_LARGE, actions);
        }
        let size = known.size;
        let options = MailOptions { body: known.body, ..MailOptions::default() };
        self.ask(Question::Mail { sender, parameters, size, options }, Asked::Mail, actions);
    }

    fn rcpt(&mut self, recipient: waxwing_types::Address, parameters: Vec<Parameter>, actions: &mut Actions) {
        let Progress::Transaction { accepted, overshoot } = &mut self.progress else {
            return self.refuse(&replies::MAIL_FIRST, actions);
        };
        if !parameters.is_empty() {
            return self.refuse(&replies::for_parameter(&crate::command::ParameterError::Unsupported), actions);
        }
        if *accepted >= self.settings.recipients_max {
            *overshoot += 1;
            let reply = replies::wire(&replies::TOO_MANY_RECIPIENTS);
            let counts = *overshoot > self.settings.recipients_overshoot_max;
            return if counts { self.refuse(&replies::TOO_MANY_RECIPIENTS, actions) } else { actions.push(Action::Send(reply)) };
        }
        self.ask(Question::Rcpt { recipient, parameters, options: RcptOptions::default() }, Asked::Rcpt, actions);
    }

    fn data(&mut self, actions: &mut Actions) {
        match self.progress {
            Progress::NoHelo | Progress::Greeted => self.refuse(&replies::MAIL_FIRST, actions),
            Progress::Transaction { accepted: 0, .. } => self.refuse(&replies::NO_RECIPIENTS, actions),
            Progress::Transaction { .. } => self.ask(Question::Data, Asked::Data, actions),
        }
    }

    fn answered(&mut self, now: Monotonic, answer: Answer, actions: &mut Actions) {
        let State::Asked(asked) = mem::replace(&mut self.state, State::Command) else { return };
        self.deadline = now + self.settings.command_idle;
        match asked {
            Asked::EndOfData => self.message_answered(answer, actions),
            Asked::Reset(then) => self.reset_answered(now, then, answer, actions),
            Asked::Command(usual) => self.command_answered(usual, answer, actions),
            Asked::Connect => match said(answer) {
                Said::Yes(reply) => self.greet(reply, actions),
                Said::No(reply) | Said::Close(reply) => self.close(&reply, actions),
            },
            Asked::Helo { esmtp: true } if matches!(answer, Answer::OkWithout(_)) => {
                let Answer::OkWithout(hidden) = answer else { return };
                self.greeted(true, &hidden, actions);
            }
            Asked::Helo { .. } | Asked::Mail | Asked::Rcpt | Asked::Data => match said(answer) {
                Said::Yes(reply) => self.accepted(now, &asked, reply, actions),
                Said::No(reply) => self.refuse(&reply, actions),
                Said::Close(reply) => self.close(&reply, actions),
            },
        }
    }

    /// 221 and 3yz would have the client wait for what does not come.
    fn command_answered(&mut self, usual: Result<Command, CommandError>, answer: Answer, actions: &mut Actions) {
        match (said(answer), usual) {
            (Said::No(reply), _) => self.refuse(&reply, actions),
            (Said::Close(reply), _) => self.close(&reply, actions),
            (Said::Yes(Some(reply)), _) if reply.code() < 300 && reply.code() != 221 => {
                self.junk(replies::wire(&reply), actions);
            }
            (Said::Yes(_), Ok(command)) => self.command(command, actions),
            (Said::Yes(_), Err(error)) => self.refuse_command(error, actions),
        }
    }

    fn greet(&mut self, reply: Option<Reply>, actions: &mut Actions) {
        match reply.filter(|r| r.code() == 220 && !r.text().is_empty()) {
            Some(reply) => self.send(&reply, actions),
            None => self.send(&Reply::plain(220, self.settings.greeting.clone()), actions),
        }
    }

    /// HELO or EHLO was accepted; `hidden` are keywords that EHLO's answer leaves out.
    fn greeted(&mut self, esmtp: bool, hidden: &[String], actions: &mut Actions) {
        self.progress = Progress::Greeted;
        let hostname = &self.settings.hostname;
        let reply = match esmtp {
            true => replies::extensions(hostname, self.settings.message_size_max, hidden),
            false => Reply::plain(250, hostname.clone()),
        };
        self.junk(replies::wire(&reply), actions);
    }

    fn accepted(&mut self, now: Monotonic, asked: &Asked, reply: Option<Reply>, actions: &mut Actions) {
        let reply = reply.filter(|r| (250..253).contains(&r.code()));
        let usual = match asked {
            Asked::Helo { esmtp } => return self.greeted(*esmtp, &[], actions),
            Asked::Mail => {
                self.progress = Progress::Transaction { accepted: 0, overshoot: 0 };
                replies::SENDER_OK
            }
            Asked::Rcpt => {
                if let Progress::Transaction { accepted, .. } = &mut self.progress {
                    *accepted += 1;
                }
                replies::RECIPIENT_OK
            }
            Asked::Data => return self.begin_data(now, actions),
            Asked::Connect | Asked::Command(_) | Asked::EndOfData | Asked::Reset(_) => return,
        };
        match reply {
            Some(reply) => self.send(&reply, actions),
            None => actions.push(Action::Send(Bytes::from_static(usual))),
        }
    }

    fn begin_data(&mut self, now: Monotonic, actions: &mut Actions) {
        if self.ending == Ending::Shutdown {
            return; // 421 follows in place of 354
        }
        actions.push(Action::Send(Bytes::from_static(replies::START_DATA)));
        let reader = DataReader::new(self.settings.message_size_max, self.settings.refused_bytes_max);
        let ends_at = now + self.settings.data_total;
        self.deadline = ends_at.min(now + self.settings.data_idle);
        self.state = State::Data(Incoming { reader, ends_at });
    }

    fn message_answered(&mut self, answer: Answer, actions: &mut Actions) {
        self.progress = Progress::Greeted;
        match answer {
            Answer::Committed(reply) | Answer::Discarded(reply) if !is_negative(&reply) => {
                (self.errors, self.junk_commands) = (0, 0);
                match reply.code() {
                    250 => self.send(&reply, actions),
                    _ => actions.push(Action::Send(Bytes::from_static(replies::OK))),
                }
            }
            Answer::Reply(reply) | Answer::Committed(reply) | Answer::Discarded(reply) if is_negative(&reply) => {
                self.refuse(&reply, actions);
            }
            Answer::Close(reply) if is_negative(&reply) => self.close(&reply, actions),
            Answer::Close(_) => self.close(&replies::INTERNAL_CLOSING, actions),
            // Anything else would be a positive reply without a commit.
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Done
            | Answer::Reply(_)
            | Answer::Committed(_)
            | Answer::CommittedEach(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Discarded(_) => {
                self.refuse(&replies::INTERNAL, actions);
            }
        }
    }

    fn reset_answered(&mut self, now: Monotonic, then: Then, answer: Answer, actions: &mut Actions) {
        if let Answer::Close(reply) = answer {
            let reply = if is_negative(&reply) { reply } else { replies::INTERNAL_CLOSING };
            return self.close(&reply, actions);
        }
        match then {
            Then::Skip(incoming) if incoming.reader.is_runaway() => self.close(&replies::RUNAWAY, actions),
            Then::Skip(incoming) => {
                self.deadline = incoming.ends_at.min(now + self.settings.data_idle);
                self.state = State::Data(incoming);
            }
            Then::Rset => {
                self.progress = Progress::Greeted;
                self.junk(Bytes::from_static(replies::OK), actions);
            }
            Then::Helo { name, esmtp } => {
                self.progress = Progress::Greeted;
                self.helo(name, esmtp, actions);
            }
        }
    }

    fn ask(&mut self, question: Question, asked: Asked, actions: &mut Actions) {
        self.state = State::Asked(asked);
        actions.push(Action::Ask(question));
    }

    fn send(&mut self, reply: &Reply, actions: &mut Actions) {
        actions.push(Action::Send(replies::wire(reply)));
    }

    /// A positive reply to a command that brings mail no further; too many of them are errors.
    fn junk(&mut self, reply: Bytes, actions: &mut Actions) {
        actions.push(Action::Send(reply));
        self.junk_commands = self.junk_commands.saturating_add(1);
        if self.junk_commands > self.settings.junk_commands_max {
            self.count_error(actions);
        }
    }

    /// A negative reply.
    fn refuse(&mut self, reply: &Reply, actions: &mut Actions) {
        self.send(reply, actions);
        if reply.code() == 421 {
            return self.close_silently(actions); // RFC 5321 §3.8: 421 says that we close
        }
        self.count_error(actions);
    }

    fn count_error(&mut self, actions: &mut Actions) {
        self.errors = self.errors.saturating_add(1);
        if self.errors >= self.settings.errors_max {
            self.close(&replies::TOO_MANY_ERRORS, actions);
        }
    }

    fn close(&mut self, reply: &Reply, actions: &mut Actions) {
        self.send(reply, actions);
        self.close_silently(actions);
    }

    fn close_silently(&mut self, actions: &mut Actions) {
        self.state = State::Closed;
        self.backlog = Backlog::default();
        actions.push(Action::Close);
    }

    /// Once in a step at most, and only if it changed: the loop's timer is lazy, but not free.
    fn tell_deadline(&mut self, actions: &mut Actions) {
        match self.state {
            State::Command | State::Data(_) if self.deadline != self.deadline_told => {
                self.deadline_told = self.deadline;
                actions.push(Action::WakeAt(self.deadline));
            }
            State::New | State::Asked(_) | State::Command | State::Data(_) | State::Closed => {}
        }
    }
}

fn is_negative(reply: &Reply) -> bool {
    (400..600).contains(&reply.code())
}

fn said(answer: Answer) -> Said {
    match answer {
        Answer::Ok | Answer::OkWithout(_) => Said::Yes(None),
        Answer::Reply(reply) if is_negative(&reply) => Said::No(reply),
        Answer::Reply(reply) if (200..400).contains(&reply.code()) => Said::Yes(Some(reply)),
        Answer::Close(reply) if is_negative(&reply) => Said::Close(reply),
        Answer::Close(_) => Said::Close(replies::INTERNAL_CLOSING),
        Answer::Reply(_)
        | Answer::Committed(_)
        | Answer::CommittedEach(_)
        | Answer::Challenge(_)
        | Answer::Authenticated
        | Answer::Discarded(_)
        | Answer::Done => Said::No(replies::INTERNAL),
    }
}
