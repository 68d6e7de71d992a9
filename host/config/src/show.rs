//! Effective values, for `config show`.

use serde_json::{Map, json};
use toml::Value;

use crate::Config;

/// Replacement for a secret value.
const REDACTED: &str = "(redacted)";
/// Parts of key names that mark a secret value.
const SECRET_KEY_PARTS: &[&str] = &["password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "credential"];

/// Selection of the keys to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// All keys, with defaults marked.
    All,
    /// Only keys set in the file.
    Explicit,
}

impl Config {
    /// Returns the effective values as TOML. The text can be loaded again, except for redacted secrets. Default
    /// values carry the comment `# default`.
    #[must_use]
    pub fn show_toml(&self, shown: Visibility) -> String {
        let mut out = String::new();
        let mut tables = Vec::new();
        for (name, value) in self.redacted_entries() {
            match value {
                Value::Table(_) => tables.push((name.to_owned(), value)),
                Value::Array(ref list) if name == "listen" => {
                    tables.extend(list.iter().map(|item| ("[listen]".to_owned(), item.clone())));
                }
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => {
                    self.write_key_line(&mut out, "", name, &value, shown);
                }
            }
        }
        for (name, value) in tables {
            self.write_table(&mut out, &name, &value, shown);
        }
        out
    }

    /// Returns the effective values as JSON: for each key `{"value": …, "default": true|false}`.
    #[must_use]
    pub fn show_json(&self, shown: Visibility) -> serde_json::Value {
        let wanted = |name: &str| shown == Visibility::All || self.is_explicit(name);
        let entry = |(name, value): (&str, Value)| {
            (name.to_owned(), json!({ "value": to_json(&value), "default": !self.is_explicit(name) }))
        };
        self.redacted_entries().into_iter().filter(|(name, _)| wanted(name)).map(entry).collect::<Map<_, _>>().into()
    }

    /// Returns every key with a value, secrets redacted.
    fn redacted_entries(&self) -> Vec<(&'static str, Value)> {
        let entries = self.entries().into_iter();
        entries.filter_map(|(key, value)| Some((key.name, redact(key.name, value?)))).collect()
    }

    fn write_table(&self, out: &mut String, path: &str, value: &Value, shown: Visibility) {
        let Value::Table(table) = value else { return };
        let is_listen = path == "[listen]";
        let own = if is_listen { "listen" } else { path };
        if shown == Visibility::Explicit && !self.is_explicit(own) {
            return;
        }
        // Only tables with fixed keys become TOML tables; a table with user-defined keys stays on a single line.
        let opened = |value: &Value| value.is_table() && (own == "plugins" || own.starts_with("plugins."));
        let (inner, lines): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| opened(value));
        if own != "plugins" {
            out.push_str(&format!("\n[{path}]\n"));
            for (name, value) in lines {
                let prefix = if is_listen { "listen" } else { own };
                self.write_key_line(out, prefix, name, value, shown);
            }
        }
        for (name, value) in inner {
            self.write_table(out, &crate::reader::join_path(own, name), value, shown);
        }
    }

    fn write_key_line(&self, out: &mut String, table: &str, name: &str, value: &Value, shown: Visibility) {
        let path = crate::reader::join_path(table, name);
        let given = if table == "listen" { self.is_explicit("listen") } else { self.is_explicit(&path) };
        if shown == Visibility::Explicit && !given && !is_in_explicit_table(self, table) {
            return;
        }
        let mark = if given { "" } else { "  # default" };
        out.push_str(&format!("{} = {value}{mark}\n", quote_key(name)));
    }
}

/// Returns whether an inline table with user-defined keys (`transport_maps`, `tables`) is set in the file. Keys
/// inside such a table have no span of their own.
fn is_in_explicit_table(config: &Config, table: &str) -> bool {
    matches!(table, "transport_maps" | "tables") && config.is_explicit(table)
}

fn quote_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { Value::String(name.to_owned()).to_string() }
}

fn redact(name: &str, value: Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(table.into_iter().map(|(key, value)| (key.clone(), redact(&key, value))).collect()),
        Value::Array(list) => Value::Array(list.into_iter().map(|item| redact(name, item)).collect()),
        Value::Boolean(_) => value,
        _ if is_secret(name) => Value::String(REDACTED.to_owned()),
        Value::String(text) => Value::String(redact_url(&text)),
        other @ (Value::Integer(_) | Value::Float(_) | Value::Datetime(_)) => other,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    // Parameters of the password hash are not secret.
    !name.starts_with("password_argon2_") && SECRET_KEY_PARTS.iter().any(|word| name.contains(word))
}

/// Redacts the password of a URL `scheme://user:password@host`.
fn redact_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.get(..rest.find('/').unwrap_or(rest.len())).unwrap_or(rest);
    match authority.rfind('@').and_then(|at| authority.get(..at)).and_then(|user| user.split_once(':')) {
        Some((user, password)) => text.replacen(&format!("{user}:{password}@"), &format!("{user}:{REDACTED}@"), 1),
        None => format!("{scheme}://{rest}"),
    }
}

fn to_json(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}
