//! Stores a body from memory, above the interface of the engines.

use bytes::Bytes;
use waxwing_types::QueueId;

use crate::body::{BODY_INLINE_BYTES_MAX, NewBody};
use crate::error::SpoolError;
use crate::spool::Spool;

/// Stores a body from memory, of any length; bodies too large for a record go to the engine.
pub async fn store_body(spool: &dyn Spool, id: QueueId, bytes: Bytes) -> Result<NewBody, SpoolError> {
    if bytes.len() <= BODY_INLINE_BYTES_MAX {
        return NewBody::inline(bytes);
    }
    let mut sink = spool.body_sink(id, spool.reserve_space(bytes.len() as u64)?);
    sink.write(bytes).await?;
    sink.finish().await
}
