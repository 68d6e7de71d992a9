//! What the pipeline's users need from outside: transports, tables, names, submission, traces.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{
    Address, AddressClass, Attempt, BodyType, Disposition, Envelope, Message, Origin, QueueId, Recipient, ReversePath, Tags,
    Timestamp, Via,
};

use crate::{AUTHORS_MAX, AUTHORS_TAG, Placement, Submission, TraceRecord};

/// Takes messages off the server's hands.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// One disposition for each recipient of the attempt, by index; a recipient that is missing counts as deferred.
    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed;
}

/// How far what an attempt delivered has come: who tells the sender of it, if he asked for that (RFC 3461 §5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reached {
    /// Its end: we report it as delivered.
    #[default]
    Mailbox,
    /// A server that makes no such reports: we report it as relayed.
    Server,
    /// A server that was told what the sender asked for.
    ServerWithDsn,
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
    /// Who is left waits for the operator, for this reason.
    pub hold: Option<String>,
    /// How far what was delivered has come.
    pub reached: Reached,
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

/// Asks the server that mail for an address would go to whether it takes it.
#[async_trait]
pub trait Probe: Send + Sync {
    /// What it says, without that a message is sent; an address that is delivered here is "delivered" at once.
    async fn probe(&self, sender: &ReversePath, recipient: &Address) -> Disposition;
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

    /// The records of a type (RFC 1035 §3.2.2).
    async fn records(&self, name: &str, rrtype: u16) -> Result<Records, DnsError>;
}

/// The answer to a question for records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Each record's data in wire form, names in it uncompressed.
    pub rdata: Vec<Bytes>,
    /// The shortest time that one of them may be kept, in seconds.
    pub ttl: u32,
    /// The resolver vouches for it by DNSSEC.
    pub authentic: bool,
}

/// Why a plugin's store cannot do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The plugin's share is used up.
    #[error("the store of the plugin is full")]
    Full,
    /// The key or the value is too large.
    #[error("the key or value is too large")]
    TooLarge,
    /// Later perhaps.
    #[error("{0}")]
    Unavailable(String),
}

/// A value, and its key.
pub type KvPair = (Vec<u8>, Vec<u8>);

/// Stores of plugins, kept over restarts: a namespace for each.
#[async_trait]
pub trait KvStore: Send + Sync {
    /// None if the key was never set, or its time is over.
    async fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Without `ttl` it is kept. `bytes_max` bounds all keys and values of the namespace together, in octets.
    async fn set(&self, namespace: &str, bytes_max: u64, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError>;

    /// Also of a key that is not there.
    async fn delete(&self, namespace: &str, key: &[u8]) -> Result<(), KvError>;

    /// Adds atomically and returns the new value; made with `ttl` if it was absent or no number. A number is its eight octets, the
    /// highest first.
    async fn add(&self, namespace: &str, bytes_max: u64, key: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError>;

    /// Pairs whose keys begin with `prefix` and stand after `after`, in order, at most `limit`.
    async fn scan(&self, namespace: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvPair>, KvError>;
}

/// A request to an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// In upper case.
    pub method: String,
    /// Whole.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
    /// From the beginning to the end of the response.
    pub timeout: Duration,
    /// Octets of the response.
    pub response_bytes_max: usize,
}

/// Its response, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// 100 to 599.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What came.
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The URL, the method or the address that it leads to is not allowed.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// It took too long.
    #[error("time-out")]
    Timeout,
    /// The response is too large.
    #[error("the response is too large")]
    TooLarge,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Requests to HTTP servers.
#[async_trait]
pub trait Web: Send + Sync {
    /// `allowed`: URLs that what is asked for must begin with, on a boundary of the path, each with or without a method before it
    /// (`POST https://api.example/v1/`). No redirect is followed; an address that is not public must be named in the URL that allows it.
    async fn fetch(&self, allowed: &[String], request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// Counts for the operator. Names are the caller's; how many there can be is bounded, what is more is dropped and counted.
pub trait Metrics: Send + Sync {
    /// Adds to a counter. `labels` are names and values.
    fn count(&self, name: &str, labels: &[(&str, &str)], delta: u64);

    /// One more value in a distribution.
    fn observe(&self, name: &str, labels: &[(&str, &str)], value: f64);
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
    /// Tags that it begins with.
    pub tags: Tags,
}

impl Submission {
    /// The message that it becomes, caused by one with these tags. An error if too many led to it already.
    pub fn generated(&self, tags: &Tags, cause: Option<QueueId>, now: Timestamp) -> Result<Generated, SubmitError> {
        let before = tags.get(AUTHORS_TAG).map_or("", String::as_str);
        if before.split(',').filter(|name| !name.is_empty()).count() >= AUTHORS_MAX {
            return Err(SubmitError::Refused(format!("{AUTHORS_MAX} messages led one to the next")));
        }
        let authors = if before.is_empty() { self.author.to_string() } else { format!("{before},{}", self.author) };
        let envelope = Envelope {
            sender: self.sender.clone(),
            recipients: self.recipients.iter().cloned().map(Recipient::new).collect(),
            body_type: if self.content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Via::Forward, now),
        };
        let tags = Tags::from([(AUTHORS_TAG.to_owned(), authors)]);
        Ok(Generated { id: self.id, envelope, content: self.content.clone(), cause, tags })
    }
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
    /// When it is tried first, and whether it is held.
    pub placement: Placement,
    /// What plugins sent with it, for the same commit.
    pub with: Vec<Prepared>,
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

/// Hears of what happens to mail, for accounting; never waits, and drops what is too much.
pub trait Events: Send + Sync {
    /// Somebody listens now; without, an event need not be made.
    fn wanted(&self) -> bool;

    /// Takes an event: `delivered`, `deferred`, `failed`, `held`, with what is known of it as a JSON object.
    fn happened(&self, name: &str, json: String);
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
