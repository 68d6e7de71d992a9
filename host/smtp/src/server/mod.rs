//! The server's side: settings, questions and answers; the states are in [`ServerSession`].

mod replies;
mod session;

use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Address, BodyType, Parameter, Reply, ReversePath};

pub use session::ServerSession;

/// Limits and words of a server session. Names in brackets are Postfix's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Our name in replies (`myhostname`).
    pub hostname: String,
    /// The text of the 220 greeting; begins with the host name (`smtpd_banner`).
    pub greeting: String,
    /// Octets of a message, dot-stuffing undone (`message_size_limit`); offered as SIZE.
    pub message_size_max: u64,
    /// Octets that are still read of a message that is refused already, beyond `message_size_max`, before the connection
    /// is closed instead.
    pub refused_bytes_max: u64,
    /// Accepted recipients of one message; more get 452 (`smtpd_recipient_limit`).
    pub recipients_max: usize,
    /// Recipients over the limit that do not count as errors yet (`smtpd_recipient_overshoot_limit`).
    pub recipients_overshoot_max: usize,
    /// Octets of a command line, CRLF included (`line_length_limit`).
    pub command_line_bytes_max: usize,
    /// Negative replies since the last accepted message before 421 (`smtpd_hard_error_limit`).
    pub errors_max: u32,
    /// HELO, RSET, NOOP, VRFY and HELP since the last accepted message before each counts as an error
    /// (`smtpd_junk_command_limit`).
    pub junk_commands_max: u32,
    /// From one reply to the end of the next command (`smtpd_timeout`).
    pub command_idle: Duration,
    /// From one piece of a message to the next (`smtpd_timeout`).
    pub data_idle: Duration,
    /// From 354 to the end of the message.
    pub data_total: Duration,
    /// MAIL needs HELO or EHLO first (`smtpd_helo_required`).
    pub helo_required: bool,
}

impl ServerSettings {
    /// Postfix's defaults for this host name.
    #[must_use]
    pub fn new(hostname: impl Into<String>) -> Self {
        let hostname = hostname.into();
        Self {
            greeting: format!("{hostname} ESMTP Waxwing"),
            hostname,
            message_size_max: 52_428_800,
            refused_bytes_max: 10_485_760,
            recipients_max: 1000,
            recipients_overshoot_max: 1000,
            command_line_bytes_max: 2048,
            errors_max: 20,
            junk_commands_max: 100,
            command_idle: Duration::from_secs(300),
            data_idle: Duration::from_secs(300),
            data_total: Duration::from_secs(7200),
            helo_required: true,
        }
    }
}

/// What a server session asks its host. The transaction ends with the answer to [`Question::EndOfData`], whatever it is, with
/// [`Question::Reset`], and with the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A client has come. [`Answer::Ok`] greets; a 220 reply greets with its own words; a negative one closes.
    Connect,
    /// HELO or EHLO. The session adds the extensions to a positive answer.
    Helo {
        /// What the client calls itself.
        name: String,
        /// EHLO.
        esmtp: bool,
    },
    /// A transaction begins.
    Mail {
        /// MAIL FROM.
        sender: ReversePath,
        /// All parameters as given, also those that the next two fields hold.
        parameters: Vec<Parameter>,
        /// SIZE, octets.
        size: Option<u64>,
        /// BODY.
        body: BodyType,
    },
    /// One more recipient.
    Rcpt {
        /// RCPT TO.
        recipient: Address,
        /// All parameters as given.
        parameters: Vec<Parameter>,
    },
    /// A command that the server does not know or that is a matter of policy: VRFY, EXPN, ETRN. [`Answer::Ok`] leaves it to the session's
    /// usual words.
    Command {
        /// In upper case.
        verb: String,
        /// What stood behind it.
        argument: Bytes,
    },
    /// May the message begin? A positive answer becomes 354.
    Data,
    /// The message is whole; every [`waxwing_types::Action::Body`] was given before. Only [`Answer::Committed`] and
    /// [`Answer::Discarded`] become a positive reply.
    EndOfData,
    /// The transaction ended without commit: RSET, HELO again, or a message that the session refuses itself. The host
    /// drops what it has of it.
    Reset,
}

/// What the host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, in the session's usual words.
    Ok,
    /// To [`Question::Helo`]: yes, and EHLO's answer leaves out the extensions with these keywords, in upper case. To other
    /// questions the same as [`Answer::Ok`].
    OkWithout(Vec<String>),
    /// Yes or no in these words. A code that does not fit the question becomes the usual words, or 451 at the end of data.
    Reply(Reply),
    /// No; and the connection closes behind this reply.
    Close(Reply),
    /// The message is safe in the queue, synced.
    Committed(Reply),
    /// The message is thrown away on purpose, and the client is told that all is well.
    Discarded(Reply),
    /// To [`Question::Reset`].
    Done,
}
