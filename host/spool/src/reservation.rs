//! Space reserved for a message on its way into the spool.

use std::fmt;

use crate::error::SpoolError;

/// Engine's account of the space reserved for a single message. The reservation ends on drop.
pub trait ReservedSpace: Send + Sync {
    /// Extends the reservation to a message of `size` octets; [`SpoolError::Full`] if the space is not available.
    fn extend_to(&mut self, size: u64) -> Result<(), SpoolError>;

    /// Checks that the engine's reserve is still free, whatever has been reserved.
    fn check_reserve(&self) -> Result<(), SpoolError>;

    /// Records octets that have been written.
    fn consume(&mut self, bytes: u64);
}

/// Space reserved at MAIL for a single message.
pub struct Reservation {
    size_hint: u64,
    space: Option<Box<dyn ReservedSpace>>,
}

impl Reservation {
    /// Wraps the account of an engine. `size_hint` is the requested size in octets; 0 if unknown.
    #[must_use]
    pub fn new(size_hint: u64, space: Box<dyn ReservedSpace>) -> Self {
        Self { size_hint, space: Some(space) }
    }

    /// Creates the reservation of an engine without limits of space.
    #[must_use]
    pub const fn unlimited(size_hint: u64) -> Self {
        Self { size_hint, space: None }
    }

    /// Requested size in octets; 0 if unknown.
    #[must_use]
    pub const fn size_hint(&self) -> u64 {
        self.size_hint
    }

    /// Extends the reservation to a message of `size` octets.
    pub fn extend_to(&mut self, size: u64) -> Result<(), SpoolError> {
        self.space.as_mut().map_or(Ok(()), |space| space.extend_to(size))
    }

    /// Checks that the engine's reserve is still free.
    pub fn check_reserve(&self) -> Result<(), SpoolError> {
        self.space.as_ref().map_or(Ok(()), |space| space.check_reserve())
    }

    /// Records octets that have been written.
    pub fn consume(&mut self, bytes: u64) {
        if let Some(space) = &mut self.space {
            space.consume(bytes);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("size_hint", &self.size_hint).finish_non_exhaustive()
    }
}
