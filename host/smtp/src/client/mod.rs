//! The client's side: settings, questions, answers and outcomes; the states are in [`ClientSession`].

mod session;
mod transaction;

use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Address, Reply, ReversePath};

pub use session::ClientSession;

/// Limits and words of a client session. Times are Postfix's `smtp_*_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// What we call ourselves in EHLO (`smtp_helo_name`).
    pub helo_name: String,
    /// Until the greeting (`smtp_helo_timeout`).
    pub greeting_timeout: Duration,
    /// For EHLO and HELO (`smtp_helo_timeout`).
    pub helo_timeout: Duration,
    /// For MAIL (`smtp_mail_timeout`).
    pub mail_timeout: Duration,
    /// For each RCPT (`smtp_rcpt_timeout`).
    pub rcpt_timeout: Duration,
    /// For 354 (`smtp_data_init_timeout`).
    pub data_init_timeout: Duration,
    /// For each piece of the message to leave (`smtp_data_xfer_timeout`).
    pub data_xfer_timeout: Duration,
    /// For the reply to the final dot (`smtp_data_done_timeout`).
    pub data_done_timeout: Duration,
    /// For the reply to RSET (`smtp_rset_timeout`).
    pub rset_timeout: Duration,
    /// For the reply to QUIT (`smtp_quit_timeout`).
    pub quit_timeout: Duration,
    /// Octets of one line of a reply.
    pub reply_line_bytes_max: usize,
    /// Lines of one reply.
    pub reply_lines_max: usize,
}

impl ClientSettings {
    /// Postfix's defaults.
    #[must_use]
    pub fn new(helo_name: impl Into<String>) -> Self {
        let five_minutes = Duration::from_secs(300);
        Self {
            helo_name: helo_name.into(),
            greeting_timeout: five_minutes,
            helo_timeout: five_minutes,
            mail_timeout: five_minutes,
            rcpt_timeout: five_minutes,
            data_init_timeout: Duration::from_secs(120),
            data_xfer_timeout: Duration::from_secs(180),
            data_done_timeout: Duration::from_secs(600),
            rset_timeout: Duration::from_secs(20),
            quit_timeout: five_minutes,
            reply_line_bytes_max: 2048,
            reply_lines_max: 100,
        }
    }
}

/// One message for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The host's name for it.
    pub id: u64,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// RCPT TO, in order; never empty.
    pub recipients: Vec<Address>,
    /// Octets of head and body.
    pub size: u64,
    /// It has octets above 127.
    pub eight_bit: bool,
}

/// What a client session asks its host. The first is [`Question::Next`] with `idle`, before the greeting is read: a
/// connection is opened for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The next job.
    Next {
        /// `true`: nothing is under way; the host may wait for a job, within its own limit, or say [`Answer::Quit`].
        /// `false`: the current body has just ended; a job given at once goes out in the same write.
        idle: bool,
    },
    /// The next piece of this job's octets: head, then body, not dot-stuffed.
    Body {
        /// Which job.
        job: u64,
    },
    /// What became of a job; each job has exactly one.
    Outcome(Outcome),
}

/// What the host answers. An answer that does not fit the question ends the session: QUIT when idle, else a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Next`].
    Job(Job),
    /// To [`Question::Next`] without `idle`: none at present.
    Nothing,
    /// To [`Question::Next`]: no more; the session says QUIT.
    Quit,
    /// To [`Question::Body`].
    Body {
        /// Any octets; a line end that is not CRLF becomes one.
        chunk: Bytes,
        /// Nothing follows.
        last: bool,
    },
    /// To [`Question::Body`]: it can't be read. The connection closes without the final dot.
    Abort,
    /// To [`Question::Outcome`].
    Done,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which job.
    pub job: u64,
    /// The result.
    pub result: JobResult,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// One reply for each recipient, in order: RCPT's refusal, else the final reply, or that to MAIL or DATA if that was
    /// refused.
    Replied(Vec<Reply>),
    /// The server lacks 8BITMIME and the job needs it; nothing was sent.
    EightBitUnsupported,
    /// Larger than the server's SIZE; nothing was sent.
    TooLarge {
        /// The server's limit, octets.
        server_limit: u64,
    },
    /// The connection ended first.
    Lost {
        /// What was awaited.
        stage: Stage,
        /// Something of this job was sent.
        sent_anything: bool,
        /// The final dot was sent: the server may have taken the message.
        final_dot_sent: bool,
        /// Why.
        reason: LostReason,
    },
    /// The greeting, EHLO or HELO was refused; nothing was sent.
    RefusedSession(Reply),
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The 220.
    Greeting,
    /// The reply to EHLO or HELO.
    Helo,
    /// The reply to MAIL; with a job that has not begun, also its turn.
    Mail,
    /// A reply to RCPT.
    Rcpt,
    /// The 354.
    DataInit,
    /// The message is going out.
    DataTransfer,
    /// The reply to the final dot.
    DataDone,
}

/// Why a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// The server closed.
    Eof,
    /// Nothing came in time, or the server did not take our octets in time.
    TimedOut,
    /// Not a reply, or one that can't stand here.
    Garbage(String),
    /// 421 before the transaction began: try another connection.
    Closing(Reply),
    /// The host could not read the body.
    Aborted,
    /// We are shutting down.
    Shutdown,
}

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// First word of the reply to EHLO or HELO, else of the greeting.
    pub name: String,
    /// It took EHLO.
    pub esmtp: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SIZE (RFC 1870): offered, and the limit if there is one.
    pub size: Option<SizeLimit>,
}

/// What SIZE offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// No number, or 0.
    Unstated,
    /// Octets.
    Octets(u64),
}
