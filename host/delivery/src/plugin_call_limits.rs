//! Limits on concurrent plugin calls of delivery.

use tokio::sync::Semaphore;

/// Attempts with plugin calls open at a time, so that others wait for an instance instead of being deferred for lack of one.
/// Holders of a permit wait for nothing but plugins.
const PLUGIN_CALLS_MAX: usize = 50;
/// Limit for on-scan, where plugins are slow; otherwise like [`PLUGIN_CALLS_MAX`].
const PLUGIN_SCANS_MAX: usize = 20;

/// Limits on concurrent plugin calls.
pub(crate) struct PluginCallLimits {
    /// Permits for calls other than on-scan.
    pub(crate) calls: Semaphore,
    /// Permits for on-scan.
    pub(crate) scans: Semaphore,
}

impl Default for PluginCallLimits {
    fn default() -> Self {
        Self { calls: Semaphore::new(PLUGIN_CALLS_MAX), scans: Semaphore::new(PLUGIN_SCANS_MAX) }
    }
}
