//! Plugin in native code.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use waxwing_pipeline::{CallOutcome, Context, Event, Fault, Hook, HookSet, Plugin, PluginSession};

type PluginScript = Box<dyn Fn(&Event, &Context) -> Result<CallOutcome, Fault> + Send + Sync>;

/// Plugin in native code that answers by a script and records the subjects of its calls.
pub struct FakePlugin {
    exports: HookSet,
    script: PluginScript,
    subjects: Mutex<Vec<String>>,
}

impl FakePlugin {
    /// Creates a plugin that exports `hooks` and answers each call by `script`.
    pub fn new(
        hooks: &[Hook],
        script: impl Fn(&Event, &Context) -> Result<CallOutcome, Fault> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { exports: hooks.iter().copied().collect(), script: Box::new(script), subjects: Mutex::default() })
    }

    /// Returns the subjects of all calls so far ([`Event::subject`]), of all sessions, in order.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Plugin for FakePlugin {
    fn version(&self) -> &str {
        "1"
    }

    fn exports(&self) -> HookSet {
        self.exports
    }

    fn open_session(self: Arc<Self>) -> Box<dyn PluginSession> {
        Box::new(FakePluginSession(self))
    }
}

/// Session with a [`FakePlugin`], without a state of its own.
struct FakePluginSession(Arc<FakePlugin>);

#[async_trait]
impl PluginSession for FakePluginSession {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<CallOutcome, Fault> {
        self.0.subjects.lock().unwrap_or_else(PoisonError::into_inner).push(event.subject());
        (self.0.script)(event, context)
    }
}
