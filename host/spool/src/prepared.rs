//! Stores generated messages, above the interface of the engines: from mail that passed all hooks to a [`NewMessage`].

use std::pin::Pin;

use bytes::Bytes;
use waxwing_pipeline::{Placement, PreparedMessage};
use waxwing_types::QueueId;

use crate::body::{BODY_INLINE_BYTES_MAX, NewBody};
use crate::error::SpoolError;
use crate::new_message::NewMessage;
use crate::spool::Spool;

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

/// Stores a body from memory, of any length; bodies too large for a record go to the engine.
pub async fn store_body(spool: &dyn Spool, id: QueueId, bytes: Bytes) -> Result<NewBody, SpoolError> {
    if bytes.len() <= BODY_INLINE_BYTES_MAX {
        return NewBody::inline(bytes);
    }
    let mut sink = spool.body_sink(id, spool.reserve_space(bytes.len() as u64)?);
    sink.write(bytes).await?;
    sink.finish().await
}
