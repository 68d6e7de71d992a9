//! The conversations of one session or transaction with all bound plugins.

use crate::{Guest, Pipeline, TraceEntry};

/// One guest for each binding, opened when it is first asked, and the trace of all calls. A session has one chain for the hooks
/// before MAIL, and a new one for each transaction: nothing crosses but tags.
pub struct Chain {
    pub(crate) guests: Vec<Seat>,
    /// The steps so far.
    pub trace: Vec<TraceEntry>,
}

/// A binding's place in a chain.
pub(crate) enum Seat {
    /// Not asked yet.
    Empty,
    /// In conversation.
    Open(Box<dyn Guest>),
    /// It asked not to be called again for this message.
    Left,
}

impl Chain {
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        Self { guests: pipeline.bindings().iter().map(|_| Seat::Empty).collect(), trace: Vec::new() }
    }
}
