//! Context of a hook: session, transaction and message as visible to plugins.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use waxwing_message::{HeaderBlock, HeaderEditError};
use waxwing_types::{
    Address, AddressClass, BodyRead, Edit, MemoryBody, Parameter, QueueId, Recipient, ReversePath, Source, Tags, TlsSession,
};

use crate::{AddressClassifier, ContextRecipient, SUBMITTED_BY_TAG, StagedChanges, Submission};

/// Client of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClient {
    /// IP address and port of the client.
    pub peer: SocketAddr,
    /// Host name of the client, confirmed by forward lookup (FCrDNS).
    pub name: Option<String>,
    /// Name of the listener that accepted the connection.
    pub listener: Arc<str>,
}

/// Prefix of tag names reserved for the server: no plugin can set such a tag.
pub const HOST_TAG_PREFIX: &str = "waxwing.";

/// Session, transaction and message as visible to hooks. Cloning is cheap: a plugin session keeps a clone for the duration of a
/// call.
#[derive(Clone)]
pub struct Context {
    /// Queue id of the transaction and of the resulting message.
    pub id: Option<QueueId>,
    /// Source of the mail.
    pub source: Source,
    /// Client of the session; none for internal mail.
    pub client: Option<Arc<SessionClient>>,
    /// TLS session, after the handshake.
    pub tls: Option<Arc<TlsSession>>,
    /// Argument of HELO or EHLO.
    pub helo: Option<Arc<str>>,
    /// Client greeted with EHLO.
    pub esmtp: bool,
    /// Authenticated user and SASL mechanism.
    pub user: Option<Arc<(String, String)>>,
    /// Envelope sender, after MAIL FROM.
    pub sender: Option<Arc<ReversePath>>,
    /// ESMTP parameters of MAIL.
    pub mail_parameters: Arc<Vec<Parameter>>,
    /// Recipients, with the changes of earlier hooks.
    pub recipients: Arc<Vec<ContextRecipient>>,
    /// Index of the next new recipient.
    pub next_recipient: u32,
    /// Header block, once complete.
    pub header: Option<Arc<HeaderBlock>>,
    /// Message body, once complete.
    pub body: Option<Arc<dyn BodyRead>>,
    /// New body, if a hook replaced the body.
    pub replaced_body: Option<Bytes>,
    /// Tags of the message, kept in the queue.
    pub tags: Arc<Tags>,
    /// Reason to place the message in the hold queue.
    pub hold: Option<String>,
    /// Delay before the next reply as requested by hooks; reset by the session that replies.
    pub delay_reply: Duration,
    /// EHLO keywords, in upper case, that hooks hide from this client.
    pub hidden_capabilities: Arc<Vec<String>>,
    /// Messages to send with the commit of this message; removed by the code that commits.
    pub submissions: Arc<Vec<Submission>>,
}

/// Failure to apply a staged edit; no edit of the same call takes effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Invalid header edit.
    #[error(transparent)]
    Header(#[from] HeaderEditError),
    /// No recipient has the index.
    #[error("there is no recipient with index {0}")]
    NoSuchRecipient(u32),
    /// Message not complete yet.
    #[error("the message is not complete yet")]
    NoMessage,
}

impl Context {
    /// Creates the context of a new session or of an internal message.
    #[must_use]
    pub fn new(source: Source, client: Option<Arc<SessionClient>>) -> Self {
        // The empty lists are shared, since each plugin call may create a context.
        static NOTHING: LazyLock<Context> = LazyLock::new(|| Context {
            id: None,
            source: Source::Api,
            client: None,
            tls: None,
            helo: None,
            esmtp: false,
            user: None,
            sender: None,
            mail_parameters: Arc::default(),
            recipients: Arc::default(),
            next_recipient: 0,
            header: None,
            body: None,
            replaced_body: None,
            tags: Arc::default(),
            hold: None,
            delay_reply: Duration::ZERO,
            hidden_capabilities: Arc::default(),
            submissions: Arc::default(),
        });
        Self { source, client, ..NOTHING.clone() }
    }

    /// Adds a recipient and returns the index of the recipient.
    pub fn push_recipient(&mut self, recipient: Recipient, class: AddressClass, parameters: Vec<Parameter>) -> u32 {
        let index = self.next_recipient;
        self.next_recipient += 1;
        Arc::make_mut(&mut self.recipients).push(ContextRecipient { index, recipient, class, parameters });
        index
    }

    /// Returns the names of the plugins whose submissions led to this message.
    pub fn submitters(&self) -> impl Iterator<Item = &str> {
        self.tags.get(SUBMITTED_BY_TAG).map_or("", String::as_str).split(',').filter(|name| !name.is_empty())
    }

    /// Size in bytes of the message received so far: header block, empty line and body.
    #[must_use]
    pub fn size(&self) -> u64 {
        let head = self.header.as_ref().map_or(0, |h| h.size() as u64 + 2);
        head + self.body.as_ref().map_or(0, |b| b.size())
    }

    /// Applies the staged changes of one call, either all or none.
    pub(crate) fn apply(
        &mut self,
        changes: &StagedChanges,
        plugin: &Arc<str>,
        classes: &dyn AddressClassifier,
    ) -> Result<(), EditError> {
        if changes == &StagedChanges::default() {
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
            let by = |s: &Submission| Submission { submitter: Arc::clone(plugin), ..s.clone() };
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
            let head = self.header.as_mut().ok_or(EditError::NoMessage)?;
            Arc::make_mut(head).apply(edits)?;
        }
        Ok(())
    }

    fn apply_envelope(&mut self, edit: &Edit, classes: &dyn AddressClassifier) -> Result<(), EditError> {
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

    fn change_recipient(&mut self, index: u32, to: &Address, classes: &dyn AddressClassifier) -> Result<(), EditError> {
        let list = Arc::make_mut(&mut self.recipients);
        let recipient = list.iter_mut().find(|r| r.index == index).ok_or(EditError::NoSuchRecipient(index))?;
        recipient.recipient.address = to.clone();
        recipient.class = classes.class_of(to);
        Ok(())
    }

    fn remove_recipient(&mut self, index: u32) -> Result<(), EditError> {
        let list = Arc::make_mut(&mut self.recipients);
        let position = list.iter().position(|r| r.index == index).ok_or(EditError::NoSuchRecipient(index))?;
        list.remove(position);
        Ok(())
    }
}
