//! Commands `waxwing plugin list`, `reload`, `rollback` and `promote`, and `waxwing metrics`.

use std::io::Write;

use waxwing_control::{ControlRequest, ControlResponse, PluginChange, PluginStatus};

use crate::formatting::{format_count, format_micros, format_time, sanitize, sanitize_lines};
use crate::queue::print_json;
use crate::{ControlClient, ToolError};

/// Lists the loaded plugins with all hooks.
pub(crate) fn list(client: &mut ControlClient, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let ControlResponse::Plugins { plugins } = client.request(&ControlRequest::PluginList)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    if json {
        return plugins.iter().try_for_each(|plugin| print_json(plugin, out));
    }
    if plugins.is_empty() {
        return Ok(writeln!(out, "No plugin is loaded.")?);
    }
    print(&plugins, out)
}

/// Prints all counters in the text format of Prometheus.
pub(crate) fn metrics(client: &mut ControlClient, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let ControlResponse::Metrics { text } = client.request(&ControlRequest::Metrics)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    match json {
        true => print_json(&serde_json::json!({ "text": text }), out),
        false => Ok(write!(out, "{}", sanitize_lines(&text))?),
    }
}

/// Requests a change of plugin versions and prints the result. A failed change is an error.
pub(crate) fn request_change(
    client: &mut ControlClient,
    request: &ControlRequest,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let ControlResponse::PluginChanges { changes } = client.request(request)? else { return Err(ToolError::UnexpectedResponse) };
    if json {
        changes.iter().try_for_each(|change| print_json(change, out))?;
    } else if changes.is_empty() {
        writeln!(out, "No plugin is loaded from a file.")?;
    } else {
        changes.iter().filter(|change| !change.is_failed()).try_for_each(|change| print_change(change, out))?;
    }
    let failed: Vec<String> = changes.iter().filter(|change| change.is_failed()).map(failure_text).collect();
    if failed.is_empty() { Ok(()) } else { Err(ToolError::NotChanged(failed.join("\n"))) }
}

pub(crate) fn print_change(change: &PluginChange, out: &mut dyn Write) -> Result<(), ToolError> {
    let (name, word, version) = (sanitize(&change.name), sanitize(&change.change), sanitize(&change.version));
    match change.before == change.version {
        true => writeln!(out, "{name}: {word}, {version} is in service")?,
        false => writeln!(out, "{name}: {word}, {version} is in service, before it {}", sanitize(&change.before))?,
    }
    if let Some(note) = &change.note {
        writeln!(out, "  {}", sanitize(note))?;
    }
    Ok(())
}

fn failure_text(change: &PluginChange) -> String {
    let why = change.note.as_deref().unwrap_or("it failed");
    format!("{}: {} stays in service: {}", sanitize(&change.name), sanitize(&change.version), sanitize(why))
}

fn print(plugins: &[PluginStatus], out: &mut dyn Write) -> Result<(), ToolError> {
    for plugin in plugins {
        let (name, version) = (sanitize(&plugin.name), sanitize(&plugin.version));
        let (mode, on_fault, breaker) = (sanitize(&plugin.mode), sanitize(&plugin.on_fault), sanitize(&plugin.breaker));
        let canary = plugin.canary.map_or_else(String::new, |percent| format!("canary {percent} %, "));
        writeln!(out, "{name} {version}  {canary}mode {mode}, on_fault {on_fault}, breaker {breaker}")?;
        let previous =
            plugin.previous.as_deref().map_or_else(String::new, |previous| format!(", before it {}", sanitize(previous)));
        writeln!(
            out,
            "  loaded {}{previous}, {}",
            format_time(plugin.loaded_at),
            format_count(u64::from(plugin.instances), "instance")
        )?;
        if let Some(error) = &plugin.last_error {
            writeln!(out, "  not reloaded: {}", sanitize(error))?;
        }
        for hook in &plugin.hooks {
            let mean = hook.micros.checked_div(hook.calls).map_or("-".to_owned(), format_micros);
            write!(out, "  {:<18} {:>10} calls  {:>6} faults  {mean:>8} each", sanitize(&hook.hook), hook.calls, hook.faults)?;
            match plugin.mode == "shadow" {
                true => writeln!(out, "  {:>6} agreed  {:>6} differed", hook.agreed, hook.differed)?,
                false => writeln!(out)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waxwing_control::HookStatus;
    use waxwing_types::Timestamp;

    use super::*;

    fn shown(mode: &str, canary: Option<u8>, hooks: Vec<HookStatus>) -> PluginStatus {
        PluginStatus {
            name: "cleanup".into(),
            version: "v2:1a2b3c4d".into(),
            loaded_at: Timestamp::from_millis(1_800_000_000_000),
            canary,
            previous: None,
            last_error: None,
            instances: 1,
            mode: mode.into(),
            on_fault: "defer".into(),
            breaker: "half-open".into(),
            hooks,
        }
    }

    fn hook(name: &str, calls: u64, faults: u64, micros: u64) -> HookStatus {
        HookStatus { hook: name.into(), calls, faults, micros, agreed: 2, differed: 1 }
    }

    #[test]
    fn a_hook_that_never_ran_is_shown() {
        let mut plugin = shown("enforce", None, vec![hook("on-cleanup", 1000, 1, 4500), hook("on-rewrite-address", 0, 0, 0)]);
        plugin.previous = Some("v1:5e6f7a8b".into());
        plugin.last_error = Some("no\x07 component".into());
        let mut out = Vec::new();
        print(&[plugin], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "cleanup v2:1a2b3c4d  mode enforce, on_fault defer, breaker half-open\n  \
               loaded 2027-01-15 08:00:00Z, before it v1:5e6f7a8b, 1 instance\n  \
               not reloaded: no\u{fffd} component\n  \
               on-cleanup               1000 calls       1 faults      4 µs each\n  \
               on-rewrite-address          0 calls       0 faults         - each\n"
        );
    }

    #[test]
    fn a_canary_and_a_shadow_say_so() {
        let mut out = Vec::new();
        print(&[shown("shadow", Some(10), vec![hook("on-mail", 3, 0, 3)])], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("cleanup v2:1a2b3c4d  canary 10 %, mode shadow,"), "{text}");
        assert!(text.ends_with("each       2 agreed       1 differed\n"), "{text}");
    }

    #[test]
    fn a_change_that_failed_is_an_error_and_the_others_are_told() {
        let change = |name: &str, word: &str, before: &str, note: Option<&str>| PluginChange {
            name: name.into(),
            change: word.into(),
            before: before.into(),
            version: "v2:b".into(),
            note: note.map(Into::into),
        };
        let changes = vec![change("a", "reloaded", "v1:a", None), change("b", "failed", "v2:b", Some("no component"))];
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        let server = crate::control_client::tests::serve(&socket, vec![ControlResponse::PluginChanges { changes }]);
        let mut out = Vec::new();
        let request = ControlRequest::PluginReload { name: None };
        let error = change_at(&socket, &request, &mut out).unwrap_err();
        assert_eq!(error.to_string(), "b: v2:b stays in service: no component");
        assert_eq!(String::from_utf8(out).unwrap(), "a: reloaded, v2:b is in service, before it v1:a\n");
        assert_eq!(server.join().unwrap(), [request]);
    }

    fn change_at(socket: &std::path::Path, request: &ControlRequest, out: &mut dyn Write) -> Result<(), ToolError> {
        super::request_change(&mut ControlClient::connect(socket)?, request, false, out)
    }
}
