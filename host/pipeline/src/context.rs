//! What hooks may know of the current session, transaction and message.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use waxwing_message::{HeaderBlock, HeaderEditError};
use waxwing_types::{
    Address, AddressClass, BodyRead, Edit, MemoryBody, Parameter, QueueId, Recipient, ReversePath, Tags, TlsSession, Via,
};

use crate::{Changes, ClassOf, Submission};

/// The peer of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address and port.
    pub peer: SocketAddr,
    /// Its reverse name that also resolves back.
    pub name: Option<String>,
    /// The listener that it connected to.
    pub listener: Arc<str>,
}

/// Tags whose names begin so are the server's own: no plugin can set them.
pub const HOST_TAGS: &str = "waxwing.";
/// The plugins whose submissions led to this message, the latest last, with commas between. They are not called for it.
pub const AUTHORS_TAG: &str = "waxwing.authors";
/// So many submissions may lead from one to the next.
pub const AUTHORS_MAX: usize = 5;

/// A recipient as hooks see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRecipient {
    /// Its place in this transaction; stays the same until the transaction ends.
    pub index: u32,
    /// Address, ORCPT and NOTIFY.
    pub recipient: Recipient,
    /// Who delivers to it.
    pub class: AddressClass,
    /// ESMTP parameters of RCPT.
    pub parameters: Vec<Parameter>,
}

/// All that hooks may know. Cloning is cheap: a guest keeps its clone for the length of a call.
#[derive(Clone)]
pub struct Context {
    /// The name of the transaction, and of the message that it becomes.
    pub id: Option<QueueId>,
    /// By which door.
    pub via: Via,
    /// The peer; none for mail made here.
    pub client: Option<Arc<Client>>,
    /// The encrypted session, once it is one.
    pub tls: Option<Arc<TlsSession>>,
    /// What it said after HELO or EHLO.
    pub helo: Option<Arc<str>>,
    /// The authenticated user and the mechanism.
    pub user: Option<Arc<(String, String)>>,
    /// MAIL FROM, once known.
    pub sender: Option<Arc<ReversePath>>,
    /// ESMTP parameters of MAIL.
    pub mail_parameters: Arc<Vec<Parameter>>,
    /// As the hooks before left them.
    pub recipients: Arc<Vec<ContextRecipient>>,
    /// The index that the next new recipient gets.
    pub next_recipient: u32,
    /// The header, once complete.
    pub head: Option<Arc<HeaderBlock>>,
    /// The body, once complete.
    pub body: Option<Arc<dyn BodyRead>>,
    /// A hook gave the message another body.
    pub replaced_body: Option<Bytes>,
    /// Words that travel with the message.
    pub tags: Arc<Tags>,
    /// The message goes to the hold queue, with this reason.
    pub hold: Option<String>,
    /// What hooks want to wait before the reply that is due; whoever replies takes it.
    pub delay_reply: Duration,
    /// EHLO keywords, in upper case, that hooks hide from this client.
    pub hidden_capabilities: Arc<Vec<String>>,
    /// Mail that hooks want sent with this message's commit; whoever commits takes it.
    pub submissions: Arc<Vec<Submission>>,
}

/// Why a staged edit cannot be applied; none of that call's edits is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A header edit.
    #[error(transparent)]
    Header(#[from] HeaderEditError),
    /// No recipient has that index.
    #[error("there is no recipient with index {0}")]
    NoSuchRecipient(u32),
    /// The message is not there yet.
    #[error("the message is not complete yet")]
    NoMessage,
}

impl Context {
    /// The beginning of a session or of a message made here.
    #[must_use]
    pub fn new(via: Via, client: Option<Arc<Client>>) -> Self {
        // Its empty lists are shared: one is made for each call of a plugin.
        static NOTHING: LazyLock<Context> = LazyLock::new(|| Context {
            id: None,
            via: Via::Api,
            client: None,
            tls: None,
            helo: None,
            user: None,
            sender: None,
            mail_parameters: Arc::default(),
            recipients: Arc::default(),
            next_recipient: 0,
            head: None,
            body: None,
            replaced_body: None,
            tags: Arc::default(),
            hold: None,
            delay_reply: Duration::ZERO,
            hidden_capabilities: Arc::default(),
            submissions: Arc::default(),
        });
        Self { via, client, ..NOTHING.clone() }
    }

