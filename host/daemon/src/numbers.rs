//! Metrics in Prometheus text format: the counters of the registry, of the queue and of the pipeline.

use std::fmt::Write;

use waxwing_pipeline::BreakerState;

use crate::desk::Desk;

/// Renders all metrics in the Prometheus text format, version 0.0.4.
pub(crate) fn text(admin: &Desk) -> String {
    let mut out = String::new();
    queue(admin, &mut out);
    sessions(admin, &mut out);
    hooks(admin, &mut out);
    out.push_str(&admin.metrics.render());
    out
}

/// Writes the samples of a metric. Label values are configuration and contract names, so no escaping is needed. Writing to a String cannot
/// fail.
fn metric(out: &mut String, name: &str, kind: &str, values: impl Iterator<Item = (String, u64)>) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

fn queue(admin: &Desk, out: &mut String) {
    let stats = admin.spool.stats();
    let states = [("incoming", stats.incoming), ("deferred", stats.deferred), ("hold", stats.hold), ("corrupt", stats.corrupt)];
    let states = states.into_iter().map(|(state, units)| (format!("{{state=\"{state}\"}}"), units));
    metric(out, "waxwing_queue_units", "gauge", states);
    let plain = |value| [(String::new(), value)].into_iter();
    metric(out, "waxwing_queue_messages_total", "counter", plain(stats.enqueued));
    metric(out, "waxwing_queue_settled_total", "counter", plain(stats.settled));
}

fn sessions(admin: &Desk, out: &mut String) {
    let plain = |value| [(String::new(), value)].into_iter();
    let guard_state = &admin.door;
    metric(out, "waxwing_smtpd_sessions", "gauge", plain(guard_state.sessions.open() as u64));
    metric(out, "waxwing_smtpd_sessions_memory_bytes", "gauge", plain(guard_state.memory()));
    metric(out, "waxwing_smtpd_dropped_total", "counter", plain(guard_state.sessions.dropped()));
    let (clients, forgotten) = guard_state.rates.held();
    metric(out, "waxwing_smtpd_rate_clients", "gauge", plain(clients as u64));
    metric(out, "waxwing_smtpd_rate_clients_forgotten_total", "counter", plain(forgotten));
}

fn hooks(admin: &Desk, out: &mut String) {
    let status = admin.pipeline.status();
    let breakers = status.iter().map(|plugin| {
        let state = match plugin.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        (format!("{{plugin=\"{}\"}}", plugin.name), state)
    });
    // Breaker state at the plugin's worst hook: 0 closed, 1 half-open (a single trial call), 2 open (no calls).
    metric(out, "waxwing_plugin_breaker_state", "gauge", breakers);
    let counts = |value: fn(&waxwing_pipeline::HookCount) -> u64| {
        status.iter().flat_map(move |plugin| {
            plugin
                .hooks
                .iter()
                .map(move |count| (format!("{{plugin=\"{}\",hook=\"{}\"}}", plugin.name, count.hook), value(count)))
        })
    };
    metric(out, "waxwing_plugin_calls_total", "counter", counts(|count| count.calls));
    metric(out, "waxwing_plugin_faults_total", "counter", counts(|count| count.faults));
    metric(out, "waxwing_plugin_microseconds_total", "counter", counts(|count| count.micros));
}
