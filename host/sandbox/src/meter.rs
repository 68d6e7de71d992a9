//! What calls cost and ask, counted for whoever tries a plugin out. A server does not: fuel makes guests slower.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use waxwing_pipeline::Hook;

/// One call as it was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metered {
    /// The plugin.
    pub plugin: Arc<str>,
    /// Its hook.
    pub hook: Hook,
    /// Units of wasmtime's fuel, about one for each WebAssembly instruction; the first call of an instance includes the making of it.
    /// The same call of the same component takes the same fuel on every machine.
    pub fuel: u64,
    /// Host functions that it called (`interface.function`) and how often.
    pub host_calls: BTreeMap<&'static str, u64>,
    /// Octets of linear memory of the instance after the call.
    pub memory_bytes: u64,
}

/// Gathers what calls cost. One for each [`Sandbox`](crate::Sandbox) that counts.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Vec<Metered>>);

impl Meter {
    /// The calls since the last time, in the order in which they ended. A call that ran into its time limit is not among them.
    #[must_use]
    pub fn take(&self) -> Vec<Metered> {
        std::mem::take(&mut *self.0.lock())
    }

    pub(crate) fn add(&self, call: Metered) {
        self.0.lock().push(call);
    }
}

#[cfg(test)]
mod tests {
    /// Host functions beside those that are counted would be missing in what an author is shown.
    #[test]
    fn every_host_function_is_counted() {
        let sources = [
            include_str!("host/action.rs"),
            include_str!("host/config.rs"),
            include_str!("host/content.rs"),
            include_str!("host/edit.rs"),
            include_str!("host/lookup.rs"),
            include_str!("host/message.rs"),
            include_str!("host/transaction.rs"),
        ];
        let mut counted = 0;
        for source in sources {
            let hosts = source.split("\n}\n").filter(|item| item.contains("Host for State {"));
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
