//! Plugins as `waxwing plugin list` shows them.

use serde::{Deserialize, Serialize};

/// One bound plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `enforce`, `shadow` or `off`.
    pub mode: String,
    /// `defer`, `skip`, `reject` or `hold`.
    pub on_fault: String,
    /// `closed`, or `open` and `half-open` after too many faults in a row at one of its hooks.
    pub breaker: String,
    /// Every exported hook, zero calls included.
    pub hooks: Vec<HookStatus>,
}

/// One hook of one plugin, since the server's start.
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
}
