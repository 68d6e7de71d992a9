//! Formatting of a log event as a line.

use std::cell::RefCell;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use waxwing_types::Timestamp;

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Bytes of a thread's line buffer kept for the next line.
const KEPT_BYTES: usize = 4096;

/// Formats an event and passes the line, LF included, to `take`. Each thread reuses a buffer, unless a value logs while being formatted.
pub(super) fn format_line(now: Timestamp, event: &Event<'_>, take: impl FnOnce(&[u8])) {
    LINE.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut line) => {
            line.clear();
            write_line(&mut line, now, event);
            take(line.as_bytes());
            line.clear();
            line.shrink_to(KEPT_BYTES);
        }
        Err(_) => {
            let mut line = String::new();
            write_line(&mut line, now, event);
            take(line.as_bytes());
        }
    });
}

fn write_line(line: &mut String, now: Timestamp, event: &Event<'_>) {
    let time = i64::try_from(now.as_millis()).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    // Writing to a String does not fail.
    let _ = write!(
        line,
        "{:.3} {} {}:",
        time.unwrap_or_default(),
        level_name(*event.metadata().level()),
        component_name(event.metadata().target())
    );
    event.record(&mut FieldWriter { line, fields: false });
    event.record(&mut FieldWriter { line, fields: true });
    line.push('\n');
}

/// Component name of a target: `waxwing_delivery::queue` -> `delivery`, `waxwing::run` -> `run`; explicit targets are used unchanged.
fn component_name(target: &str) -> &str {
    let (first, rest) = target.split_once("::").unwrap_or((target, ""));
    match first.strip_prefix("waxwing_") {
        Some(name) => name,
        None if first == "waxwing" && !rest.is_empty() => rest.split("::").next().unwrap_or(rest),
        None => first,
    }
}

/// Field visitor with two passes: the message first, then the fields.
struct FieldWriter<'l> {
    line: &'l mut String,
    fields: bool,
}

impl FieldWriter<'_> {
    fn write_key(&mut self, field: &Field) -> bool {
        let is_message = field.name() == "message";
        if is_message == self.fields {
            return false;
        }
        self.line.push(' ');
        if !is_message {
            self.line.push_str(field.name());
            self.line.push('=');
        }
        true
    }
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.write_key(field) {
            let bare =
                !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=');
            let _ = match self.fields && !bare {
                true => write!(EscapedWriter(self.line), "{value:?}"),
                false => EscapedWriter(self.line).write_str(value),
            };
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.write_key(field) {
            let _ = write!(EscapedWriter(self.line), "{value:?}");
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if self.write_key(field) {
            let _ = write!(self.line, "{value}");
        }
    }
}

/// Writer that escapes control characters: text from remote peers must neither forge log lines nor control a terminal.
struct EscapedWriter<'l>(&'l mut String);

impl fmt::Write for EscapedWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_plain = text.bytes().all(|b| matches!(b, b' '..=b'~'));
        if is_plain || !text.contains(char::is_control) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c.is_control() {
                true => self.0.extend(c.escape_default()),
                false => self.0.push(c),
            }
        }
        Ok(())
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_speaks_is_short() {
        for (target, name) in [
            ("waxwing_delivery::manager::run", "delivery"),
            ("waxwing_smtp", "smtp"),
            ("waxwing::serve", "serve"),
            ("delivery", "delivery"),
            ("hickory_resolver::pool", "hickory_resolver"),
        ] {
            assert_eq!(component_name(target), name, "{target}");
        }
    }
}
