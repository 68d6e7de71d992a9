//! Interfaces `config`, `log` and `metrics`, available to every plugin.

use wasmtime::Result;
use waxwing_bindings::imports::{config, log, metrics};

use crate::state::InstanceState;

/// Maximum length of a metric name in bytes.
const METRIC_NAME_BYTES_MAX: usize = 64;

impl config::Host for InstanceState {
    fn get(&mut self, key: String) -> Result<Option<String>> {
        self.called("config.get");
        Ok(self.shared.config_value(&key))
    }
}

impl log::Host for InstanceState {
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

impl InstanceState {
    /// Returns the full metric name; none if the plugin uses too many names.
    fn metric_name(&self, name: &str) -> Option<String> {
        let mut names = self.shared.metric_names.lock();
        if !names.contains(name) {
            if names.len() >= self.shared.limits.metric_names_max || name.len() > METRIC_NAME_BYTES_MAX {
                return None;
            }
            names.insert(name.to_owned());
        }
        Some(format!("waxwing_plugin_{name}"))
    }

    fn metric_dropped(&self) {
        if let Some(metrics) = &self.shared.services.metrics {
            metrics.count("waxwing_plugin_metrics_dropped_total", &[("plugin", &*self.shared.name)], 1);
        }
    }
}

/// No call fails: excess metrics are dropped, since a metric must not make a plugin fail.
impl metrics::Host for InstanceState {
    fn count(&mut self, name: String, delta: u64) -> Result<()> {
        self.called("metrics.count");
        match (&self.shared.services.metrics, self.metric_name(&name)) {
            (Some(metrics), Some(name)) => metrics.count(&name, &[("plugin", &*self.shared.name)], delta),
            (Some(_) | None, _) => self.metric_dropped(),
        }
        Ok(())
    }

    fn observe(&mut self, name: String, value: f64) -> Result<()> {
        self.called("metrics.observe");
        match (&self.shared.services.metrics, self.metric_name(&name)) {
            (Some(metrics), Some(name)) => metrics.observe(&name, &[("plugin", &*self.shared.name)], value),
            (Some(_) | None, _) => self.metric_dropped(),
        }
        Ok(())
    }
}
