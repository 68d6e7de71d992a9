//! Metrics registry: counters and summaries bounded in names and label sets, with Prometheus text output.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;
use waxwing_pipeline::Metrics;

/// Metric names kept by a registry; values of further names are dropped and counted.
pub const METRIC_NAMES_MAX: usize = 1000;
/// Label sets of one name; values of further sets are dropped and counted.
pub const METRIC_LABEL_SETS_MAX: usize = 200;
/// Maximum octets of a metric name or label name.
pub const METRIC_NAME_BYTES_MAX: usize = 100;
/// Maximum octets of a label value.
pub const METRIC_LABEL_BYTES_MAX: usize = 200;
/// Maximum number of labels of one value.
pub const METRIC_LABELS_MAX: usize = 8;

/// Counter of values dropped for exceeded bounds or invalid names.
const DROPPED_METRIC: &str = "waxwing_metrics_dropped_total";

/// Metrics of the current run, from zero at start as Prometheus expects of counters.
#[derive(Default)]
pub struct MetricsRegistry {
    state: Mutex<RegistryState>,
}

#[derive(Default)]
struct RegistryState {
    families: BTreeMap<String, MetricFamily>,
    dropped: u64,
}

/// Metric family: counter or summary, as set by the first value.
enum MetricFamily {
    Counter(BTreeMap<String, u64>),
    Distribution(BTreeMap<String, MetricSummary>),
}

#[derive(Clone, Copy, Default)]
struct MetricSummary {
    count: u64,
    sum: f64,
}

impl Metrics for MetricsRegistry {
    fn count(&self, name: &str, labels: &[(&str, &str)], delta: u64) {
        let mut state = self.state.lock();
        let stored = match state.family(name, labels, || MetricFamily::Counter(BTreeMap::new())) {
            Some((MetricFamily::Counter(values), labels)) => value_slot(values, labels).map(|v| *v = v.saturating_add(delta)),
            Some((MetricFamily::Distribution(_), _)) | None => None,
        };
        state.count_dropped(stored);
    }

    fn observe(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut state = self.state.lock();
        let family = value.is_finite().then(|| state.family(name, labels, || MetricFamily::Distribution(BTreeMap::new())));
        let stored = match family.flatten() {
            Some((MetricFamily::Distribution(values), labels)) => value_slot(values, labels).map(|v| {
                v.count = v.count.saturating_add(1);
                v.sum += value;
            }),
            Some((MetricFamily::Counter(_), _)) | None => None,
        };
        state.count_dropped(stored);
    }
}

impl RegistryState {
    /// Returns the family of a name, created within the limits, and the label text; none for invalid or excess names or labels.
    fn family(&mut self, name: &str, labels: &[(&str, &str)], new: fn() -> MetricFamily) -> Option<(&mut MetricFamily, String)> {
        let labels = label_text(labels)?;
        if !is_name(name) || name == DROPPED_METRIC {
            return None;
        }
        if !self.families.contains_key(name) && self.families.len() >= METRIC_NAMES_MAX {
            return None;
        }
        Some((self.families.entry(name.to_owned()).or_insert_with(new), labels))
    }

