//! Server side: settings, questions and answers; [`ServerSession`] holds the states.

mod answer;
mod auth;
mod bdat;
mod ehlo;
mod parameters;
mod replies;
mod session;
mod settings;
mod state;
mod transaction;

use std::fmt;

use bytes::Bytes;
use waxwing_types::{Address, BodyType, DsnReturn, Notify, Parameter, ReversePath, TlsSession};

pub use answer::{AuthStepAnswer, DropAnswer, MessageAnswer, ServerAnswer, StepAnswer};
pub use session::ServerSession;
pub use settings::{BareNewline, Protocol, ServerSettings};

/// Question of a server session to the host. A transaction ends with any answer to [`ServerQuestion::EndOfData`], with
/// [`ServerQuestion::Reset`], and with the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerQuestion {
    /// A client has connected. [`StepAnswer::Ok`] sends the greeting of the settings; a 220 reply replaces the
    /// greeting; a negative reply closes the connection.
    Connect,
    /// HELO or EHLO received. The session adds the extensions to a positive answer.
    Helo {
        /// Host name given by the client.
        name: String,
        /// EHLO was used, not HELO.
        esmtp: bool,
    },
    /// MAIL received: a transaction begins.
    Mail {
        /// Reverse-path of MAIL FROM.
        sender: ReversePath,
        /// All parameters as given, including those parsed into `size` and `options`.
        parameters: Vec<Parameter>,
        /// SIZE parameter, in octets.
        size: Option<u64>,
        /// Parsed parameters of MAIL.
        options: MailOptions,
    },
    /// RCPT received: another recipient.
    Rcpt {
        /// Forward-path of RCPT TO.
        recipient: Address,
        /// All parameters as given.
        parameters: Vec<Parameter>,
        /// Parsed parameters of RCPT.
        options: RcptOptions,
    },
    /// TLS is established: by STARTTLS, or from the start of the connection, right after [`ServerQuestion::Connect`].
    /// After STARTTLS the client starts again with EHLO (RFC 3207 §4.2). [`StepAnswer::Ok`] continues the session.
    Secured(TlsSession),
    /// AUTH, or the next step of an AUTH exchange (RFC 4954). [`AuthStepAnswer::Challenge`] continues the exchange;
    /// the other answers end the exchange.
    Auth(AuthStep),
    /// XCLIENT (Postfix XCLIENT_README): name and address of another client for the session. A positive answer restarts
    /// the session with a greeting.
    Xclient(Vec<(String, Option<String>)>),
    /// Command unknown to the server, or left to policy: VRFY, EXPN, ETRN. [`StepAnswer::Ok`] selects the default
    /// reply of the session.
    Command {
        /// Verb in upper case.
        verb: String,
        /// Argument behind the verb.
        argument: Bytes,
    },
    /// DATA or the first BDAT received. A positive answer to DATA becomes 354.
    Data,
    /// The message is complete; with BDAT, after the LAST chunk. All [`waxwing_types::Action::Body`] actions were given
    /// before. Only [`MessageAnswer::Committed`], [`MessageAnswer::CommittedPerRecipient`] and
    /// [`MessageAnswer::Discarded`] become a positive reply.
    EndOfData,
    /// The transaction ended without commit: by RSET, by a repeated HELO, or by a refusal of the message within the
    /// session. The host drops the data of the transaction.
    Reset,
}

/// Parsed parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailOptions {
    /// BODY parameter (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// SMTPUTF8 was given (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS was given (RFC 8689).
    pub require_tls: bool,
    /// RET parameter (RFC 3461 §4.3).
    pub ret: Option<DsnReturn>,
    /// ENVID, as xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// AUTH parameter, decoded; `<>` stands for no mailbox (RFC 4954 §5).
    pub auth: Option<String>,
    /// PRDR was given (draft-hall-prdr): the client requests a reply for each recipient.
    pub prdr: bool,
}

/// Parsed parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptOptions {
    /// NOTIFY parameter (RFC 3461 §4.1).
    pub notify: Notify,
    /// ORCPT as `type;xtext` (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

/// Step of an AUTH exchange.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthStep {
    /// Mechanism in upper case, and the initial response, if present, base64-decoded.
    Begin(String, Option<Vec<u8>>),
    /// Next client response, base64-decoded.
    Response(Vec<u8>),
    /// Exchange cancelled by the client (`*`) or by invalid base64: the host drops the exchange and answers
    /// [`DropAnswer::Done`].
    Cancel,
}

impl fmt::Debug for AuthStep {
    /// Omits the secret octets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(mechanism, _) => write!(f, "Begin({mechanism})"),
            Self::Response(_) => f.write_str("Response"),
            Self::Cancel => f.write_str("Cancel"),
        }
    }
}
