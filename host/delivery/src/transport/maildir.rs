//! Files messages into Maildirs: for local users and for virtual mailboxes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use memchr::memmem;
use waxwing_mailbox::{DeliverError, MaildirStore};
use waxwing_message::trace::{delivered_to, return_path};
use waxwing_pipeline::{Directory, Handed, Transport};
use waxwing_types::{Address, Attempt, Disposition, EnhancedCode, Message, Status};

/// The transport `local` or `virtual`.
pub struct MaildirTransport {
    name: String,
    mailboxes: Arc<dyn Directory>,
    store: Arc<MaildirStore>,
}

impl MaildirTransport {
    /// Makes the transport.
    #[must_use]
    pub fn new(name: &str, mailboxes: Arc<dyn Directory>, store: Arc<MaildirStore>) -> Self {
        Self { name: name.to_owned(), mailboxes, store }
    }

    async fn file(&self, message: &Message, recipient: &Address) -> Disposition {
        let path = match self.mailboxes.mailbox_of(recipient).await {
            Ok(Some(path)) => path,
            Ok(None) => return failed((5, 1, 1), format!("unknown user: \"{recipient}\"")),
            Err(error) => return deferred((4, 3, 0), error.to_string()),
        };
        let mark = delivered_to(recipient);
        if has_field(&message.head, mark.raw()) {
            return failed((5, 4, 6), format!("mail forwarding loop for {recipient}"));
        }
        let mut prefix = BytesMut::new();
        prefix.extend_from_slice(return_path(&message.envelope.sender).raw());
        prefix.extend_from_slice(mark.raw());
        match self.store.deliver(&path, prefix.freeze(), message.head.clone(), &*message.body).await {
            Ok(_) => Disposition::Delivered(Status::local(EnhancedCode::new(2, 0, 0), "delivered to maildir")),
            Err(error @ DeliverError::Full { .. }) => deferred((4, 3, 1), error.to_string()),
            Err(error) => deferred((4, 2, 0), error.to_string()),
        }
    }
}

/// This very field line stands in the head.
fn has_field(head: &Bytes, line: &[u8]) -> bool {
    memmem::find_iter(head, line).any(|at| at == 0 || head.get(at - 1) == Some(&b'\n'))
}

fn failed((class, subject, detail): (u8, u16, u16), text: String) -> Disposition {
    Disposition::Failed(Status::local(EnhancedCode::new(class, subject, detail), text))
}

fn deferred((class, subject, detail): (u8, u16, u16), text: String) -> Disposition {
    Disposition::Deferred { status: Status::local(EnhancedCode::new(class, subject, detail), text), not_before: None }
}

#[async_trait]
impl Transport for MaildirTransport {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed {
        let mut dispositions = Vec::with_capacity(attempt.recipients.len());
        for index in &attempt.recipients {
            let disposition = match message.envelope.recipients.get(*index as usize) {
                Some(recipient) => self.file(message, &recipient.address).await,
                None => deferred((4, 3, 0), "the envelope has no such recipient".to_owned()),
            };
            dispositions.push((*index, disposition));
        }
        Handed { dispositions, ..Handed::default() }
    }
}
