//! Faults of plugin calls.

use serde::{Deserialize, Serialize};

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
