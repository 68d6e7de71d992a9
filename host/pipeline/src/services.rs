//! Service traits that other crates implement: transports, tables, DNS, HTTP, submission, metrics and traces.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{
    Address, AddressClass, Attempt, Disposition, Envelope, MailboxLocation, Message, QueueId, ReversePath, Tags,
};

use crate::{InternalMessage, Placement, SubmitError, TraceRecord};

/// Delivery transport (Postfix transport(5)).
#[async_trait]
pub trait Transport: Send + Sync {
    /// Name of the transport in the configuration.
    fn name(&self) -> &str;

    /// Delivers to the recipients of the attempt. Returns one disposition for each recipient, by index; a missing recipient
    /// counts as deferred.
    async fn deliver(&self, attempt: &Attempt, message: &Message) -> DeliveryResult;
}

/// Success DSN that a delivery requires, if requested by the sender (RFC 3461 §5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinalDsnAction {
    /// Final delivery to a mailbox: a "delivered" DSN is sent.
    #[default]
    Delivered,
    /// Relayed to a server without the DSN extension: a "relayed" DSN is sent.
    Relayed,
    /// Responsibility passed with the DSN parameters to a server that supports DSN: no DSN is sent.
    Delegated,
}

/// Result of a delivery attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryResult {
    /// Disposition by recipient index.
    pub dispositions: Vec<(u32, Disposition)>,
    /// Time spent on waiting for a connection and on connecting; the remainder of the attempt is the transfer.
    pub setup_time: Duration,
    /// Attempt aborted by the shutdown before any work; the attempt does not count.
    pub aborted: bool,
    /// Reason to hold the recipients that remain.
    pub hold: Option<String>,
    /// Success DSN required for the delivered recipients.
    pub final_dsn: FinalDsnAction,
}

impl DeliveryResult {
    /// Creates the result of an attempt that a shutdown aborted.
    #[must_use]
    pub fn aborted() -> Self {
        Self { aborted: true, ..Self::default() }
    }

    /// Creates a result with the same disposition for every recipient, without a connection.
    #[must_use]
    pub fn for_all(attempt: &Attempt, disposition: &Disposition) -> Self {
        Self { dispositions: attempt.recipients.iter().map(|i| (*i, disposition.clone())).collect(), ..Self::default() }
    }
}

/// Address verification with the server responsible for an address (Postfix verify(8)).
#[async_trait]
pub trait AddressProbe: Send + Sync {
    /// Returns the disposition that a message would get, without sending a message; a locally delivered address is "delivered"
    /// at once.
    async fn probe(&self, sender: &ReversePath, recipient: &Address) -> Disposition;
}

/// Failure of a table lookup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table}: {reason}")]
pub struct TableError {
    /// Name of the table.
    pub table: String,
    /// Reason of the failure.
    pub reason: String,
}

/// Lookup table (Postfix "type:table" lookup).
#[async_trait]
pub trait Table: Send + Sync {
    /// Returns the value of a key, or none if the table has no entry.
    async fn get(&self, key: &str) -> Result<Option<String>, TableError>;
}

/// One host of an MX answer (RFC 5321 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// Preference of the host; a lower value is tried first.
    pub preference: u16,
    /// Host name without the final dot.
    pub name: String,
}

/// Failure of a DNS query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Name does not exist (NXDOMAIN).
    #[error("no such name")]
    NoSuchName,
    /// Name has no record of the requested type.
    #[error("no record of this type")]
    NoData,
    /// Domain accepts no mail: null MX (RFC 7505).
    #[error("the domain accepts no mail (null MX)")]
    NullMx,
    /// Temporary failure: time-out, SERVFAIL and similar errors.
    #[error("{0}")]
    Temporary(String),
}

/// DNS resolver for hosts, addresses and other records.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Returns the MX hosts of a domain in order of preference, hosts of equal preference shuffled.
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, DnsError>;

    /// Returns the IP addresses of a host.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// Returns the records of a type (RFC 1035 §3.2.2).
    async fn records(&self, name: &str, rrtype: u16) -> Result<DnsRecords, DnsError>;
}

/// Answer to a query for DNS records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsRecords {
    /// Data of each record in wire form, with uncompressed names.
    pub rdata: Vec<Bytes>,
    /// Smallest TTL of the records, in seconds.
    pub ttl: u32,
    /// Answer authenticated by DNSSEC (AD bit of the resolver).
    pub authentic: bool,
}

/// Failure of an operation on a plugin's key-value store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Storage quota of the plugin exhausted.
    #[error("the store of the plugin is full")]
    Full,
    /// Key or value too large.
    #[error("the key or value is too large")]
    TooLarge,
    /// Temporary failure of the store, with the reason.
    #[error("{0}")]
    Unavailable(String),
}

/// Entry of a key-value store: key and value.
pub type KvEntry = (Vec<u8>, Vec<u8>);

