//! Plugins as `waxwing plugin list` shows them, and what became of a change of them.

use serde::{Deserialize, Serialize};
use waxwing_types::Timestamp;

/// One version of a bound plugin: the one in service, or its canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its version: which load of this plugin it is, and the beginning of its content's hash.
    pub version: String,
    /// When this version was loaded.
    pub loaded_at: Timestamp,
    /// For a canary, the percentage of the transactions that it gets.
    pub canary: Option<u8>,
    /// The version that `waxwing plugin rollback` would put back.
    pub previous: Option<String>,
    /// Why the last change of its file was not taken into service.
    pub last_error: Option<String>,
    /// Instances of this version that exist now, at work or waiting.
    pub instances: u32,
    /// `enforce`, `shadow` or `off`.
    pub mode: String,
    /// `defer`, `skip`, `reject` or `hold`.
    pub on_fault: String,
    /// `closed`, or `open` and `half-open` after too many faults in a row at one of its hooks.
    pub breaker: String,
    /// Every exported hook, zero calls included.
    pub hooks: Vec<HookStatus>,
}

/// One hook of one plugin, since the server's start, all versions that were in service after each other together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name in the contract, such as `on-message`.
    pub hook: String,
    /// Calls, faults included.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// Microseconds of all calls together.
    pub micros: u64,
    /// For a shadow: answers that were those of the chain.
    pub agreed: u64,
    /// For a shadow: answers that were not.
    pub differed: u64,
}

/// What became of one plugin, or of its canary, when it was to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginChange {
    /// Its name in the configuration.
    pub name: String,
    /// `reloaded`, `unchanged`, `rolled-back`, `canary-reloaded`, `canary-removed`, `promoted` or `failed`.
    pub change: String,
    /// The version that was in service before.
    pub before: String,
    /// The version in service now, the same one if nothing changed.
    pub version: String,
    /// What the operator should know; for `failed` the error.
    pub note: Option<String>,
}

impl PluginChange {
    /// The change failed and the version before is in service.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.change == "failed"
    }
}
