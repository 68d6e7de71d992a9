//! Client side: settings, questions, answers and outcomes; [`ClientSession`] holds the states.

mod capabilities;
mod job;
mod session;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_config::SmtpConfig;
use waxwing_types::{Reply, TlsLevel};

pub use capabilities::{ServerCapabilities, ServerLimits, SizeLimit};
pub use job::{ClientJob, MissingExtension};
pub use session::ClientSession;

/// Settings of the client sessions of a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// Name sent in EHLO, and the timeouts of Postfix (`smtp_*_timeout`).
    pub config: Arc<SmtpConfig>,
    /// TLS security level of the destination.
    pub tls: TlsLevel,
    /// All messages of the connection need REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// LMTP (RFC 2033): LHLO, and a final reply for each recipient.
    pub lmtp: bool,
    /// Timeout for the reply to RSET (`smtp_rset_timeout` of Postfix).
    pub rset_timeout: Duration,
    /// Maximum octets of one line of a reply.
    pub reply_line_bytes_max: usize,
    /// Maximum number of lines of one reply.
    pub reply_lines_max: usize,
}

impl ClientSettings {
    /// Settings of SMTP without TLS, with the limits of Postfix.
    #[must_use]
    pub fn new(config: Arc<SmtpConfig>) -> Self {
        Self {
            config,
            tls: TlsLevel::None,
            require_tls: false,
            lmtp: false,
            rset_timeout: Duration::from_secs(20),
            reply_line_bytes_max: 2048,
            reply_lines_max: 100,
        }
    }

    /// Settings with the defaults of the configuration and the given EHLO name.
    #[must_use]
    pub fn with_helo_name(helo_name: impl Into<String>) -> Self {
        Self::new(Arc::new(SmtpConfig { smtp_helo_name: helo_name.into(), ..SmtpConfig::default() }))
    }
}

/// Question of a client session to the host. The first question is [`ClientQuestion::Next`] with `idle`, before the
/// greeting is read: a connection is opened for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientQuestion {
    /// Requests the next job.
    Next {
        /// `true`: no job is in progress; the host may wait for a job, within a limit of the host, or answer
        /// [`ClientAnswer::Quit`]. `false`: the current body has just ended; a job given at once goes out in the same
        /// write.
        idle: bool,
    },
    /// Requests the next piece of the message of a job: header, then body, not dot-stuffed.
    Body {
        /// Identifier of the job.
        job: u64,
    },
    /// Reports the outcome of a job; each job has exactly one outcome.
    Outcome(JobOutcome),
}

/// Answer of the host to a [`ClientQuestion`]. An answer not fitting the question ends the session: by QUIT when idle,
/// else by a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAnswer {
    /// For [`ClientQuestion::Next`]: the next job.
    Job(ClientJob),
    /// For [`ClientQuestion::Next`] without `idle`: no job at present.
    NoJob,
    /// For [`ClientQuestion::Next`]: no further jobs; the session sends QUIT.
    Quit,
    /// For [`ClientQuestion::Body`]: the next piece of the message.
    Body {
        /// Any octets; with DATA, bare CR and LF become CRLF.
        chunk: Bytes,
        /// The piece is the last.
        last: bool,
    },
    /// For [`ClientQuestion::Body`]: the message can't be read. The connection closes without the end of the message.
    Abort,
    /// Acknowledges the report of [`ClientQuestion::Outcome`].
    Done,
}

/// Outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    /// Identifier of the job.
    pub job: u64,
    /// Result of the job.
    pub result: JobResult,
    /// The server offers DSN: the server knows the DSN parameters of the sender, and sends the DSNs.
    pub dsn: bool,
}

/// Result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// One reply for each recipient, in order: a refusal of RCPT, else the final reply, or a refusal of MAIL or DATA.
    Replied(Vec<Reply>),
    /// The server lacks an extension needed by the job; nothing was sent.
    Unsupported(MissingExtension),
    /// The server allows fewer recipients in one transaction (RFC 9422 RCPTMAX); nothing was sent.
    TooManyRecipients {
        /// Number of recipients allowed, at least one.
        server_limit: usize,
    },
    /// The message is larger than the SIZE of the server; nothing was sent.
    TooLarge {
        /// Limit of the server, in octets.
        server_limit: u64,
    },
    /// The connection ended before the job.
    Disconnected {
        /// Stage of the session at the end of the connection.
        stage: ClientStage,
        /// Some command of the job was sent.
        sent_anything: bool,
        /// The final dot was sent: the server may have accepted the message.
        final_dot_sent: bool,
        /// Reason for the end of the connection.
        reason: DisconnectReason,
    },
    /// The greeting, EHLO or HELO was refused; nothing was sent.
    SessionRefused(Reply),
    /// The connection must be encrypted and can't be; nothing was sent.
    TlsUnavailable(TlsUnavailable),
}

/// Reason for the lack of required TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsUnavailable {
    /// EHLO did not offer STARTTLS.
    NotOffered,
    /// STARTTLS was refused with the given reply.
    Refused(Reply),
    /// The certificate is not valid for the server, or not issued by a trusted authority.
    NotVerified,
    /// The server offers no REQUIRETLS over TLS, and all messages of the connection need REQUIRETLS.
    NoRequireTls,
}

/// Stage of a client session, named by the reply awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientStage {
    /// The 220 greeting.
    Greeting,
    /// The reply to EHLO or HELO.
    Helo,
    /// The reply to STARTTLS, or the end of the handshake.
    StartTls,
    /// The reply to MAIL; for a job not yet begun, also the wait before MAIL.
    Mail,
    /// A reply to RCPT.
    Rcpt,
    /// The 354 after DATA.
    DataInit,
    /// Transfer of the message.
    DataTransfer,
    /// The reply to the final dot.
    DataDone,
}

/// Reason for the loss of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The server closed the connection.
    Eof,
    /// No reply in time, or the server did not read in time.
    TimedOut,
    /// Invalid reply, or reply out of sequence.
    Garbage(String),
    /// 421 before the transaction began: another connection may be tried.
    Closing(Reply),
    /// The host could not read the body.
    Aborted,
    /// The mail server is shutting down.
    Shutdown,
}
