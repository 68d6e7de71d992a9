//! Text formatting of values for terminals.

use std::borrow::Cow;
use std::time::Duration;

use waxwing_types::Timestamp;

/// Replaces control characters in untrusted text, against terminal escape sequences.
pub(crate) fn sanitize(text: &str) -> Cow<'_, str> {
    sanitize_except(text, &[])
}

/// Replaces control characters, except line ends and tabs.
pub(crate) fn sanitize_lines(text: &str) -> Cow<'_, str> {
    sanitize_except(text, &['\n', '\t'])
}

fn sanitize_except<'t>(text: &'t str, allowed: &[char]) -> Cow<'t, str> {
    let bad = |c: char| (c.is_control() && !allowed.contains(&c)) || is_bidi_control(c);
    if text.contains(bad) { Cow::Owned(text.replace(bad, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// True for bidirectional control characters, capable of disguising the displayed text.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Formats a time in UTC: `2026-11-24 05:00:00Z`.
pub(crate) fn format_time(at: Timestamp) -> String {
    format_timestamp(at, 0)
}

/// Formats a time in UTC with milliseconds: `2026-11-24 05:00:00.123Z`.
pub(crate) fn format_time_millis(at: Timestamp) -> String {
    format_timestamp(at, 3)
}

fn format_timestamp(at: Timestamp, digits: usize) -> String {
    let total_millis = if digits == 0 { at.as_secs().saturating_mul(1000) } else { at.as_millis() };
    match i64::try_from(total_millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok()) {
        Some(time) => format!("{time:.digits$}").replace('T', " "),
        None => format!("{total_millis} ms"),
    }
}

/// Formats a size with two or three digits and a unit: `999 B`, `4.2 KB`, `52 MB`.
pub(crate) fn format_size(octets: u64) -> String {
    let mut value = octets as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 999.5 || unit == "GB" {
            return if unit == "B" || value >= 9.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{octets} B")
}

/// Formats microseconds: `870 µs`, `1.2 ms`, `3.4 s`.
pub(crate) fn format_micros(micros: u64) -> String {
    match micros {
        0..=999 => format!("{micros} µs"),
        1000..=999_999 => format!("{:.1} ms", micros as f64 / 1000.0),
        _ => format!("{:.1} s", micros as f64 / 1_000_000.0),
    }
}

/// Formats a duration: `45 s`, `12 min`, `3 h`, `5 d`.
pub(crate) fn format_duration(span: Duration) -> String {
    match span.as_secs() {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// Formats an address as an SMTP path: `<>` or `<a@b>`.
pub(crate) fn format_path(address: &str) -> String {
    format!("<{}>", sanitize(address))
}

/// Formats a count with a noun: `1 message`, `2 messages`.
pub(crate) fn format_count(n: u64, word: &str) -> String {
    if n == 1 { format!("{n} {word}") } else { format!("{n} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(sanitize("a\x1b[31mb\r\nc\u{202e}d é"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}d é");
        assert_eq!(sanitize_lines("a\nb\x07"), "a\nb\u{fffd}");
        assert!(matches!(sanitize("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn values_read_well() {
        let sizes = [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (4200, "4.2 KB"), (52_428_800, "52 MB"), (9_960, "10 KB")];
        for (octets, text) in sizes {
            assert_eq!(format_size(octets), text);
        }
        assert_eq!([format_micros(5), format_micros(1200), format_micros(2_500_000)], ["5 µs", "1.2 ms", "2.5 s"]);
        assert_eq!(format_time(Timestamp::from_millis(1_800_000_000_999)), "2027-01-15 08:00:00Z");
        assert_eq!(format_time_millis(Timestamp::from_millis(1_800_000_000_009)), "2027-01-15 08:00:00.009Z");
        let spans = [5u64, 600, 7200, 200_000].map(|s| format_duration(Duration::from_secs(s)));
        assert_eq!(spans, ["5 s", "10 min", "2 h", "2 d"]);
        assert_eq!([format_path(""), format_path("a@b")], ["<>", "<a@b>"]);
        assert_eq!([format_count(1, "unit"), format_count(0, "unit")], ["1 unit", "0 units"]);
    }
}
