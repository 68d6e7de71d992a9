//! Interface of transports to the writers of mailboxes.

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{BodyRead, MailboxFormat, MailboxLocation};

use crate::error::MaildirError;
use crate::maildir::MaildirStore;

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waxwing_types::{MailboxOwner, ManualClock, MemoryBody};

    use super::*;

    #[tokio::test]
    async fn other_mailboxes_than_plain_maildirs_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = MaildirStore::new("mx.example", Arc::new(ManualClock::default()), 1);
        let plain = MailboxLocation::maildir(directory.path().join("ann"));
        let body = MemoryBody::new(Bytes::from_static(b"text\r\n"));
        let write = async |mailbox: &MailboxLocation| {
            store.write_message(mailbox, Bytes::new(), Bytes::from_static(b"A: b\r\n\r\n"), &body).await
        };
        write(&plain).await.unwrap();
        assert_eq!(std::fs::read_dir(plain.path.join("new")).unwrap().count(), 1);
        for other in [
            MailboxLocation { format: MailboxFormat::Mbox, ..plain.clone() },
            MailboxLocation { owner: Some(MailboxOwner::User("ann".to_owned())), ..plain.clone() },
            MailboxLocation { quota: Some(1 << 20), ..plain.clone() },
        ] {
            assert!(matches!(write(&other).await, Err(MaildirError::Unsupported { .. })), "{other:?}");
        }
        assert_eq!(std::fs::read_dir(plain.path.join("new")).unwrap().count(), 1);
    }
}
