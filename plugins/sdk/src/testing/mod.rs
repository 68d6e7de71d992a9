//! Fake host for native tests of a plugin.
//!
//! ```
//! use waxwing_sdk::{edit, message, testing::{Change, Host}};
//!
//! let host = Host::new().header("Subject", "hello");
//! host.run(|| {
//!     if message::header_text("Date").is_none() {
//!         edit::add_header("Date", b"today").unwrap();
//!     }
//! });
//! assert_eq!(host.changes(), [Change::AddHeader("Date".into(), "today".into())]);
//! ```

pub(crate) mod fake_host;
pub(crate) mod fake_services;

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::message::Field;
use crate::transaction::{Client, TlsSession};
use crate::{Address, AddressClass, Notify, Recipient, ReversePath, Source};

thread_local! {
    static CURRENT: RefCell<Option<FakeState>> = const { RefCell::new(None) };
}

/// A staged change, recorded in the order of the calls.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the host function of the same name, with its arguments")]
pub enum Change {
    AddHeader(String, String),
    InsertHeader(u32, String, String),
    ReplaceHeader(String, u32, String),
    RemoveHeader(String, u32),
    SetSender(ReversePath),
    AddRecipient(Address),
    ChangeRecipient(u32, Address),
    RemoveRecipient(u32),
    DropPart(u32),
    ReplacePart(u32, String, Vec<u8>),
    AddPart(String, Option<String>, Vec<u8>),
    WriteBody(String),
    Tag(String, String),
    SkipRest,
    Quarantine(String),
    Redirect(Address),
    DelayReply(u32),
    HideCapability(String),
    DiscardRecipient(u32, String),
    /// Submitted message: sender, recipients, content; empty content unless given as bytes.
    Submit(ReversePath, Vec<Address>, Vec<u8>),
}

#[derive(Clone, Debug, Default)]
struct FakeState {
    id: String,
    received_at_ms: u64,
    source: Option<Source>,
    helo: Option<String>,
    peer: Option<Client>,
    tls: Option<TlsSession>,
    user: Option<(String, String)>,
    parameters: BTreeMap<String, String>,
    sender: Option<ReversePath>,
    recipients: Vec<Recipient>,
    headers: Vec<Field>,
    body: Vec<u8>,
    config: BTreeMap<String, String>,
    tables: BTreeMap<String, BTreeMap<String, String>>,
    broken_tables: Vec<String>,
    tags: BTreeMap<String, String>,
    changes: Vec<Change>,
    log: Vec<String>,
    services: fake_services::FakeServices,
}

/// Fake host: a transaction set up by the test, and the changes staged by the plugin.
#[derive(Debug, Default)]
pub struct Host(RefCell<FakeState>);

impl Host {
    /// Creates a host with an empty message and no client.
    #[must_use]
    pub fn new() -> Self {
        Self(RefCell::new(FakeState { id: "0000000000000".into(), ..FakeState::default() }))
    }

    fn with(self, change: impl FnOnce(&mut FakeState)) -> Self {
        change(&mut self.0.borrow_mut());
        self
    }

    /// Sets id and start time (milliseconds since 1970) of the transaction.
    #[must_use]
    pub fn transaction(self, id: &str, received_at_ms: u64) -> Self {
        self.with(|s| (s.id, s.received_at_ms) = (id.into(), received_at_ms))
    }

    /// Sets the source of the message; SMTP by default.
    #[must_use]
    pub fn source(self, source: Source) -> Self {
        self.with(|s| s.source = Some(source))
    }

    /// Sets the client of the session.
    #[must_use]
    pub fn peer(self, ip: &str, name: Option<&str>, listener: &str) -> Self {
        let client = Client { ip: ip.into(), port: 4242, name: name.map(Into::into), listener: listener.into() };
        self.with(|s| s.peer = Some(client))
    }

    /// Sets the TLS session of the client.
    #[must_use]
    pub fn tls(self, session: TlsSession) -> Self {
        self.with(|s| s.tls = Some(session))
    }

    /// Sets the argument of HELO or EHLO.
    #[must_use]
    pub fn helo(self, name: &str) -> Self {
        self.with(|s| s.helo = Some(name.into()))
    }

    /// Sets the authenticated user and the SASL mechanism.
    #[must_use]
    pub fn user(self, name: &str, mechanism: &str) -> Self {
        self.with(|s| s.user = Some((name.into(), mechanism.into())))
    }

