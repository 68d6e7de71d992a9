//! The envelope: who sent it, to whom, and how it came.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{Address, Timestamp};

/// The envelope sender (RFC 5321 §4.1.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReversePath {
    /// `<>`, the sender of reports (RFC 5321 §4.5.5).
    Null,
    /// A mailbox.
    Of(Address),
}

impl ReversePath {
    /// The mailbox, unless it is the null path.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Of(address) => Some(address),
        }
    }
}

impl fmt::Display for ReversePath {
    /// Without angle brackets; empty for the null path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Of(address) => address.fmt(f),
        }
    }
}

/// What [`fmt::Display`] writes, in one piece of memory.
impl From<&ReversePath> for String {
    fn from(path: &ReversePath) -> Self {
        path.address().map(Self::from).unwrap_or_default()
    }
}

/// An ESMTP parameter of MAIL or RCPT: keyword in upper case, value if it has one.
pub type Parameter = (String, Option<String>);

/// When the sender wants a report (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notify {
    /// The client said nothing: failures, and delays by local policy.
    #[default]
    Default,
    /// No report at all.
    Never,
    /// The events that the client named.
    On {
        /// Delivered.
        success: bool,
        /// Given up.
        failure: bool,
        /// Late.
        delay: bool,
    },
}

/// One envelope recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where it goes.
    pub address: Address,
    /// ORCPT (RFC 3461 §4.2), or the address as the client gave it where an alias changed it.
    pub original: Option<String>,
    /// Reports that the sender asked for.
    pub notify: Notify,
}

impl Recipient {
    /// A recipient as a client without DSN gives it.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self { address, original: None, notify: Notify::Default }
    }
}

/// Postfix's address classes: they decide who may be written to and which agent delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AddressClass {
    /// A domain of `mydestination`.
    Local,
    /// A domain of `virtual_alias_domains`.
    VirtualAlias,
    /// A domain of `virtual_mailbox_domains`.
    VirtualMailbox,
    /// A domain of `relay_domains`.
    Relay,
    /// Any other domain.
    Default,
}

/// What the client said of the body's octets (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    /// 7BIT, or nothing said.
    #[default]
    SevenBit,
    /// 8BITMIME.
    EightBitMime,
    /// BINARYMIME (RFC 3030): lines of any length, and line ends that are not CR LF.
    BinaryMime,
}

/// How much of the message a report returns (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Return {
    /// All of it.
    Full,
    /// The header only.
    Headers,
}

/// By which door a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Via {
    /// SMTP from another server.
    Smtp,
    /// SMTP from a user.
    Submission,
    /// LMTP.
    Lmtp,
    /// The maildrop directory.
    Pickup,
    /// Made by a plugin or an alias.
    Forward,
    /// A report of our own.
    Dsn,
    /// The HTTP interface.
    Api,
}

impl Via {
    /// The word in logs and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Lmtp => "lmtp",
            Self::Pickup => "pickup",
            Self::Forward => "forward",
            Self::Dsn => "dsn",
            Self::Api => "api",
        }
    }
}

/// Where a message came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client's address; none for mail made here.
    pub peer: Option<SocketAddr>,
    /// The client's name by reverse and forward lookup.
    pub client_name: Option<String>,
    /// What it said after HELO or EHLO.
    pub helo: Option<String>,
    /// It spoke ESMTP.
    pub esmtp: bool,
    /// The authenticated user.
    pub user: Option<String>,
    /// By which door.
    pub via: Via,
    /// When its transaction began.
    pub received_at: Timestamp,
}

impl Origin {
    /// Mail that is made here.
    #[must_use]
    pub fn internal(via: Via, received_at: Timestamp) -> Self {
        Self { peer: None, client_name: None, helo: None, esmtp: false, user: None, via, received_at }
    }
}

/// Everything about a message that is not the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who gets the reports.
    pub sender: ReversePath,
    /// Who gets the message; never empty once accepted.
    pub recipients: Vec<Recipient>,
    /// What the client declared about the octets.
    pub body_type: BodyType,
    /// RET of MAIL.
    pub ret: Option<Return>,
    /// ENVID of MAIL, as xtext.
    pub envid: Option<String>,
    /// SMTPUTF8 of MAIL (RFC 6531): an address or the header may hold UTF-8.
    pub smtputf8: bool,
    /// REQUIRETLS of MAIL (RFC 8689): it leaves only over verified TLS.
    pub require_tls: bool,
    /// How it came.
    pub origin: Origin,
}