    /// Adds a recipient that the client named, and returns its index.
    pub fn push_recipient(&mut self, recipient: Recipient, class: AddressClass, parameters: Vec<Parameter>) -> u32 {
        let index = self.next_recipient;
        self.next_recipient += 1;
        Arc::make_mut(&mut self.recipients).push(ContextRecipient { index, recipient, class, parameters });
        index
    }

    /// The plugins whose submissions led to this message.
    pub fn authors(&self) -> impl Iterator<Item = &str> {
        self.tags.get(AUTHORS_TAG).map_or("", String::as_str).split(',').filter(|name| !name.is_empty())
    }

    /// Octets of the message so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        let head = self.head.as_ref().map_or(0, |h| h.size() as u64 + 2);
        head + self.body.as_ref().map_or(0, |b| b.size())
    }

    /// Applies what a call staged, all of it or nothing.
    pub(crate) fn apply(&mut self, changes: &Changes, plugin: &Arc<str>, classes: &dyn ClassOf) -> Result<(), EditError> {
        if changes == &Changes::default() {
            return Ok(());
        }
        let mut next = self.clone();
        next.apply_header(&changes.edits)?;
        for edit in &changes.edits {
            next.apply_envelope(edit, classes)?;
        }
        for (index, _) in &changes.discard_recipients {
            next.remove_recipient(*index)?;
        }
        if let Some(to) = &changes.redirect {
            next.recipients = Arc::default();
            next.push_recipient(Recipient::new(to.clone()), classes.class_of(to), Vec::new());
        }
        if let Some(reason) = &changes.quarantine {
            next.hold.get_or_insert_with(|| reason.clone());
        }
        next.delay_reply = next.delay_reply.max(changes.delay_reply);
        if !changes.hide_capabilities.is_empty() {
            Arc::make_mut(&mut next.hidden_capabilities).extend_from_slice(&changes.hide_capabilities);
        }
        if !changes.submissions.is_empty() {
            let by = |s: &Submission| Submission { author: Arc::clone(plugin), ..s.clone() };
            Arc::make_mut(&mut next.submissions).extend(changes.submissions.iter().map(by));
        }
        *self = next;
        Ok(())
    }

    fn apply_header(&mut self, edits: &[Edit]) -> Result<(), EditError> {
        let is_header = |e: &Edit| {
            matches!(
                e,
                Edit::AddHeader { .. } | Edit::InsertHeader { .. } | Edit::ReplaceHeader { .. } | Edit::RemoveHeader { .. }
            )
        };
        if edits.iter().any(is_header) {
            let head = self.head.as_mut().ok_or(EditError::NoMessage)?;
            Arc::make_mut(head).apply(edits)?;
        }
        Ok(())
    }

    fn apply_envelope(&mut self, edit: &Edit, classes: &dyn ClassOf) -> Result<(), EditError> {
        match edit {
            Edit::SetSender(sender, parameters) => {
                self.sender = Some(Arc::new(sender.clone()));
                if !parameters.is_empty() {
                    self.mail_parameters = Arc::new(parameters.clone());
                }
            }
            Edit::AddRecipient(address, parameters) => {
                self.push_recipient(Recipient::new(address.clone()), classes.class_of(address), parameters.clone());
            }
            Edit::ChangeRecipient { index, to } => self.change_recipient(*index, to, classes)?,
            Edit::RemoveRecipient { index } => self.remove_recipient(*index)?,
            Edit::ReplaceBody(body) => {
                self.body.as_ref().ok_or(EditError::NoMessage)?;
                self.body = Some(Arc::new(MemoryBody::new(body.clone())));
                self.replaced_body = Some(body.clone());
            }
            Edit::Tag { name, value } => {
                Arc::make_mut(&mut self.tags).insert(name.clone(), value.clone());
            }
            Edit::AddHeader { .. } | Edit::InsertHeader { .. } | Edit::ReplaceHeader { .. } | Edit::RemoveHeader { .. } => {}
        }
        Ok(())
    }

    fn change_recipient(&mut self, index: u32, to: &Address, classes: &dyn ClassOf) -> Result<(), EditError> {
        let list = Arc::make_mut(&mut self.recipients);
        let found = list.iter_mut().find(|r| r.index == index).ok_or(EditError::NoSuchRecipient(index))?;
        found.recipient.address = to.clone();
        found.class = classes.class_of(to);
        Ok(())
    }

    fn remove_recipient(&mut self, index: u32) -> Result<(), EditError> {
        let list = Arc::make_mut(&mut self.recipients);
        let place = list.iter().position(|r| r.index == index).ok_or(EditError::NoSuchRecipient(index))?;
        list.remove(place);
        Ok(())
    }
}
