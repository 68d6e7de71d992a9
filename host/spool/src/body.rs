//! Bodies on their way into the spool: inside the message record, or kept by the engine under a handle of its own.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_types::{BodyRead, MemoryBody};

use crate::error::SpoolError;

/// Maximum size in octets of a body stored inside the message record; also the most that a [`BodySink`] buffers.
pub const BODY_INLINE_BYTES_MAX: usize = 256 << 10;

/// Receives a body in pieces.
#[async_trait]
pub trait BodySink: Send + Sync {
    /// Number of octets received so far.
    fn size(&self) -> u64;

    /// Appends the next piece. After an error the body cannot be finished.
    async fn write(&mut self, piece: Bytes) -> Result<(), SpoolError>;

    /// Finishes the body. A body outside of memory is synced on return.
    async fn finish(self: Box<Self>) -> Result<NewBody, SpoolError>;
}

/// Body kept by an engine until its message is committed. An unused body is removed on drop.
pub trait EngineBody: Any + Send + Sync {
    /// Size of the body in octets.
    fn size(&self) -> u64;

    /// Returns a reader, usable before the message is committed.
    fn reader(self: Arc<Self>) -> Arc<dyn BodyRead>;

    /// Returns whether disk space was reserved when the body was written.
    fn has_reservation(&self) -> bool;
}

#[derive(Clone)]
enum BodyContent {
    Inline(Bytes),
    Engine(Arc<dyn EngineBody>),
}

/// Finished body waiting for its message.
#[derive(Clone)]
pub struct NewBody(BodyContent);

impl NewBody {
    /// Wraps a body in memory of at most [`BODY_INLINE_BYTES_MAX`] octets; larger bodies go through a [`BodySink`].
    pub fn inline(bytes: Bytes) -> Result<Self, SpoolError> {
        if bytes.len() > BODY_INLINE_BYTES_MAX {
            return Err(SpoolError::Invalid("a body of more than 256 KiB goes through a body sink"));
        }
        Ok(Self(BodyContent::Inline(bytes)))
    }

    /// Wraps the handle of an engine.
    #[must_use]
    pub fn from_engine(body: Arc<dyn EngineBody>) -> Self {
        Self(BodyContent::Engine(body))
    }

    /// Size of the body in octets.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.0 {
            BodyContent::Inline(bytes) => bytes.len() as u64,
            BodyContent::Engine(body) => body.size(),
        }
    }

    /// Returns a reader, usable before the message is committed.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn BodyRead> {
        match &self.0 {
            BodyContent::Inline(bytes) => Arc::new(MemoryBody::new(bytes.clone())),
            BodyContent::Engine(body) => Arc::clone(body).reader(),
        }
    }

    /// Returns the octets of a body made by [`NewBody::inline`].
    #[must_use]
    pub fn inline_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            BodyContent::Inline(bytes) => Some(bytes),
            BodyContent::Engine(_) => None,
        }
    }

    /// Returns the engine's handle, if the body was finished by an engine with handles of type `T`.
    #[must_use]
    pub fn engine_body<T: EngineBody>(&self) -> Option<Arc<T>> {
        match &self.0 {
            BodyContent::Inline(_) => None,
            BodyContent::Engine(body) => {
                let body: Arc<dyn Any + Send + Sync> = Arc::clone(body) as _;
                body.downcast().ok()
            }
        }
    }

    /// Returns whether disk space was reserved when the body was written.
    #[must_use]
    pub fn has_reservation(&self) -> bool {
        match &self.0 {
            BodyContent::Inline(_) => false,
            BodyContent::Engine(body) => body.has_reservation(),
        }
    }
}

impl fmt::Debug for NewBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewBody").field("size", &self.size()).finish_non_exhaustive()
    }
}
