//! Plugin sessions of one SMTP session, transaction or delivery attempt.

use std::sync::Arc;

use crate::shadow::Heard;
use crate::table::Bound;
use crate::{Binding, Guest, Hook, TraceEntry};

/// One plugin session for each binding, opened at the first call, and the trace of all calls. An SMTP session has one hook
/// session for the hooks before MAIL and a new hook session for each transaction; only tags pass from one to the other. A hook
/// session keeps the plugin versions present at the start, regardless of later reloads.
pub struct Chain {
    pub(crate) bound: Arc<Bound>,
    pub(crate) seats: Vec<Seat>,
    /// Trace of the calls so far.
    pub trace: Vec<TraceEntry>,
    /// Answers of shadows at the current hook, kept until the enforcing plugins have decided.
    pub(crate) shadows: Vec<Heard>,
}

/// State of one binding in a hook session.
pub(crate) enum Seat {
    /// Not called yet.
    Empty,
    /// Plugin session open, with the version of the plugin.
    Open(Box<dyn Guest>, Arc<Binding>),
    /// Plugin asked for no further calls for this message (`skip-rest`).
    Left,
}

impl Chain {
    pub(crate) fn new(bound: Arc<Bound>) -> Self {
        Self { seats: bound.bindings.iter().map(|_| Seat::Empty).collect(), bound, trace: Vec::new(), shadows: Vec::new() }
    }

    /// Checks whether some plugin of this hook session is bound to the hook.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        !self.bound.at(hook).is_empty()
    }

    /// Closes all plugin sessions and frees the instances for other transactions. A later call opens a new plugin session.
    pub fn release(&mut self) {
        for seat in &mut self.seats {
            if matches!(seat, Seat::Open(..)) {
                *seat = Seat::Empty;
            }
        }
    }
}
