//! Command `waxwing trace`: the hook calls of transactions.

use std::io::Write;

use waxwing_control::{ControlRequest, ControlResponse};
use waxwing_pipeline::{TraceEntry, TraceRecord};
use waxwing_types::QueueId;

use crate::formatting::{format_micros, format_path, format_size, format_time_millis, sanitize};
use crate::queue::print_json;
use crate::{ControlClient, ToolError};

/// Prints every part of the trace of a message.
pub(crate) fn show(client: &mut ControlClient, id: QueueId, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    print(client.request(&ControlRequest::Trace { id })?, json, out)
}

/// Prints the traces of the latest transactions.
pub(crate) fn show_latest(client: &mut ControlClient, limit: u32, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    print(client.request(&ControlRequest::TraceLast { limit })?, json, out)
}

fn print(response: ControlResponse, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let ControlResponse::Trace { records } = response else { return Err(ToolError::UnexpectedResponse) };
    if json {
        return records.iter().try_for_each(|record| print_json(record, out));
    }
    let mut before: Option<String> = None;
    for record in records {
        let record: TraceRecord = serde_json::from_value(record)?;
        if before.as_ref() != Some(&record.id) {
            if before.is_some() {
                writeln!(out)?;
            }
            print_envelope(&record, out)?;
        }
        print_part(&record, out)?;
        before = Some(record.id);
    }
    if before.is_none() {
        writeln!(out, "No transaction has been traced yet.")?;
    }
    Ok(())
}

fn print_envelope(record: &TraceRecord, out: &mut dyn Write) -> Result<(), ToolError> {
    let recipients: Vec<String> = record.recipients.iter().map(|r| format_path(r)).collect();
    let to = if recipients.is_empty() { "nobody".to_owned() } else { recipients.join(", ") };
    Ok(writeln!(out, "{}  from {} to {to}, {}", record.id, format_path(&record.sender), format_size(record.size))?)
}

fn print_part(record: &TraceRecord, out: &mut dyn Write) -> Result<(), ToolError> {
    let word = if record.part == "delivery" { "to" } else { "from" };
    let peer = sanitize(&record.peer);
    writeln!(out, "{} {} {word} {peer}: {}", format_time_millis(record.at), sanitize(&record.part), sanitize(&record.result))?;
    print_entries(&record.entries, out)
}

/// Prints the steps of a transaction, with one or more lines each.
pub(crate) fn print_entries(entries: &[TraceEntry], out: &mut dyn Write) -> Result<(), ToolError> {
    let width = |column: fn(&TraceEntry) -> &str| entries.iter().map(|e| column(e).chars().count()).max().unwrap_or(0);
    let widths = [width(|e| &e.step), width(|e| &e.actor), width(|e| &e.version)];
    entries.iter().try_for_each(|entry| print_entry(entry, widths, out))
}

fn print_entry(entry: &TraceEntry, [step, who, version]: [usize; 3], out: &mut dyn Write) -> Result<(), ToolError> {
    let subject = if entry.subject.is_empty() { String::new() } else { format!(" ({})", sanitize(&entry.subject)) };
    let calls = if entry.calls > 1 { format!(" ×{}", entry.calls) } else { String::new() };
    let shadow = if entry.shadow { " [shadow]" } else { "" };
    let time = format_micros(entry.micros);
    let result = sanitize(&entry.result);
    write!(out, "  {time:>8}  {:<step$}  {:<who$}  ", sanitize(&entry.step), sanitize(&entry.actor))?;
    if version > 0 {
        write!(out, "{:<version$}  ", sanitize(&entry.version))?;
    }
    writeln!(out, "{result}{subject}{calls}{shadow}")?;
    for edit in &entry.edits {
        writeln!(out, "              {}", sanitize(edit))?;
    }
    if let Some(fault) = &entry.fault {
        writeln!(out, "              fault: {}", sanitize(fault))?;
    }
    for line in &entry.log {
        writeln!(out, "              log: {}", sanitize(line))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waxwing_types::Timestamp;

    use super::*;

    fn record(part: &'static str, entries: Vec<TraceEntry>) -> serde_json::Value {
        let record = TraceRecord {
            id: QueueId::from_u64(1).to_string(),
            at: Timestamp::from_millis(1_800_000_000_123),
            part: part.into(),
            peer: "192.0.2.1:4711".into(),
            sender: "a@x.example".into(),
            recipients: vec!["b@y.example".into()],
            size: 4100,
            result: "250 2.0.0 Ok".into(),
            entries,
        };
        serde_json::to_value(record).unwrap()
    }

    #[test]
    fn shows_each_step_with_its_diff() {
        let at = Timestamp::from_millis(0);
        let mut cleanup = TraceEntry::server_step(at, "cleanup", "on-cleanup", "", "next");
        cleanup.edits = vec!["+Date: today".into()];
        cleanup.micros = 1234;
        cleanup.version = "v3:1a2b3c4d".into();
        cleanup.log = vec!["bell \x07".into()];
        let mut aliases = TraceEntry::server_step(at, "aliases", "on-resolve", "b@y.example", "not-mine");
        aliases.calls = 3;
        aliases.fault = Some("trap: unreachable".into());
        aliases.shadow = true;
        let records = vec![record("intake", vec![cleanup, aliases]), record("delivery", Vec::new())];
        let mut out = Vec::new();
        print(ControlResponse::Trace { records }, false, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0000000000001  from <a@x.example> to <b@y.example>, 4.1 KB\n\
             2027-01-15 08:00:00.123Z intake from 192.0.2.1:4711: 250 2.0.0 Ok\n    \
               1.2 ms  on-cleanup  cleanup  v3:1a2b3c4d  next\n              \
                         +Date: today\n              \
                         log: bell \u{fffd}\n      \
                 0 µs  on-resolve  aliases               not-mine (b@y.example) ×3 [shadow]\n              \
                         fault: trap: unreachable\n\
             2027-01-15 08:00:00.123Z delivery to 192.0.2.1:4711: 250 2.0.0 Ok\n"
        );
    }

    #[test]
    fn json_is_one_record_for_each_line_as_the_server_gave_it() {
        let records = vec![record("intake", Vec::new()), serde_json::json!({ "new": "field" })];
        let mut out = Vec::new();
        print(ControlResponse::Trace { records: records.clone() }, true, &mut out).unwrap();
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines, records);
    }
}
