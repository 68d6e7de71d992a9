//! A host that is not there: what a plugin's native tests run under.
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

pub(crate) mod host;
pub(crate) mod reach;

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::message::Field;
use crate::transaction::{Client, TlsSession};
use crate::{Address, AddressClass, Notify, Recipient, ReversePath, Source};

thread_local! {
    static CURRENT: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// One staged consequence, in the order of the calls.
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
    /// The sender, the recipients, the message; bytes only.
    Submit(ReversePath, Vec<Address>, Vec<u8>),
}

#[derive(Clone, Debug, Default)]
struct State {
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
    reach: reach::Reach,
}

/// The transaction that a test makes up, and what the plugin did to it.
#[derive(Debug, Default)]
pub struct Host(RefCell<State>);

impl Host {
    /// An empty message from nowhere.
    #[must_use]
    pub fn new() -> Self {
        Self(RefCell::new(State { id: "0000000000000".into(), ..State::default() }))
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.0.borrow_mut());
        self
    }

    /// The transaction's id and when it began.
    #[must_use]
    pub fn transaction(self, id: &str, received_at_ms: u64) -> Self {
        self.with(|s| (s.id, s.received_at_ms) = (id.into(), received_at_ms))
    }

    /// By which door the message came; SMTP unless said.
    #[must_use]
    pub fn source(self, source: Source) -> Self {
        self.with(|s| s.source = Some(source))
    }

    /// The client of the session.
    #[must_use]
    pub fn peer(self, ip: &str, name: Option<&str>, listener: &str) -> Self {
        let client = Client { ip: ip.into(), port: 4242, name: name.map(Into::into), listener: listener.into() };
        self.with(|s| s.peer = Some(client))
    }

    /// The session is encrypted.
    #[must_use]
    pub fn tls(self, session: TlsSession) -> Self {
        self.with(|s| s.tls = Some(session))
    }

    /// The name after HELO or EHLO.
    #[must_use]
    pub fn helo(self, name: &str) -> Self {
        self.with(|s| s.helo = Some(name.into()))
    }

    /// The authenticated user and the mechanism.
    #[must_use]
    pub fn user(self, name: &str, mechanism: &str) -> Self {
        self.with(|s| s.user = Some((name.into(), mechanism.into())))
    }

    /// An ESMTP parameter of MAIL.
    #[must_use]
    pub fn mail_parameter(self, name: &str, value: &str) -> Self {
        self.with(|s| drop(s.parameters.insert(name.to_uppercase(), value.into())))
    }

    /// A tag that a hook before this one set.
    #[must_use]
    pub fn tag(self, name: &str, value: &str) -> Self {
        self.with(|s| drop(s.tags.insert(name.into(), value.into())))
    }

    /// The envelope sender; `None` is the null path.
    #[must_use]
    pub fn sender(self, sender: Option<Address>) -> Self {
        self.with(|s| s.sender = Some(sender))
    }

    /// One more envelope recipient.
    #[must_use]
    pub fn recipient(self, address: Address) -> Self {
        self.with(|s| {
            let index = u32::try_from(s.recipients.len()).unwrap_or(u32::MAX);
            s.recipients.push(Recipient { index, address, original: None, notify: Notify::empty(), class: AddressClass::Local });
        })
    }

    /// One more header field.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|s| s.headers.push(Field { name: name.into(), value: value.into() }))
    }

    /// Everything after the header block.
    #[must_use]
    pub fn body(self, body: &str) -> Self {
        self.with(|s| s.body = body.into())
    }

    /// A key of the plugin's table, its value as JSON.
    #[must_use]
    pub fn config(self, key: &str, json: &str) -> Self {
        self.with(|s| drop(s.config.insert(key.into(), json.into())))
    }

    /// An entry of a lookup table; naming a table grants it.
    #[must_use]
    pub fn table(self, table: &str, key: &str, value: &str) -> Self {
        self.with(|s| drop(s.tables.entry(table.into()).or_default().insert(key.into(), value.into())))
    }

    /// A lookup table that cannot be read.
    #[must_use]
    pub fn broken_table(self, table: &str) -> Self {
        self.with(|s| s.broken_tables.push(table.into()))
    }

    /// Records of a name; what is not given is no such name.
    #[must_use]
    pub fn dns(self, name: &str, rrtype: u16, rdata: &[&[u8]]) -> Self {
        self.with(|s| drop(s.reach.records.insert((name.into(), rrtype), rdata.iter().map(|r| r.to_vec()).collect())))
    }

    /// What a URL answers; what is not given is not granted.
    #[must_use]
    pub fn response(self, url: &str, status: u16, body: &[u8]) -> Self {
        self.with(|s| drop(s.reach.responses.insert(url.into(), (status, body.to_vec()))))
    }

    /// A pair that is in the plugin's store already.
    #[must_use]
    pub fn pair(self, key: &[u8], value: &[u8]) -> Self {
        self.with(|s| drop(s.reach.pairs.insert(key.into(), value.into())))
    }

    /// Runs something of the plugin under this host.
    pub fn run<T>(&self, plugin: impl FnOnce() -> T) -> T {
        CURRENT.set(Some(self.0.take()));
        let result = plugin();
        self.0.replace(CURRENT.take().unwrap_or_default());
        result
    }

    /// What the plugin staged, in order.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.0.borrow().changes.clone()
    }

    /// What it logged, each line after its level.
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
