//! Maildir transport, for local users and virtual mailboxes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use waxwing_mailbox::{MailboxWriter, MaildirError};
use waxwing_message::trace_fields::{delivered_to, return_path};
use waxwing_pipeline::{DeliveryResult, RecipientDirectory, Transport};
use waxwing_types::{Address, Attempt, Disposition, EnhancedCode, Message, Status};

/// Field name and colon.
const DELIVERED_TO: &[u8] = b"Delivered-To:";

/// Transport `local` or `virtual`.
pub struct MaildirTransport {
    name: String,
    directory: Arc<dyn RecipientDirectory>,
    writer: Arc<dyn MailboxWriter>,
}

impl MaildirTransport {
    /// Creates the transport with its name in the configuration.
    #[must_use]
    pub fn new(name: &str, mailboxes: Arc<dyn RecipientDirectory>, writer: Arc<dyn MailboxWriter>) -> Self {
        Self { name: name.to_owned(), directory: mailboxes, writer }
    }

    async fn deliver_to_recipient(&self, message: &Message, recipient: &Address) -> Disposition {
        let mailbox = match self.directory.mailbox_location(recipient).await {
            Ok(Some(mailbox)) => mailbox,
            Ok(None) => return failed((5, 1, 1), format!("unknown user: \"{recipient}\"")),
            Err(error) => return deferred((4, 3, 0), error.to_string()),
        };
        if was_delivered_to(&message.header, &recipient.to_string()) {
            return failed((5, 4, 6), format!("mail forwarding loop for {recipient}"));
        }
        let mut prefix = BytesMut::new();
        prefix.extend_from_slice(return_path(&message.envelope.sender).raw());
        prefix.extend_from_slice(delivered_to(recipient).raw());
        match self.writer.write_message(&mailbox, prefix.freeze(), message.header.clone(), &*message.body).await {
            Ok(()) => Disposition::Delivered(Status::local(EnhancedCode::new(2, 0, 0), "delivered to maildir")),
            Err(error @ MaildirError::Full { .. }) => deferred((4, 3, 1), error.to_string()),
            Err(error) => deferred((4, 2, 0), error.to_string()),
        }
    }
}

/// Detects a delivery loop by Delivered-To. Servers on the path may have changed the case of name and address.
fn was_delivered_to(head: &[u8], address: &str) -> bool {
    head.split(|octet| *octet == b'\n').any(|line| {
        let value = line.split_at_checked(DELIVERED_TO.len()).filter(|(name, _)| name.eq_ignore_ascii_case(DELIVERED_TO));
        value.is_some_and(|(_, value)| value.trim_ascii().eq_ignore_ascii_case(address.as_bytes()))
    })
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

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> DeliveryResult {
        let mut dispositions = Vec::with_capacity(attempt.recipients.len());
        for index in &attempt.recipients {
            let disposition = match message.envelope.recipients.get(*index as usize) {
                Some(recipient) => self.deliver_to_recipient(message, &recipient.address).await,
                None => deferred((4, 3, 0), "the envelope has no such recipient".to_owned()),
            };
            dispositions.push((*index, disposition));
        }
        DeliveryResult { dispositions, ..DeliveryResult::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_seen_in_any_case() {
        let head = b"Received: x\r\ndelivered-to:  Ann@Box.Example\r\nX: Delivered-To: bob@box.example\r\n\r\n";
        assert!(was_delivered_to(head, "ann@box.example"));
        assert!(!was_delivered_to(head, "bob@box.example"));
        assert!(!was_delivered_to(head, "an@box.example"));
    }
}
