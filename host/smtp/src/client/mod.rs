//! The client's side: settings, questions, answers and outcomes; the states are in [`ClientSession`].

mod job;
mod server_info;
mod session;
mod transaction;

use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{Reply, TlsLevel};

pub use job::{Job, Missing};
pub use server_info::{Limits, ServerInfo, SizeLimit};
pub use session::ClientSession;

/// Limits and words of a client session. Times are Postfix's `smtp_*_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// What we call ourselves in EHLO (`smtp_helo_name`).
    pub helo_name: String,
    /// Whether the connection is to be encrypted (`smtp_tls_security_level`).
    pub tls: TlsLevel,
    /// All messages of this connection need REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// LMTP (RFC 2033): LHLO, and a final reply for each recipient.
    pub lmtp: bool,
    /// Until the greeting (`smtp_helo_timeout`).
    pub greeting_timeout: Duration,
    /// For EHLO and HELO (`smtp_helo_timeout`).
    pub helo_timeout: Duration,
    /// For STARTTLS and for the handshake (`smtp_starttls_timeout`).
    pub starttls_timeout: Duration,
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
            tls: TlsLevel::None,
            require_tls: false,
            lmtp: false,
            greeting_timeout: five_minutes,
            helo_timeout: five_minutes,
            starttls_timeout: five_minutes,
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
    /// To [`Question::Body`]: it can't be read. The connection closes without the end of the message.
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
    /// The server offers DSN: it has been told which reports the sender wants, and makes them.
    pub dsn: bool,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// One reply for each recipient, in order: RCPT's refusal, else the final reply, or that to MAIL or DATA if that was
    /// refused.
    Replied(Vec<Reply>),
    /// The server lacks what the job needs; nothing was sent.
    Unsupported(Missing),
    /// The server takes fewer recipients in one transaction (RFC 9422 RCPTMAX); nothing was sent.
    TooManyRecipients {
        /// How many it takes, at least one.
        server_limit: usize,
    },
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
    /// The connection must be encrypted and can't be; nothing was sent.
    NoTls(NoTls),
}

/// Why a connection is not encrypted as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTls {
    /// EHLO did not offer STARTTLS.
    NotOffered,
    /// The reply to STARTTLS.
    Refused(Reply),
    /// The certificate is not one for this server, or nobody whom we trust vouches for it.
    NotVerified,
    /// The encrypted connection offers no REQUIRETLS, and all that it would carry needs it.
    NoRequireTls,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The 220.
    Greeting,
    /// The reply to EHLO or HELO.
    Helo,
    /// The reply to STARTTLS, or the end of the handshake.
    StartTls,
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
