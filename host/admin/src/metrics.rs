//! Metrics in Prometheus text format: the counters of the registry, of the queue and of the pipeline.

use std::fmt::Write;

use waxwing_intake::GuardState;
use waxwing_pipeline::{BreakerState, Pipeline};
use waxwing_spool::Spool;
use waxwing_state::MetricsRegistry;

/// Sources of the metrics.
#[derive(Clone, Copy)]
pub struct MetricsSources<'a> {
    /// Queue of messages.
    pub spool: &'a dyn Spool,
    /// Sessions of the server.
    pub guard_state: &'a GuardState,
    /// Bound plugins with their counts.
    pub pipeline: &'a Pipeline,
    /// Registry of the other metrics.
    pub registry: &'a MetricsRegistry,
}

/// Renders all metrics in the Prometheus text format, version 0.0.4.
pub fn render(sources: &MetricsSources<'_>) -> String {
    let mut out = String::new();
    write_queue(sources.spool, &mut out);
    write_sessions(sources.guard_state, &mut out);
    write_hooks(sources.pipeline, &mut out);
    out.push_str(&sources.registry.render());
    out
}

/// Writes the samples of a metric. Label values are configuration and contract names, so no escaping is needed. Writing to a String cannot
/// fail.
fn write_metric(out: &mut String, name: &str, kind: &str, values: impl Iterator<Item = (String, u64)>) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

fn write_queue(spool: &dyn Spool, out: &mut String) {
    let stats = spool.stats();
    let states = [("incoming", stats.incoming), ("deferred", stats.deferred), ("hold", stats.hold), ("corrupt", stats.corrupt)];
    let states = states.into_iter().map(|(state, units)| (format!("{{state=\"{state}\"}}"), units));
    write_metric(out, "waxwing_queue_units", "gauge", states);
    let plain = |value| [(String::new(), value)].into_iter();
    write_metric(out, "waxwing_queue_messages_total", "counter", plain(stats.enqueued));
    write_metric(out, "waxwing_queue_settled_total", "counter", plain(stats.settled));
}

fn write_sessions(guard_state: &GuardState, out: &mut String) {
    let plain = |value| [(String::new(), value)].into_iter();
    write_metric(out, "waxwing_smtpd_sessions", "gauge", plain(guard_state.sessions.admitted() as u64));
    write_metric(out, "waxwing_smtpd_sessions_memory_bytes", "gauge", plain(guard_state.memory_held()));
    write_metric(out, "waxwing_smtpd_dropped_total", "counter", plain(guard_state.sessions.closed_silently()));
    let (clients, forgotten) = guard_state.rates.tracked_clients();
    write_metric(out, "waxwing_smtpd_rate_clients", "gauge", plain(clients as u64));
    write_metric(out, "waxwing_smtpd_rate_clients_forgotten_total", "counter", plain(forgotten));
}

fn write_hooks(pipeline: &Pipeline, out: &mut String) {
    let status = pipeline.status();
    let breakers = status.iter().map(|plugin| {
        let state = match plugin.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        (format!("{{plugin=\"{}\"}}", plugin.name), state)
    });
    // Breaker state at the plugin's worst hook: 0 closed, 1 half-open (a single trial call), 2 open (no calls).
    write_metric(out, "waxwing_plugin_breaker_state", "gauge", breakers);
    let counts = |value: fn(&waxwing_pipeline::HookCounts) -> u64| {
        status.iter().flat_map(move |plugin| {
            plugin
                .hooks
                .iter()
                .map(move |count| (format!("{{plugin=\"{}\",hook=\"{}\"}}", plugin.name, count.hook), value(count)))
        })
    };
    write_metric(out, "waxwing_plugin_calls_total", "counter", counts(|count| count.calls));
    write_metric(out, "waxwing_plugin_faults_total", "counter", counts(|count| count.faults));
    write_metric(out, "waxwing_plugin_microseconds_total", "counter", counts(|count| count.micros));
}
