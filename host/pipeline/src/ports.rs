//! What the pipeline's users need from outside: transports, tables, names, submission, traces.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{Address, AddressClass, Attempt, Disposition, Envelope, Message, QueueId, Tags};

use crate::TraceRecord;

/// Takes messages off the server's hands.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// One disposition for each recipient of the attempt, by index; a recipient that is missing counts as deferred.
    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed;
}

/// What became of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// By recipient index.
    pub dispositions: Vec<(u32, Disposition)>,
    /// How long the message waited for a connection and for it to be made; the rest of the attempt is the transfer.
    pub setup: Duration,
    /// The server is shutting down and nothing was tried: the attempt does not count.
    pub cut_off: bool,
}

impl Handed {
    /// Of an attempt that the shutdown came before.
    #[must_use]
    pub fn cut_off() -> Self {
        Self { cut_off: true, ..Self::default() }
    }

    /// The same for every recipient, without a connection.
    #[must_use]
    pub fn all(attempt: &Attempt, disposition: &Disposition) -> Self {
        Self { dispositions: attempt.recipients.iter().map(|i| (*i, disposition.clone())).collect(), ..Self::default() }
    }
}

/// Why a table cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table}: {reason}")]
pub struct TableError {
    /// The table.
    pub table: String,
    /// What failed.
    pub reason: String,
}

/// A lookup table.
#[async_trait]
pub trait Table: Send + Sync {
    /// The value under a key, if there is one.
    async fn get(&self, key: &str) -> Result<Option<String>, TableError>;
}

/// One host of an MX answer (RFC 5321 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// Lower is tried first.
    pub preference: u16,
    /// Host name without final dot.
    pub name: String,
}

/// Why a name has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// NXDOMAIN.
    #[error("no such name")]
    NoSuchName,
    /// The name has no record of this type.
    #[error("no record of this type")]
    NoData,
    /// The domain accepts no mail (RFC 7505).
    #[error("the domain accepts no mail (null MX)")]
    NullMx,
    /// Time-out, SERVFAIL and the like.
    #[error("{0}")]
    Temporary(String),
}

/// Names to hosts and addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The MX hosts of a domain in order of preference, equal ones shuffled.
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, DnsError>;

    /// The addresses of a host.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError>;
}

/// A message made here: a report, a forward.
#[derive(Clone)]
pub struct Generated {
    /// Its queue id, from the spool that will keep it.
    pub id: QueueId,
    /// Who is asked to deliver it, from whom and by which door.
    pub envelope: Envelope,
    /// The whole message, CRLF line ends.
    pub content: Bytes,
    /// The message that caused it.
    pub cause: Option<QueueId>,
}

/// A made message after all hooks, ready to be committed with what caused it.
#[derive(Clone)]
pub struct Prepared {
    /// Its queue id.
    pub id: QueueId,
    /// As the hooks left it.
    pub envelope: Envelope,
    /// The header block.
    pub head: Bytes,
    /// The body.
    pub body: Bytes,
    /// As the hooks left them.
    pub tags: Tags,
    /// Into the hold queue, with this reason.
    pub hold: Option<String>,
}

/// Why a made message cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// A hook said no.
    #[error("refused: {0}")]
    Refused(String),
    /// A hook threw it away.
    #[error("discarded: {0}")]
    Discarded(String),
    /// Later perhaps.
    #[error("not now: {0}")]
    Temporary(String),
}

/// Takes messages that are made here through the same hooks as any other.
#[async_trait]
pub trait Submit: Send + Sync {
    /// Runs the hooks. Nothing is stored: the caller commits the result with its cause.
    async fn prepare(&self, mail: Generated) -> Result<Prepared, SubmitError>;
}

/// Keeps traces; never waits.
pub trait Trace: Send + Sync {
    /// Takes a record, or drops it when too much waits.
    fn record(&self, record: TraceRecord);
}

/// Knows which domain is whose.
pub trait ClassOf: Send + Sync {
    /// The class of an address by its domain.
    fn class_of(&self, address: &Address) -> AddressClass;
}

/// Knows who has a mailbox here.
#[async_trait]
pub trait Directory: ClassOf {
    /// The recipient, whose domain is ours, exists as a user; `postmaster` always does (RFC 5321 §4.5.1).
    async fn exists(&self, recipient: &Address) -> Result<bool, TableError>;

    /// The Maildir of a recipient; none if there is no such user.
    async fn mailbox_of(&self, recipient: &Address) -> Result<Option<PathBuf>, TableError>;
}

impl<T: ClassOf + ?Sized> ClassOf for Arc<T> {
    fn class_of(&self, address: &Address) -> AddressClass {
        (**self).class_of(address)
    }
}
