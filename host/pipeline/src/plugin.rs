//! Interface of a plugin, and the faults of plugin calls.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CallOutcome, Context, Event, HookSet};

/// Kind of fault that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Wall-time limit exceeded.
    TimeLimit,
    /// CPU-time limit exceeded.
    CpuLimit,
    /// Memory limit exceeded.
    MemoryLimit,
    /// WebAssembly trap: a panic, an access out of bounds, a stack overflow.
    Trap,
    /// Answer not allowed by the contract.
    BadAnswer,
    /// No instance free within the wait time: always answered with 451.
    PoolExhausted,
    /// Failure of the host during the call, for instance in reading the message; or failure of a server behind the plugin.
    Host,
    /// External program unreachable, or connection closed by the program.
    Connection,
    /// Calls suspended by the circuit breaker after repeated faults.
    BreakerOpen,
}

impl FaultKind {
    /// Returns the name in logs, traces and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimeLimit => "time-limit",
            Self::CpuLimit => "cpu-limit",
            Self::MemoryLimit => "memory-limit",
            Self::Trap => "trap",
            Self::BadAnswer => "bad-answer",
            Self::PoolExhausted => "pool-exhausted",
            Self::Host => "host",
            Self::Connection => "connection",
            Self::BreakerOpen => "breaker-open",
        }
    }
}

/// Call that did not return an answer. Staged changes of the call are dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", kind.as_str())]
pub struct Fault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Description for the operator, one line.
    pub text: String,
    /// Log lines of the call before the fault.
    pub log: Vec<String>,
}

impl Fault {
    /// Creates a fault without log lines.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), log: Vec::new() }
    }
}

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
