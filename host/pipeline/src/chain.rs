//! The conversations of one session or transaction with all bound plugins.

use std::sync::Arc;

use crate::shadow::Heard;
use crate::table::Bound;
use crate::{Binding, Guest, Hook, TraceEntry};

/// One guest for each binding, opened when it is first asked, and the trace of all calls. A session has one chain for the hooks
/// before MAIL, and a new one for each transaction: nothing crosses but tags. A chain keeps the plugins that it began with, whatever
/// is loaded meanwhile.
pub struct Chain {
    pub(crate) bound: Arc<Bound>,
    pub(crate) seats: Vec<Seat>,
    /// The steps so far.
    pub trace: Vec<TraceEntry>,
    /// What shadows answered at the hook that is being decided.
    pub(crate) shadows: Vec<Heard>,
}

/// A binding's place in a chain.
pub(crate) enum Seat {
    /// Not asked yet.
    Empty,
    /// In conversation, with this version.
    Open(Box<dyn Guest>, Arc<Binding>),
    /// It asked not to be called again for this message.
    Left,
}

impl Chain {
    pub(crate) fn new(bound: Arc<Bound>) -> Self {
        Self { seats: bound.bindings.iter().map(|_| Seat::Empty).collect(), bound, trace: Vec::new(), shadows: Vec::new() }
    }

    /// Some plugin of this chain is bound to the hook.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        !self.bound.at(hook).is_empty()
    }

    /// Ends all conversations: the instances are free for others. A later call begins a new one.
    pub fn release(&mut self) {
        for seat in &mut self.seats {
            if matches!(seat, Seat::Open(..)) {
                *seat = Seat::Empty;
            }
        }
    }
}