/// Persistent key-value stores of plugins, one namespace for each plugin.
#[async_trait]
pub trait KvStore: Send + Sync {
    /// Returns the value of a key; none if the key was never set or has expired.
    async fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Stores a value, without expiry if `ttl` is none. `bytes_max` bounds the total size in bytes of all keys and values of
    /// the namespace.
    async fn set(&self, namespace: &str, bytes_max: u64, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError>;

    /// Deletes a key; succeeds for a missing key too.
    async fn delete(&self, namespace: &str, key: &[u8]) -> Result<(), KvError>;

    /// Adds to a number atomically and returns the new value. A missing key or a value that is no number starts at 0 with
    /// `ttl`. A number is stored as eight bytes in big-endian order.
    async fn add(&self, namespace: &str, bytes_max: u64, key: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError>;

    /// Returns up to `limit` entries whose keys begin with `prefix` and sort after `after`, in key order.
    async fn scan(&self, namespace: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvEntry>, KvError>;
}

/// Request to an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Method in upper case.
    pub method: String,
    /// Absolute URL of the resource.
    pub url: String,
    /// Header fields: names and values.
    pub headers: Vec<(String, String)>,
    /// Body of the request.
    pub body: Bytes,
    /// Time limit from the start of the request to the end of the response.
    pub timeout: Duration,
    /// Maximum size of the response in bytes.
    pub response_bytes_max: usize,
}

/// Response of an HTTP server, whatever the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code, 100 to 599.
    pub status: u16,
    /// Header fields: names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body of the response.
    pub body: Bytes,
}

/// Failure of an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// URL, method or resolved address not granted.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// Time limit exceeded.
    #[error("time-out")]
    Timeout,
    /// Response too large.
    #[error("the response is too large")]
    TooLarge,
    /// Any other failure, with the reason.
    #[error("{0}")]
    Failed(String),
}

/// HTTP client for plugins.
#[async_trait]
pub trait HttpClient: Send + Sync {
    /// Sends a request. `allowed` lists URL prefixes, each ending on a path boundary, with an optional method before the URL
    /// (`POST https://api.example/v1/`). Redirects are not followed; a non-public address must be named in the URL prefix that
    /// allows the request.
    async fn fetch(&self, allowed: &[String], request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// Metrics of the server. The number of distinct metrics is bounded; updates over the bound are dropped and counted.
pub trait Metrics: Send + Sync {
    /// Adds to a counter. `labels` are names and values.
    fn count(&self, name: &str, labels: &[(&str, &str)], delta: u64);

    /// Adds a value to a distribution.
    fn observe(&self, name: &str, labels: &[(&str, &str)], value: f64);
}

/// Internal message after all hooks, ready to be committed together with the cause.
#[derive(Clone)]
pub struct PreparedMessage {
    /// Queue id of the message.
    pub id: QueueId,
    /// Envelope, with the changes of the hooks.
    pub envelope: Envelope,
    /// Header block of the message.
    pub header: Bytes,
    /// Body of the message.
    pub body: Bytes,
    /// Tags, with the changes of the hooks.
    pub tags: Tags,
    /// Time of the first attempt, priority and hold state.
    pub placement: Placement,
    /// Submissions of plugins for the same commit.
    pub attached: Vec<PreparedMessage>,
}

/// Submission of internal messages through the same hooks as any other message.
#[async_trait]
pub trait Submit: Send + Sync {
    /// Runs the hooks without storing the message: the caller commits the result together with the cause.
    async fn prepare(&self, mail: InternalMessage) -> Result<PreparedMessage, SubmitError>;
}

/// Sink for trace records. Never blocks.
pub trait Trace: Send + Sync {
    /// Stores a record, or drops the record when the queue is full.
    fn record(&self, record: TraceRecord);
}

/// Sink for accounting events. Never blocks; excess events are dropped.
pub trait EventSink: Send + Sync {
    /// Checks whether a subscriber exists; without a subscriber an event need not be built.
    fn has_subscribers(&self) -> bool;

    /// Publishes an event (`delivered`, `deferred`, `failed`, `held`) with the details as a JSON object.
    fn publish(&self, name: &str, json: String);
}

/// Classifier of addresses by domain (Postfix address classes).
pub trait AddressClassifier: Send + Sync {
    /// Returns the class of an address by the domain of the address.
    fn class_of(&self, address: &Address) -> AddressClass;
}

/// Directory of the mailboxes on this server.
#[async_trait]
pub trait RecipientDirectory: AddressClassifier {
    /// Checks whether a recipient in a local domain exists as a user; `postmaster` always exists (RFC 5321 §4.5.1).
    async fn exists(&self, recipient: &Address) -> Result<bool, TableError>;

    /// Returns the mailbox of a recipient; none if no such user exists.
    async fn mailbox_location(&self, recipient: &Address) -> Result<Option<MailboxLocation>, TableError>;
}

impl<T: AddressClassifier + ?Sized> AddressClassifier for Arc<T> {
    fn class_of(&self, address: &Address) -> AddressClass {
        (**self).class_of(address)
    }
}
