//! Plugin messages: status for `waxwing plugin list`, and results of plugin changes.

use serde::{Deserialize, Serialize};
use waxwing_types::Timestamp;

/// Status of a bound plugin version: the stable version or the canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Plugin name in the configuration.
    pub name: String,
    /// Version: serial number of the load and prefix of the content hash.
    pub version: String,
    /// Time of the load.
    pub loaded_at: Timestamp,
    /// Percentage of the transactions for a canary; `None` for the stable version.
    pub canary: Option<u8>,
    /// Version that `waxwing plugin rollback` would restore.
    pub previous: Option<String>,
    /// Error of the last reload that failed.
    pub last_error: Option<String>,
    /// Live instances of the version, busy or idle.
    pub instances: u32,
    /// Mode of the binding: `enforce`, `shadow` or `off`.
    pub mode: String,
    /// Consequence of a fault: `defer`, `skip`, `reject` or `hold`.
    pub on_fault: String,
    /// Breaker state: `closed`, or `open` and `half-open` after too many faults in a row at a hook.
    pub breaker: String,
    /// Counters of every exported hook, including hooks without calls.
    pub hooks: Vec<HookStatus>,
}

/// Counters of a plugin's hook since the start of the server, summed over all versions in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Hook name in the contract, such as `on-message`.
    pub hook: String,
    /// Number of calls, faults included.
    pub calls: u64,
    /// Number of calls that ended in a fault.
    pub faults: u64,
    /// Total duration of all calls in microseconds.
    pub micros: u64,
    /// For a shadow plugin: answers equal to the result of the enforcing plugins.
    pub agreed: u64,
    /// For a shadow plugin: answers different from the result of the enforcing plugins.
    pub differed: u64,
}

/// Result of a requested change of a plugin or its canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginChange {
    /// Plugin name in the configuration.
    pub name: String,
    /// Kind of change: `reloaded`, `unchanged`, `rolled-back`, `canary-reloaded`, `canary-removed`, `promoted` or `failed`.
    pub change: String,
    /// Version in service before the change.
    pub before: String,
    /// Version in service now, the same if nothing changed.
    pub version: String,
    /// Note for the operator; the error text for `failed`.
    pub note: Option<String>,
}

impl PluginChange {
    /// Tells whether the change failed and the old version stays in service.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.change == "failed"
    }
}
