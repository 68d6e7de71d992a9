//! Generator of `config/reference.toml`: all keys with defaults, units and descriptions.

use std::path::Path;

use crate::config::KEY_GROUPS;
use crate::plugin::{CanaryConfig, ConditionsConfig, GrantsConfig, LimitsConfig, PLUGIN_KEYS};
use crate::section::{KeyInfo, Keys};
use crate::server_tables::{ControlConfig, DnsConfig, ListenerConfig, LogConfig, RecordingConfig, RuntimeConfig, TraceConfig};
use crate::{Config, HostEnvironment};

const REFERENCE_INTRO: &str = "\
# Every key of Waxwing's configuration, with its default. Made from host/config/src; don't edit.
# `waxwing config check FILE` checks a file, `waxwing config show` prints the values in effect.
# Relative paths are taken from the directory of the file. Keys with Postfix names mean the same as in Postfix.
";

/// Returns the text of the reference.
#[must_use]
pub fn reference_toml() -> String {
    let facts = HostEnvironment { hostname: "mail.example.com".to_owned(), is_root: false, path_exists: |_: &Path| false };
    let mut out = REFERENCE_INTRO.to_owned();
    let Ok(defaults) = Config::parse(Path::new("reference.toml"), "", &facts) else { return out };
    for (key, value) in defaults.entries() {
        if is_section(key.name) {
            continue;
        }
        write_key(&mut out, key, value);
    }
    let listen = defaults.listen.first().map(Keys::values).unwrap_or_default();
    write_section(&mut out, "[listen]", "listen", ListenerConfig::KEYS, listen);
    write_section(&mut out, "control", "control", ControlConfig::KEYS, defaults.control.values());
    write_section(&mut out, "dns", "dns", DnsConfig::KEYS, defaults.dns.values());
    write_section(&mut out, "log", "log", LogConfig::KEYS, defaults.log.values());
    write_section(&mut out, "runtime", "runtime", RuntimeConfig::KEYS, defaults.runtime.values());
    write_section(&mut out, "trace", "trace", TraceConfig::KEYS, defaults.trace.values());
    write_section(&mut out, "recording", "recording", RecordingConfig::KEYS, defaults.recording.values());
    write_section(&mut out, "tables", "tables", &[], Vec::new());
    let example = "[plugins.example]\nfile = \"example.wasm\"\ncanary = { file = \"example-new.wasm\" }\n";
    let exists = HostEnvironment { path_exists: |_: &Path| true, ..facts };
    let Ok(with_plugin) = Config::parse(Path::new("reference.toml"), example, &exists) else { return out };
    for plugin in with_plugin.plugins.iter().filter(|plugin| plugin.name == "example") {
        let tables = ["canary", "when", "limits", "grants", "config"];
        let own = PLUGIN_KEYS.iter().zip(plugin.values()).filter(|(key, _)| !tables.contains(&key.name));
        let (keys, values): (Vec<&KeyInfo>, Vec<_>) = own.unzip();
        write_heading(&mut out, "plugins.example", "plugins");
        for (key, value) in keys.into_iter().zip(values) {
            write_key(&mut out, key, value);
        }
        let canary = plugin.canary.as_ref().map(Keys::values).unwrap_or_default();
        write_section(&mut out, "plugins.example.canary", "canary", CanaryConfig::KEYS, canary);
        write_section(&mut out, "plugins.example.when", "when", ConditionsConfig::KEYS, plugin.when.values());
        write_section(&mut out, "plugins.example.limits", "limits", LimitsConfig::KEYS, plugin.limits.values());
        write_section(&mut out, "plugins.example.grants", "grants", GrantsConfig::KEYS, plugin.grants.values());
        write_heading(&mut out, "plugins.example.config", "config");
    }
    out
}

fn is_section(name: &str) -> bool {
    matches!(name, "listen" | "control" | "dns" | "log" | "runtime" | "trace" | "recording" | "tables" | "plugins")
}

fn write_section(out: &mut String, path: &str, key: &str, keys: &[KeyInfo], values: Vec<Option<toml::Value>>) {
    write_heading(out, path, key);
    for (key, value) in keys.iter().zip(values) {
        write_key(out, key, value);
    }
}

/// Writes the heading of a table with the description of the key.
fn write_heading(out: &mut String, path: &str, key: &str) {
    let meaning =
        KEY_GROUPS.iter().copied().flatten().chain(PLUGIN_KEYS).find(|k| k.name == key).map_or("", |k| k.meaning.trim());
    out.push_str(&format!("\n# ---- {meaning}\n#[{path}]\n"));
}

/// Writes three lines for a key: description, syntax and default.
fn write_key(out: &mut String, key: &KeyInfo, value: Option<toml::Value>) {
    out.push_str(&format!("\n# {}\n# {}", key.meaning.trim(), key.form));
    match (key.derived, value) {
        (Some(words), _) => out.push_str(&format!("; default: {words}\n#{} =\n", key.name)),
        (None, Some(value)) => out.push_str(&format!("\n#{} = {value}\n", key.name)),
        (None, None) => out.push_str(&format!("; not set by default\n#{} =\n", key.name)),
    }
}
