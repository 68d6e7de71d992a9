//! The server's side: settings, questions and answers; the states are in [`ServerSession`].

mod chunks;
mod exchange;
mod hello;
mod parameters;
mod replies;
mod session;
mod settings;
mod state;
mod transaction;

use std::fmt;

use bytes::Bytes;
use waxwing_types::{Address, BodyType, Notify, Parameter, Reply, Return, ReversePath, TlsSession};

pub use session::ServerSession;
pub use settings::{BareNewline, Protocol, ServerSettings};

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
        /// What the parameters mean.
        options: MailOptions,
    },
    /// One more recipient.
    Rcpt {
        /// RCPT TO.
        recipient: Address,
        /// All parameters as given.
        parameters: Vec<Parameter>,
        /// What the parameters mean.
        options: RcptOptions,
    },
    /// The connection is encrypted now, by STARTTLS or, right after [`Question::Connect`]'s turn, from its beginning. The client begins anew
    /// with EHLO (RFC 3207 §4.2). [`Answer::Ok`] goes on.
    Secured(TlsSession),
    /// AUTH, or the next step of its exchange (RFC 4954). [`Answer::Challenge`] asks for another, [`Answer::Authenticated`] ends it, a negative
    /// reply ends it too.
    Auth(AuthStep),
    /// XCLIENT (Postfix's XCLIENT_README): another's name and address for this session. A positive answer begins the session anew with a
    /// greeting.
    Xclient(Vec<(String, Option<String>)>),
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
    /// The message is whole; in BDAT, its LAST chunk is. Every [`waxwing_types::Action::Body`] was given before. Only [`Answer::Committed`],
    /// [`Answer::CommittedEach`] and [`Answer::Discarded`] become a positive reply.
    EndOfData,
    /// The transaction ended without commit: RSET, HELO again, or a message that the session refuses itself. The host
    /// drops what it has of it.
    Reset,
}

/// What the parameters of MAIL mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailOptions {
    /// BODY (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<Return>,
    /// ENVID, as xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// AUTH, decoded; `<>` is no mailbox (RFC 4954 §5).
    pub auth: Option<String>,
    /// PRDR (draft-hall-prdr): the client wants a reply for each recipient.
    pub each_recipient: bool,
}

/// What the parameters of RCPT mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptOptions {
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Notify,
    /// ORCPT, `type;xtext` (RFC 3461 §4.2).
    pub original: Option<String>,
}

/// A step of an AUTH exchange.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthStep {
    /// The mechanism, in upper case, and the initial response if one came; base64 is undone.
    Begin(String, Option<Vec<u8>>),
    /// The client's next response, base64 undone.
    Response(Vec<u8>),
    /// The client gave up (`*`), or its base64 was none: the host drops the exchange and answers [`Answer::Done`].
    Cancel,
}

impl fmt::Debug for AuthStep {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(mechanism, _) => write!(f, "Begin({mechanism})"),
            Self::Response(_) => f.write_str("Response"),
            Self::Cancel => f.write_str("Cancel"),
        }
    }
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
    /// As [`Answer::Committed`], where the client asked for a reply for each recipient or the protocol is LMTP (RFC 2033): one for each
    /// accepted RCPT, in order. At least one is positive.
    CommittedEach(Vec<Reply>),
    /// To [`Question::Auth`]: what the client is sent, base64 not done.
    Challenge(Vec<u8>),
    /// To [`Question::Auth`]: it is who it says.
    Authenticated,
    /// The message is thrown away on purpose, and the client is told that all is well.
    Discarded(Reply),
    /// To [`Question::Reset`].
    Done,
}