    fn count_dropped(&mut self, stored: Option<()>) {
        if stored.is_none() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

fn value_slot<V: Default>(values: &mut BTreeMap<String, V>, labels: String) -> Option<&mut V> {
    if !values.contains_key(&labels) && values.len() >= METRIC_LABEL_SETS_MAX {
        return None;
    }
    Some(values.entry(labels).or_default())
}

/// Formats labels as `a="1",b="2"`, sorted and escaped, so that equal sets have equal text.
fn label_text(labels: &[(&str, &str)]) -> Option<String> {
    let fits = |(name, value): &(&str, &str)| is_name(name) && value.len() <= METRIC_LABEL_BYTES_MAX;
    if labels.len() > METRIC_LABELS_MAX || !labels.iter().all(fits) {
        return None;
    }
    let mut sorted = labels.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return None;
    }
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let texts: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    Some(texts.join(","))
}

/// Checks a name against the Prometheus syntax common to metrics and labels.
fn is_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.len() <= METRIC_NAME_BYTES_MAX
        && name.bytes().all(word)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

impl MetricsRegistry {
    /// Number of dropped values: too many names or label sets, or a name of another kind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Renders all metrics in the Prometheus text format 0.0.4, sorted by name.
    #[must_use]
    pub fn render(&self) -> String {
        let state = self.state.lock();
        let mut out = String::new();
        for (name, family) in &state.families {
            family.render(name, &mut out);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {DROPPED_METRIC} counter\n{DROPPED_METRIC} {}", state.dropped);
        out
    }
}

impl MetricFamily {
    fn render(&self, name: &str, out: &mut String) {
        let braced = |labels: &str| if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match self {
            Self::Counter(values) => {
                let _ = writeln!(out, "# TYPE {name} counter");
                for (labels, value) in values {
                    let _ = writeln!(out, "{name}{} {value}", braced(labels));
                }
            }
            Self::Distribution(values) => {
                let _ = writeln!(out, "# TYPE {name} summary");
                for (labels, MetricSummary { count, sum }) in values {
                    let labels = braced(labels);
                    let _ = writeln!(out, "{name}_sum{labels} {sum}\n{name}_count{labels} {count}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_counters_and_distributions() {
        let metrics = MetricsRegistry::default();
        metrics.count("seen", &[("plugin", "a"), ("hook", "on-mail")], 2);
        metrics.count("seen", &[("hook", "on-mail"), ("plugin", "a")], 3);
        metrics.count("plain", &[], 1);
        metrics.observe("seconds", &[], 0.5);
        metrics.observe("seconds", &[], 1.0);
        let text = "# TYPE plain counter\nplain 1\n# TYPE seconds summary\nseconds_sum 1.5\nseconds_count 2\n\
                    # TYPE seen counter\nseen{hook=\"on-mail\",plugin=\"a\"} 5\n\
                    # TYPE waxwing_metrics_dropped_total counter\nwaxwing_metrics_dropped_total 0\n";
        assert_eq!(metrics.render(), text);
    }

    #[test]
    fn a_label_cannot_write_lines_of_its_own() {
        let metrics = MetricsRegistry::default();
        metrics.count("seen", &[("plugin", "a\"} 1\nother 2\\")], 1);
        assert!(metrics.render().contains("seen{plugin=\"a\\\"} 1\\nother 2\\\\\"} 1\n"), "{}", metrics.render());
    }

    #[test]
    fn names_and_label_sets_are_bounded() {
        let metrics = MetricsRegistry::default();
        for n in 0..METRIC_NAMES_MAX + 5 {
            metrics.count(&format!("n{n}"), &[], 1);
        }
        assert_eq!(metrics.dropped(), 5);
        for n in 0..METRIC_LABEL_SETS_MAX + 7 {
            metrics.count("n0", &[("x", &n.to_string())], 1);
        }
        // The set without labels took one place.
        assert_eq!(metrics.dropped(), 5 + 8);
        metrics.count("n0", &[], 1);
        assert_eq!(metrics.dropped(), 13, "what is known goes on counting");
    }

    #[test]
    fn drops_what_is_no_name_or_of_another_kind() {
        let metrics = MetricsRegistry::default();
        metrics.count("known", &[], 1);
        metrics.observe("known", &[], 1.0);
        metrics.observe("nan", &[], f64::NAN);
        for name in ["", "9a", "a b", "a\nb", "a{", DROPPED_METRIC, &"a".repeat(METRIC_NAME_BYTES_MAX + 1)] {
            metrics.count(name, &[], 1);
        }
        metrics.count("known", &[("x", "1"), ("x", "2")], 1);
        metrics.count("known", &[("x", &"v".repeat(METRIC_LABEL_BYTES_MAX + 1))], 1);
        assert_eq!(metrics.dropped(), 11);
        assert!(metrics.render().starts_with("# TYPE known counter\nknown 1\n# TYPE waxwing"), "{}", metrics.render());
    }
}
