//! Interface of a plugin.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{CallOutcome, Context, Event, Fault, HookSet};

/// Plugin that can be bound to hooks: a WebAssembly component, a milter, or native code.
pub trait Plugin: Send + Sync {
    /// Version for the trace: a content hash or a number.
    fn version(&self) -> &str;

    /// Hooks that the plugin exports.
    fn exports(&self) -> HookSet;

    /// Opens a plugin session: one for the hooks before MAIL, one for each transaction, one for each attempt. Cheap: an
    /// instance is created at the first call.
    fn open_session(self: Arc<Self>) -> Box<dyn PluginSession>;

    /// Marks the version as out of service, or as in service again. A retired version keeps no idle instances.
    fn set_retired(&self, _is_retired: bool) {}

    /// Number of live instances, busy or idle; 0 for plugins without instances.
    fn instances(&self) -> u32 {
        0
    }
}

/// Session with a plugin, for a transaction or attempt.
#[async_trait]
pub trait PluginSession: Send {
    /// Calls the plugin with an event, within the plugin's limits of time and memory. After a fault, the next call uses a new
    /// instance.
    async fn call(&mut self, event: &Event, context: &Context) -> Result<CallOutcome, Fault>;
}
