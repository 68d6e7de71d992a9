//! The counters of this run as text for Prometheus: what the registry has, and what the queue and the pipeline count themselves.

use std::fmt::Write;

use waxwing_pipeline::BreakerState;

use crate::desk::Desk;

/// All of them, in the text format of Prometheus, version 0.0.4.
pub(crate) fn text(desk: &Desk) -> String {
    let mut out = String::new();
    queue(desk, &mut out);
    sessions(desk, &mut out);
    hooks(desk, &mut out);
    out.push_str(&desk.metrics.render());
    out
}

/// One metric. Label values are names of the configuration and of the contract, which need no escape. Writing to a String cannot fail.
fn metric(out: &mut String, name: &str, kind: &str, values: impl Iterator<Item = (String, u64)>) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

fn queue(desk: &Desk, out: &mut String) {
    let stats = desk.spool.stats();
    let states = [("incoming", stats.incoming), ("deferred", stats.deferred), ("hold", stats.hold), ("corrupt", stats.corrupt)];
    let states = states.into_iter().map(|(state, units)| (format!("{{state=\"{state}\"}}"), units));
    metric(out, "waxwing_queue_units", "gauge", states);
    let plain = |value| [(String::new(), value)].into_iter();
    metric(out, "waxwing_queue_messages_total", "counter", plain(stats.enqueued));
    metric(out, "waxwing_queue_settled_total", "counter", plain(stats.settled));
}

fn sessions(desk: &Desk, out: &mut String) {
    let plain = |value| [(String::new(), value)].into_iter();
    let door = &desk.door;
    metric(out, "waxwing_smtpd_sessions", "gauge", plain(door.sessions.open() as u64));
    metric(out, "waxwing_smtpd_sessions_memory_bytes", "gauge", plain(door.memory()));
    metric(out, "waxwing_smtpd_dropped_total", "counter", plain(door.sessions.dropped()));
    let (clients, forgotten) = door.rates.held();
    metric(out, "waxwing_smtpd_rate_clients", "gauge", plain(clients as u64));
    metric(out, "waxwing_smtpd_rate_clients_forgotten_total", "counter", plain(forgotten));
}

fn hooks(desk: &Desk, out: &mut String) {
    let status = desk.pipeline.status();
    let breakers = status.iter().map(|plugin| {
        let state = match plugin.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        (format!("{{plugin=\"{}\"}}", plugin.name), state)
    });
    // 0: called; 1: one call tries it; 2: left alone; at the hook where it does worst.
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
