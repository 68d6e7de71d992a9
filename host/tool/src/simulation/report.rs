//! Report of a simulated transaction, as JSON with stable keys and as text.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use waxwing_message::HeaderBlock;
use waxwing_pipeline::TraceEntry;

use super::header_diff::header_diff;
use super::{TestCase, TestResult, TransactionOutcome};
use crate::ToolError;
use crate::formatting::{format_micros, format_path, sanitize};
use crate::trace::print_entries;

/// Builds the JSON report, with the keys described in `docs/plugin-commands.md`.
pub(crate) fn as_json(plugin: &str, test_case: &TestCase, result: &TestResult) -> Result<Value, ToolError> {
    let recipients: Vec<&String> = test_case.recipients.iter().map(|(address, _)| address).collect();
    let mut report = json!({
        "plugin": plugin,
        "verdict": result.outcome,
        "stage": result.stage,
        "reply": result.reply,
        "dialogue": result.dialogue,
        "hooks": result.trace.iter().map(entry_json).collect::<Vec<_>>(),
        "cost": result.costs,
        "micros": result.trace.iter().map(|entry| entry.micros).sum::<u64>(),
        "sender": { "before": test_case.sender },
        "recipients": { "before": recipients },
        "header": null,
        "body": null,
        "tags": null,
        "hold": null,
    });
    if let (Some(queued), Some(content), Some(map)) = (&result.queued, &test_case.content, report.as_object_mut()) {
        let (head, body) = HeaderBlock::split(content.clone());
        let lines = header_diff(&head, &HeaderBlock::split(queued.header.clone()).0);
        map.insert("header".to_owned(), json!(lines));
        let changed = body != queued.body;
        map.insert("body".to_owned(), json!({ "before": body.len(), "after": queued.body.len(), "changed": changed }));
        map.insert("sender".to_owned(), json!({ "before": test_case.sender, "after": queued.sender }));
        map.insert("recipients".to_owned(), json!({ "before": recipients, "after": queued.recipients }));
        map.insert("tags".to_owned(), json!(queued.tags));
        map.insert("hold".to_owned(), json!(queued.hold));
    }
    Ok(report)
}

fn entry_json(entry: &TraceEntry) -> Value {
    json!({
        "plugin": entry.actor,
        "hook": entry.step,
        "subject": entry.subject,
        "result": entry.result,
        "edits": entry.edits,
        "calls": entry.calls,
        "micros": entry.micros,
        "fault": entry.fault,
        "log": entry.log,
        "shadow": entry.shadow,
    })
}

/// Prints the report as text.
pub(crate) fn print(plugin: &str, test_case: &TestCase, result: &TestResult, out: &mut dyn Write) -> Result<(), ToolError> {
    let time: u64 = result.trace.iter().filter(|entry| *entry.actor == *plugin).map(|entry| entry.micros).sum();
    let at = if result.stage == "." { "the end of the message".to_owned() } else { result.stage.clone() };
    writeln!(out, "{}: {} at {at}: {}", sanitize(plugin), result.outcome.as_str(), sanitize(&result.reply))?;
    writeln!(out, "  {} in the plugin", format_micros(time))?;
    writeln!(out, "\nSMTP dialogue:")?;
    let width = result.dialogue.iter().map(|e| e.command.chars().count()).max().unwrap_or(0);
    for command in &result.dialogue {
        writeln!(out, "  {:<width$}  {}", sanitize(&command.command), sanitize(&command.reply))?;
    }
    writeln!(out, "\nCalls of plugins:")?;
    if result.trace.is_empty() {
        writeln!(out, "  nothing: none was called")?;
    }
    print_entries(&result.trace, out)?;
    print_changes(test_case, result, out)?;
    print_costs(result, out)
}

fn print_changes(test_case: &TestCase, result: &TestResult, out: &mut dyn Write) -> Result<(), ToolError> {
    let (Some(queued), Some(content)) = (&result.queued, &test_case.content) else {
        return match result.outcome {
            TransactionOutcome::Accept | TransactionOutcome::Hold => Ok(()),
            TransactionOutcome::Reject
            | TransactionOutcome::Defer
            | TransactionOutcome::Disconnect
            | TransactionOutcome::Discard
            | TransactionOutcome::Open => Ok(writeln!(out, "\nNo message was queued.")?),
        };
    };
    writeln!(out, "\nChanges, without this server's Received:")?;
    let (head, body) = HeaderBlock::split(content.clone());
    let mut lines: Vec<String> = header_diff(&head, &HeaderBlock::split(queued.header.clone()).0);
    if body != queued.body {
        lines.push(format!("~ body: {} octets became {}", body.len(), queued.body.len()));
    }
    if test_case.sender != queued.sender {
        lines.push(format!("~ sender: {} became {}", format_path(&test_case.sender), format_path(&queued.sender)));
    }
    let before: Vec<&String> = test_case.recipients.iter().map(|(address, _)| address).collect();
    lines.extend(before.iter().filter(|a| !queued.recipients.contains(a)).map(|a| format!("- recipient {}", format_path(a))));
    lines.extend(queued.recipients.iter().filter(|a| !before.contains(a)).map(|a| format!("+ recipient {}", format_path(a))));
    lines.extend(queued.tags.iter().map(|(k, v)| format!("+ tag {k} = {v}")));
    lines.extend(queued.hold.iter().map(|reason| format!("! held: {reason}")));
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    lines.iter().try_for_each(|line| Ok(writeln!(out, "  {}", sanitize(line))?))
}

fn print_costs(result: &TestResult, out: &mut dyn Write) -> Result<(), ToolError> {
    if result.costs.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nCost (fuel: about one unit for each WebAssembly instruction):")?;
    for cost in &result.costs {
        let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
        for (function, count) in &cost.host_calls {
            *calls.entry(function).or_default() += count;
        }
        let host: Vec<String> = calls.iter().map(|(function, count)| format!("{function} ×{count}")).collect();
        let host = if host.is_empty() { "no host calls".to_owned() } else { host.join(", ") };
        writeln!(
            out,
            "  {:<20}  {}  {} fuel, {} KiB, {host}",
            cost.hook,
            sanitize(&cost.plugin),
            cost.fuel,
            cost.memory_bytes >> 10
        )?;
    }
    Ok(())
}
