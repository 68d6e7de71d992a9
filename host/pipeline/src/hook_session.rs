//! Plugin sessions of one SMTP session, transaction or delivery attempt.

use std::sync::Arc;

use crate::binding_table::BindingTable;
use crate::{Binding, Hook, HookAnswer, PluginSession, TraceEntry};

/// One plugin session for each binding, opened at the first call, and the trace of all calls. An SMTP session has one hook
/// session for the hooks before MAIL and a new hook session for each transaction; only tags pass from one to the other. A hook
/// session keeps the plugin versions present at the start, regardless of later reloads.
pub struct HookSession {
    pub(crate) table: Arc<BindingTable>,
    pub(crate) slots: Vec<PluginSlot>,
    /// Trace of the calls so far.
    pub trace: Vec<TraceEntry>,
    /// Answers of shadows at the current hook, kept until the enforcing plugins have decided.
    pub(crate) shadow_answers: Vec<ShadowAnswer>,
}

/// Answer of a shadow; none if the call ended in a fault.
pub(crate) struct ShadowAnswer {
    /// Index in the binding table.
    pub(crate) index: usize,
    pub(crate) hook: Hook,
    pub(crate) answer: Option<HookAnswer>,
}

/// State of one binding in a hook session.
pub(crate) enum PluginSlot {
    /// Not called yet.
    Idle,
    /// Plugin session open, with the version of the plugin.
    Active(Box<dyn PluginSession>, Arc<Binding>),
    /// Plugin asked for no further calls for this message (`skip-rest`).
    Skipped,
}

impl HookSession {
    pub(crate) fn new(bound: Arc<BindingTable>) -> Self {
        Self {
            slots: bound.bindings.iter().map(|_| PluginSlot::Idle).collect(),
            table: bound,
            trace: Vec::new(),
            shadow_answers: Vec::new(),
        }
    }

    /// Checks whether some plugin of this hook session is bound to the hook.
    #[must_use]
    pub fn has_hook(&self, hook: Hook) -> bool {
        !self.table.indices(hook).is_empty()
    }

    /// Closes all plugin sessions and frees the instances for other transactions. A later call opens a new plugin session.
    pub fn release(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot, PluginSlot::Active(..)) {
                *slot = PluginSlot::Idle;
            }
        }
    }

    /// Stores the last answer of a shadow at a hook, until the enforcing plugins have decided.
    pub(crate) fn record_shadow(&mut self, at: usize, hook: Hook, answer: Option<&HookAnswer>) {
        self.shadow_answers.retain(|recorded| (recorded.index, recorded.hook) != (at, hook));
        self.shadow_answers.push(ShadowAnswer { index: at, hook, answer: answer.cloned() });
    }

    /// Returns the most recent answer, if given by the shadow at this index.
    pub(crate) fn last_shadow(&mut self, at: usize) -> Option<&mut HookAnswer> {
        self.shadow_answers.last_mut().filter(|recorded| recorded.index == at)?.answer.as_mut()
    }
}
