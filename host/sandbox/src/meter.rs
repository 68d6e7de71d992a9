//! Metering of calls for plugin tests. Not used by a server, since fuel slows down guests.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use waxwing_pipeline::Hook;

/// Cost of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredCall {
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Hook of the call.
    pub hook: Hook,
    /// Fuel units of wasmtime, about one for each WebAssembly instruction; the first call of an instance includes the
    /// instantiation. The same call of the same component uses the same fuel on every machine.
    pub fuel: u64,
    /// Host functions called (`interface.function`), with the number of calls.
    pub host_calls: BTreeMap<&'static str, u64>,
    /// Linear memory of the instance in bytes after the call.
    pub memory_bytes: u64,
}

/// Collector of call costs, one for each [`Sandbox`](crate::Sandbox) with metering.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Vec<MeteredCall>>);

impl Meter {
    /// Returns and removes the calls since the previous call of `take`, in the order of completion. Calls aborted at the time
    /// limit are not included.
    #[must_use]
    pub fn take(&self) -> Vec<MeteredCall> {
        std::mem::take(&mut *self.0.lock())
    }

    pub(crate) fn add(&self, call: MeteredCall) {
        self.0.lock().push(call);
    }
}

#[cfg(test)]
mod tests {
    /// Host functions beside those that are counted would be missing in what an author is shown.
    #[test]
    fn every_host_function_is_counted() {
        let sources = [
            include_str!("imports/action.rs"),
            include_str!("imports/config_log_metrics.rs"),
            include_str!("imports/content.rs"),
            include_str!("imports/edit.rs"),
            include_str!("imports/lookup.rs"),
            include_str!("imports/message.rs"),
            include_str!("imports/transaction.rs"),
        ];
        let mut counted = 0;
        for source in sources {
            let hosts = source.split("\n}\n").filter(|item| item.contains("Host for "));
            for item in hosts {
                let lines: Vec<&str> = item.lines().collect();
                for pair in lines.windows(2) {
                    let [head, next] = pair else { continue };
                    let is_function = head.starts_with("    fn ") || head.starts_with("    async fn ");
                    if is_function && head.contains("(&mut self") {
                        assert!(next.starts_with("        self.called(\""), "not counted: {head}");
                        counted += 1;
                    }
                }
            }
        }
        assert!(counted > 30, "found only {counted} host functions");
    }
}