    /// Adds an ESMTP parameter of MAIL.
    #[must_use]
    pub fn mail_parameter(self, name: &str, value: &str) -> Self {
        self.with(|s| drop(s.parameters.insert(name.to_uppercase(), value.into())))
    }

    /// Adds a tag set by an earlier hook.
    #[must_use]
    pub fn tag(self, name: &str, value: &str) -> Self {
        self.with(|s| drop(s.tags.insert(name.into(), value.into())))
    }

    /// Sets the envelope sender; `None` is the null path.
    #[must_use]
    pub fn sender(self, sender: Option<Address>) -> Self {
        self.with(|s| s.sender = Some(sender))
    }

    /// Adds an envelope recipient.
    #[must_use]
    pub fn recipient(self, address: Address) -> Self {
        self.with(|s| {
            let index = u32::try_from(s.recipients.len()).unwrap_or(u32::MAX);
            s.recipients.push(Recipient { index, address, original: None, notify: Notify::empty(), class: AddressClass::Local });
        })
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|s| s.headers.push(Field { name: name.into(), value: value.into() }))
    }

    /// Sets the body: everything after the header block.
    #[must_use]
    pub fn body(self, body: &str) -> Self {
        self.with(|s| s.body = body.into())
    }

    /// Sets a key of the plugin's configuration table, with the value as JSON.
    #[must_use]
    pub fn config(self, key: &str, json: &str) -> Self {
        self.with(|s| drop(s.config.insert(key.into(), json.into())))
    }

    /// Adds an entry of a lookup table, and grants the table.
    #[must_use]
    pub fn table(self, table: &str, key: &str, value: &str) -> Self {
        self.with(|s| drop(s.tables.entry(table.into()).or_default().insert(key.into(), value.into())))
    }

    /// Adds a lookup table that fails.
    #[must_use]
    pub fn broken_table(self, table: &str) -> Self {
        self.with(|s| s.broken_tables.push(table.into()))
    }

    /// Adds the DNS records of a name; other names do not exist.
    #[must_use]
    pub fn dns(self, name: &str, rrtype: u16, rdata: &[&[u8]]) -> Self {
        self.with(|s| drop(s.services.dns_records.insert((name.into(), rrtype), rdata.iter().map(|r| r.to_vec()).collect())))
    }

    /// Adds the HTTP response for a URL; other URLs are not granted.
    #[must_use]
    pub fn response(self, url: &str, status: u16, body: &[u8]) -> Self {
        self.with(|s| drop(s.services.http_responses.insert(url.into(), (status, body.to_vec()))))
    }

    /// Adds an entry to the plugin's kv store.
    #[must_use]
    pub fn kv_entry(self, key: &[u8], value: &[u8]) -> Self {
        self.with(|s| drop(s.services.kv_entries.insert(key.into(), value.into())))
    }

    /// Runs a function of the plugin under this host.
    pub fn run<T>(&self, plugin: impl FnOnce() -> T) -> T {
        CURRENT.set(Some(self.0.take()));
        let result = plugin();
        self.0.replace(CURRENT.take().unwrap_or_default());
        result
    }

    /// Returns the staged changes, in order.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.0.borrow().changes.clone()
    }

    /// Returns the logged lines, each prefixed by the level.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.0.borrow().log.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction;

    #[test]
    fn the_session_is_what_the_test_made_up() {
        let host = Host::new().peer("192.0.2.1", None, "mx").helo("c.example").user("ann", "PLAIN").tag("seen", "yes");
        let host = host.mail_parameter("size", "100");
        host.run(|| {
            assert_eq!(transaction::peer().map(|peer| (peer.ip, peer.name)), Some(("192.0.2.1".into(), None)));
            assert_eq!(transaction::helo().as_deref(), Some("c.example"));
            assert_eq!(transaction::user(), Some(("ann".into(), "PLAIN".into())));
            assert_eq!(transaction::tag("seen").as_deref(), Some("yes"));
            assert_eq!(transaction::mail_parameter("SIZE").as_deref(), Some("100"));
            assert!(transaction::tls().is_none());
        });
    }

    #[test]
    fn what_breaks_a_field_is_malformed() {
        let host = Host::new();
        host.run(|| assert!(crate::edit::add_header("X", b"a\r\nSubject: b").is_err()));
        assert_eq!(host.changes(), []);
    }
}
