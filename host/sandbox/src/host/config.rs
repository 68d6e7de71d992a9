//! `config`, `log` and `metrics`: what every plugin has.

use wasmtime::Result;
use waxwing_bindings::imports::{config, log, metrics};

use crate::state::State;

impl config::Host for State {
    fn get(&mut self, key: String) -> Result<Option<String>> {
        self.called("config.get");
        Ok(self.shared.setting(&key))
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, text: String) -> Result<()> {
        self.called("log.write");
        let level = match level {
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        self.log(level, &text);
        Ok(())
    }
}

/// Counted nowhere yet: the server has no metrics to show them in. The events are at the level `trace` of the log.
impl metrics::Host for State {
    fn count(&mut self, name: String, delta: u64) -> Result<()> {
        self.called("metrics.count");
        tracing::trace!(plugin = &*self.shared.name, name, delta, "count");
        Ok(())
    }

    fn observe(&mut self, name: String, value: f64) -> Result<()> {
        self.called("metrics.observe");
        tracing::trace!(plugin = &*self.shared.name, name, value, "observe");
        Ok(())
    }
}
