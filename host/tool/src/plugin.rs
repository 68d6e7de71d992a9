//! `waxwing plugin list` and `waxwing metrics`.

use std::io::Write;

use waxwing_control::{PluginStatus, Request, Response};

use crate::queue::print_json;
use crate::text::{clean, clean_lines, micros};
use crate::{Client, ToolError};

/// Lists the bound plugins with every hook.
pub(crate) fn list(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let Response::Plugins { plugins } = client.ask(&Request::PluginList)? else { return Err(ToolError::OtherAnswer) };
    if json {
        return plugins.iter().try_for_each(|plugin| print_json(plugin, out));
    }
    if plugins.is_empty() {
        return Ok(writeln!(out, "No plugin is loaded.")?);
    }
    print(&plugins, out)
}

/// Prints all counters.
pub(crate) fn metrics(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let Response::Metrics { text } = client.ask(&Request::Metrics)? else { return Err(ToolError::OtherAnswer) };
    match json {
        true => print_json(&serde_json::json!({ "text": text }), out),
        false => Ok(write!(out, "{}", clean_lines(&text))?),
    }
}

fn print(plugins: &[PluginStatus], out: &mut dyn Write) -> Result<(), ToolError> {
    for plugin in plugins {
        let (name, version) = (clean(&plugin.name), clean(&plugin.version));
        let (mode, on_fault, breaker) = (clean(&plugin.mode), clean(&plugin.on_fault), clean(&plugin.breaker));
        writeln!(out, "{name} {version}  mode {mode}, on_fault {on_fault}, breaker {breaker}")?;
        for hook in &plugin.hooks {
            let mean = hook.micros.checked_div(hook.calls).map_or("-".to_owned(), micros);
            writeln!(out, "  {:<18} {:>10} calls  {:>6} faults  {mean:>8} each", clean(&hook.hook), hook.calls, hook.faults)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waxwing_control::HookStatus;

    use super::*;

    #[test]
    fn a_hook_that_never_ran_is_shown() {
        let hook = |name: &str, calls, faults, micros| HookStatus { hook: name.into(), calls, faults, micros };
        let plugin = PluginStatus {
            name: "cleanup".into(),
            version: "0.1.0".into(),
            mode: "enforce".into(),
            on_fault: "defer".into(),
            breaker: "half-open".into(),
            hooks: vec![hook("on-cleanup", 1000, 1, 4500), hook("on-rewrite-address", 0, 0, 0)],
        };
        let mut out = Vec::new();
        print(&[plugin], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "cleanup 0.1.0  mode enforce, on_fault defer, breaker half-open\n  \
               on-cleanup               1000 calls       1 faults      4 µs each\n  \
               on-rewrite-address          0 calls       0 faults         - each\n"
        );
    }
}
