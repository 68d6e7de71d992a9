//! Generator of `config/reference.toml`: all keys with defaults, units and descriptions.

use std::path::Path;

use crate::plugin::{Canary, Grants, Limits, PLUGIN_KEYS, When};
use crate::section::{Key, Section};
use crate::sections::{Control, Dns, Listen, Log, Recording, Runtime, Trace};
use crate::{Config, Facts};

const HEAD: &str = "\
# Every key of Waxwing's configuration, with its default. Made from host/config/src; don't edit.
# `waxwing config check FILE` checks a file, `waxwing config show` prints the values in effect.
# Relative paths are taken from the directory of the file. Keys with Postfix names mean the same as in Postfix.
";

/// Returns the text of the reference.
#[must_use]
pub fn reference() -> String {
    let facts = Facts { hostname: "mail.example.com".to_owned(), root: false, exists: |_: &Path| false };
    let mut out = HEAD.to_owned();
    let Ok(defaults) = Config::parse(Path::new("reference.toml"), "", &facts) else { return out };
    for (key, value) in Config::KEYS.iter().zip(defaults.values()) {
        if is_section(key.name) {
            continue;
        }
        describe(&mut out, key, value);
    }
    let listen = defaults.listen.first().map(Section::values).unwrap_or_default();
    section(&mut out, "[listen]", "listen", Listen::KEYS, listen);
    section(&mut out, "control", "control", Control::KEYS, defaults.control.values());
    section(&mut out, "dns", "dns", Dns::KEYS, defaults.dns.values());
    section(&mut out, "log", "log", Log::KEYS, defaults.log.values());
    section(&mut out, "runtime", "runtime", Runtime::KEYS, defaults.runtime.values());
    section(&mut out, "trace", "trace", Trace::KEYS, defaults.trace.values());
    section(&mut out, "recording", "recording", Recording::KEYS, defaults.recording.values());
    section(&mut out, "tables", "tables", &[], Vec::new());
    let example = "[plugins.example]\nfile = \"example.wasm\"\ncanary = { file = \"example-new.wasm\" }\n";
    let exists = Facts { exists: |_: &Path| true, ..facts };
    let Ok(with_plugin) = Config::parse(Path::new("reference.toml"), example, &exists) else { return out };
    for plugin in with_plugin.plugins.iter().filter(|plugin| plugin.name == "example") {
        let tables = ["canary", "when", "limits", "grants", "config"];
        let own = PLUGIN_KEYS.iter().zip(plugin.values()).filter(|(key, _)| !tables.contains(&key.name));
        let (keys, values): (Vec<&Key>, Vec<_>) = own.unzip();
        heading(&mut out, "plugins.example", "plugins");
        for (key, value) in keys.into_iter().zip(values) {
            describe(&mut out, key, value);
        }
        let canary = plugin.canary.as_ref().map(Section::values).unwrap_or_default();
        section(&mut out, "plugins.example.canary", "canary", Canary::KEYS, canary);
        section(&mut out, "plugins.example.when", "when", When::KEYS, plugin.when.values());
        section(&mut out, "plugins.example.limits", "limits", Limits::KEYS, plugin.limits.values());
        section(&mut out, "plugins.example.grants", "grants", Grants::KEYS, plugin.grants.values());
        heading(&mut out, "plugins.example.config", "config");
    }
    out
}

fn is_section(name: &str) -> bool {
    matches!(name, "listen" | "control" | "dns" | "log" | "runtime" | "trace" | "recording" | "tables" | "plugins")
}

fn section(out: &mut String, path: &str, key: &str, keys: &[Key], values: Vec<Option<toml::Value>>) {
    heading(out, path, key);
    for (key, value) in keys.iter().zip(values) {
        describe(out, key, value);
    }
}

/// Writes the heading of a table with the description of the key.
fn heading(out: &mut String, path: &str, key: &str) {
    let meaning = Config::KEYS.iter().chain(PLUGIN_KEYS).find(|k| k.name == key).map_or("", |k| k.meaning.trim());
    out.push_str(&format!("\n# ---- {meaning}\n#[{path}]\n"));
}

/// Writes three lines for a key: description, syntax and default.
fn describe(out: &mut String, key: &Key, value: Option<toml::Value>) {
    out.push_str(&format!("\n# {}\n# {}", key.meaning.trim(), key.form));
    match (key.derived, value) {
        (Some(words), _) => out.push_str(&format!("; default: {words}\n#{} =\n", key.name)),
        (None, Some(value)) => out.push_str(&format!("\n#{} = {value}\n", key.name)),
        (None, None) => out.push_str(&format!("; not set by default\n#{} =\n", key.name)),
    }
}
