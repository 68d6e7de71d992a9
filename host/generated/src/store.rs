//! Conversion of generated messages for the spool.

use std::pin::Pin;

use waxwing_pipeline::{Placement, PreparedMessage};
use waxwing_spool::{NewMessage, Spool, SpoolError, store_body};

/// Boxed future, because attached messages may have attachments of their own.
type NewMessageFuture<'a> = Pin<Box<dyn Future<Output = Result<NewMessage, SpoolError>> + Send + 'a>>;

/// Stores the bodies of a generated message that passed all hooks, and of all attached messages.
#[must_use]
pub fn store_prepared(spool: &dyn Spool, prepared: PreparedMessage) -> NewMessageFuture<'_> {
    Box::pin(async move {
        let PreparedMessage { id, envelope, header, body, tags, placement, attached: messages } = prepared;
        let body = store_body(spool, id, body).await?;
        let mut attached = Vec::with_capacity(messages.len());
        for message in messages {
            attached.push(store_prepared(spool, message).await?);
        }
        let Placement { hold, not_before, priority } = placement;
        Ok(NewMessage { id, envelope, header, body, tags, hold, not_before, priority, attached })
    })
}
