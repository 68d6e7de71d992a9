//! Interface of transports to the writers of mailboxes.

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{BodyRead, MailboxFormat, MailboxLocation};

use crate::maildir::{MaildirError, MaildirStore};

/// Writes messages to mailboxes.
#[async_trait]
pub trait MailboxWriter: Send + Sync {
    /// Delivers a message to a mailbox: `prefix`, header block and body, in this order. The message is synced on return.
    async fn write_message(
        &self,
        mailbox: &MailboxLocation,
        prefix: Bytes,
        header: Bytes,
        body: &dyn BodyRead,
    ) -> Result<(), MaildirError>;
}

#[async_trait]
impl MailboxWriter for MaildirStore {
    async fn write_message(
        &self,
        mailbox: &MailboxLocation,
        prefix: Bytes,
        header: Bytes,
        body: &dyn BodyRead,
    ) -> Result<(), MaildirError> {
        match mailbox.format {
            MailboxFormat::Maildir if mailbox.owner.is_none() && mailbox.quota.is_none() => {
                self.deliver(&mailbox.path, prefix, header, body).await.map(drop)
            }
            MailboxFormat::Maildir | MailboxFormat::Mbox => Err(MaildirError::Unsupported { path: mailbox.path.clone() }),
        }
    }
}
