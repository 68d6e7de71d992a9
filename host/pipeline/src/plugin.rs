//! Something that can be bound to hooks, and how its calls fail.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Context, Event, HookSet, Outcome};

/// What kind of fault ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The wall-time limit.
    TimeLimit,
    /// The CPU-time limit.
    CpuLimit,
    /// The memory limit.
    MemoryLimit,
    /// The guest trapped: a panic, an access out of bounds, a deep recursion.
    Trap,
    /// The guest answered something that the contract does not allow.
    BadAnswer,
    /// No instance was free: always answered with 451.
    PoolExhausted,
    /// The host failed while it served the guest, for instance in reading the message; or a server behind the plugin did.
    Host,
    /// The program that answers cannot be reached, or closed the connection.
    Connection,
    /// It failed so often that it is not asked for a while.
    BreakerOpen,
}

impl FaultKind {
    /// The word in logs, traces and metrics.
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

/// A call that did not return an answer. Nothing that it staged takes effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", kind.as_str())]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// For the operator, one line.
    pub text: String,
    /// Lines that it logged before.
    pub log: Vec<String>,
}

impl Fault {
    /// A fault without log lines.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), log: Vec::new() }
    }
}

/// Something that can be bound to hooks: a component in the sandbox, a milter, or native code.
pub trait Plugin: Send + Sync {
    /// Its version for the trace: a content hash or a number.
    fn version(&self) -> &str;

    /// The hooks that it wants.
    fn exports(&self) -> HookSet;

    /// Begins a conversation: one for the hooks before MAIL, one for each transaction, one for each attempt. Cheap: an
    /// instance is made at the first call.
    fn open(self: Arc<Self>) -> Box<dyn Guest>;

    /// Another version has taken its place, or it has come back: one that is out of service keeps no instance for calls to come.
    fn retire(&self, _is_retired: bool) {}

    /// Instances that exist now, at work or waiting; none for what has no instances.
    fn instances(&self) -> u32 {
        0
    }
}

/// One conversation with a plugin.
#[async_trait]
pub trait Guest: Send {
    /// Asks. The plugin's limits of time and memory are inside. After a fault the next call meets a new instance.
    async fn call(&mut self, event: &Event, context: &Context) -> Result<Outcome, Fault>;
}
