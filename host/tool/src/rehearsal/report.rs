//! What was seen of a transaction, as JSON with keys that stay and as a person reads it.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use waxwing_pipeline::TraceEntry;

use super::differences::{header_lines, split};
use super::{Ending, Performance, Scene};
use crate::ToolError;
use crate::text::{clean, micros, path};
use crate::trace::print_entries;

/// The report as JSON. Its keys are described in `docs/plugin-commands.md`.
pub(crate) fn as_json(plugin: &str, scene: &Scene, seen: &Performance) -> Result<Value, ToolError> {
    let recipients: Vec<&String> = scene.recipients.iter().map(|(address, _)| address).collect();
    let mut report = json!({
        "plugin": plugin,
        "verdict": seen.ending,
        "stage": seen.stage,
        "reply": seen.reply,
        "dialogue": seen.dialogue,
        "hooks": seen.entries.iter().map(entry_json).collect::<Vec<_>>(),
        "cost": seen.costs,
        "micros": seen.entries.iter().map(|entry| entry.micros).sum::<u64>(),
        "sender": { "before": scene.sender },
        "recipients": { "before": recipients },
        "header": null,
        "body": null,
        "tags": null,
        "hold": null,
    });
    if let (Some(queued), Some(content), Some(map)) = (&seen.queued, &scene.content, report.as_object_mut()) {
        let (head, body) = split(content);
        let lines = header_lines(&head, &split(&queued.head).0);
        map.insert("header".to_owned(), json!(lines));
        let changed = body != queued.body;
        map.insert("body".to_owned(), json!({ "before": body.len(), "after": queued.body.len(), "changed": changed }));
        map.insert("sender".to_owned(), json!({ "before": scene.sender, "after": queued.sender }));
        map.insert("recipients".to_owned(), json!({ "before": recipients, "after": queued.recipients }));
        map.insert("tags".to_owned(), json!(queued.tags));
        map.insert("hold".to_owned(), json!(queued.hold));
    }
    Ok(report)
}

fn entry_json(entry: &TraceEntry) -> Value {
    json!({
        "plugin": entry.who,
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

/// As a person reads it.
pub(crate) fn print(plugin: &str, scene: &Scene, seen: &Performance, out: &mut dyn Write) -> Result<(), ToolError> {
    let time: u64 = seen.entries.iter().filter(|entry| *entry.who == *plugin).map(|entry| entry.micros).sum();
    let at = if seen.stage == "." { "the end of the message".to_owned() } else { seen.stage.clone() };
    writeln!(out, "{}: {} at {at}: {}", clean(plugin), seen.ending.as_str(), clean(&seen.reply))?;
    writeln!(out, "  {} in the plugin", micros(time))?;
    writeln!(out, "\nWhat the client said and heard:")?;
    let width = seen.dialogue.iter().map(|e| e.command.chars().count()).max().unwrap_or(0);
    for exchange in &seen.dialogue {
        writeln!(out, "  {:<width$}  {}", clean(&exchange.command), clean(&exchange.reply))?;
    }
    writeln!(out, "\nWhat the plugins did:")?;
    if seen.entries.is_empty() {
        writeln!(out, "  nothing: none was called")?;
    }
    print_entries(&seen.entries, out)?;
    print_changes(scene, seen, out)?;
    print_costs(seen, out)
}

fn print_changes(scene: &Scene, seen: &Performance, out: &mut dyn Write) -> Result<(), ToolError> {
    let (Some(queued), Some(content)) = (&seen.queued, &scene.content) else {
        return match seen.ending {
            Ending::Accept | Ending::Hold => Ok(()),
            Ending::Reject | Ending::Defer | Ending::Disconnect | Ending::Discard | Ending::Open => {
                Ok(writeln!(out, "\nNo message is in the queue, so there is nothing that changed.")?)
            }
        };
    };
    writeln!(out, "\nWhat changed, beside this server's Received:")?;
    let (head, body) = split(content);
    let mut lines: Vec<String> = header_lines(&head, &split(&queued.head).0);
    if body != queued.body {
        lines.push(format!("~ body: {} octets became {}", body.len(), queued.body.len()));
    }
    if scene.sender != queued.sender {
        lines.push(format!("~ sender: {} became {}", path(&scene.sender), path(&queued.sender)));
    }
    let before: Vec<&String> = scene.recipients.iter().map(|(address, _)| address).collect();
    lines.extend(before.iter().filter(|a| !queued.recipients.contains(a)).map(|a| format!("- recipient {}", path(a))));
    lines.extend(queued.recipients.iter().filter(|a| !before.contains(a)).map(|a| format!("+ recipient {}", path(a))));
    lines.extend(queued.tags.iter().map(|(k, v)| format!("+ tag {k} = {v}")));
    lines.extend(queued.hold.iter().map(|reason| format!("! held: {reason}")));
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    lines.iter().try_for_each(|line| Ok(writeln!(out, "  {}", clean(line))?))
}

fn print_costs(seen: &Performance, out: &mut dyn Write) -> Result<(), ToolError> {
    if seen.costs.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWhat it cost (fuel: about one for each WebAssembly instruction):")?;
    for cost in &seen.costs {
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
            clean(&cost.plugin),
            cost.fuel,
            cost.memory_bytes >> 10
        )?;
    }
    Ok(())
}
