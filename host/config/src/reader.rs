//! Traversal of the parsed TOML tree: records the spans of keys and collects diagnostics.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::HostEnvironment;
use crate::diagnostic::{Diagnostic, Position};
use crate::postfix_hints::{POSTFIX_HINTS, postfix_hint};
use crate::suggestion::closest_match;
use crate::value::ValueType;

/// Spans of a key and a value, as byte offsets in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KeySpan {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Spans of all keys in the file, by path: `smtpd_timeout`, `listen[0].address`, `plugins.spam.limits.time`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KeySpans {
    pub(crate) file: Arc<str>,
    pub(crate) text: Arc<str>,
    by_path: BTreeMap<String, KeySpan>,
}

impl KeySpans {
    pub(crate) fn get(&self, path: &str) -> Option<&KeySpan> {
        self.by_path.get(path)
    }

    /// Returns the span of `path`, or of the nearest enclosing table, or the start of the file.
    pub(crate) fn enclosing_span(&self, path: &str) -> Range<usize> {
        if let Some(place) = self.by_path.get(path) {
            return place.value.clone();
        }
        let mut path = path;
        while let Some(end) = path.rfind(['.', '[']) {
            path = path.get(..end).unwrap_or("");
            if let Some(place) = self.by_path.get(path) {
                return place.key.clone();
            }
        }
        0..0
    }

    pub(crate) fn position(&self, path: &str) -> Position {
        Position::at_offset(&self.file, &self.text, self.enclosing_span(path).start)
    }
}

/// A value of the TOML tree.
pub(crate) struct ValueNode<'n> {
    pub(crate) path: String,
    pub(crate) value: &'n DeValue<'n>,
    pub(crate) span: Range<usize>,
}

/// State of reading a file: key spans and diagnostics so far.
pub(crate) struct ConfigReader<'f> {
    pub(crate) environment: &'f HostEnvironment,
    pub(crate) key_spans: KeySpans,
    diagnostics: Vec<Diagnostic>,
    base_dir: PathBuf,
}

impl<'f> ConfigReader<'f> {
    /// Creates a reader. Diagnostics name `file`; relative paths in the file start at the directory of `file`.
    pub(crate) fn new(file: &Path, text: &str, facts: &'f HostEnvironment) -> Self {
        let places = KeySpans { file: file.display().to_string().into(), text: text.into(), by_path: BTreeMap::new() };
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        Self { environment: facts, key_spans: places, diagnostics: Vec::new(), base_dir: base }
    }

    pub(crate) fn error(&mut self, span: Range<usize>, message: impl Into<String>, advice: impl Into<Option<String>>) {
        let position = Position::at_offset(&self.key_spans.file, &self.key_spans.text, span.start);
        self.diagnostics.push(Diagnostic { position, message: message.into(), advice: advice.into(), span });
    }

    /// Reports an error at the value with the given path.
    pub(crate) fn error_at(&mut self, path: &str, message: impl Into<String>, advice: impl Into<Option<String>>) {
        let span = self.key_spans.enclosing_span(path);
        self.error(span, message, advice);
    }

    /// Reports an error at the key with the given path.
    pub(crate) fn error_at_key(&mut self, path: &str, message: impl Into<String>, advice: impl Into<Option<String>>) {
        let span = self.key_spans.get(path).map_or_else(|| self.key_spans.enclosing_span(path), |place| place.key.clone());
        self.error(span, message, advice);
    }

    /// Reports a value of the wrong type.
    pub(crate) fn type_error(&mut self, node: &ValueNode<'_>, wanted: &str) {
        let found = match node.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.error(node.span.clone(), format!("{} is {found}", last_key(&node.path)), format!("write {wanted}"));
    }

    pub(crate) fn finish(self) -> (KeySpans, Vec<Diagnostic>) {
        (self.key_spans, self.diagnostics)
    }

    pub(crate) fn resolve_path(&self, path: &str) -> PathBuf {
        self.base_dir.join(path)
    }

    /// Opens a table: records the spans of all keys, and reports keys not listed in `known`.
    pub(crate) fn open_table<'n>(&mut self, path: &str, table: &'n DeTable<'n>, known: &[&str]) -> TableReader<'n> {
        for (key, value) in table {
            let name: &str = key.get_ref();
            self.record_span(&join_path(path, name), key.span(), value.span());
            if !known.contains(&name) {
                let advice = unknown_key_advice(path, name, known);
                self.error(key.span(), format!("unknown key \"{name}\""), advice);
            }
        }
        TableReader { path: path.to_owned(), table }
    }

    pub(crate) fn record_span(&mut self, path: &str, key: Range<usize>, value: Range<usize>) {
        self.key_spans.by_path.insert(path.to_owned(), KeySpan { key, value });
    }
}

fn unknown_key_advice(path: &str, name: &str, known: &[&str]) -> Option<String> {
    if path.is_empty() && POSTFIX_HINTS.iter().any(|(postfix, _)| *postfix == name) {
        return postfix_hint(name).map(str::to_owned);
    }
    match closest_match(name, known.iter().copied()) {
        Some(near) => Some(format!("did you mean \"{near}\"?")),
        None if path.is_empty() => Some("config/reference.toml lists every key".to_owned()),
        None => Some(format!("[{path}] has the keys {}", known.join(", "))),
    }
}

/// An open table, for reading single keys.
pub(crate) struct TableReader<'n> {
    path: String,
    table: &'n DeTable<'n>,
}

impl<'n> TableReader<'n> {
    /// Returns the last component of the table's path, such as a plugin's name.
    pub(crate) fn name(&self) -> &str {
        last_key(&self.path)
    }

    /// Returns the second last component of the table's path, such as the plugin of a limits table.
    pub(crate) fn parent(&self) -> &str {
        self.path.rsplit('.').nth(1).unwrap_or_default()
    }

    /// Reads the value of `key`; `None` if absent or invalid, after the error was reported.
    pub(crate) fn key<K: ValueType>(&self, key: &str, reader: &mut ConfigReader<'_>) -> Option<K::Value> {
        K::read(&self.node(key)?, reader)
    }

    fn node(&self, key: &str) -> Option<ValueNode<'n>> {
        let value: &Spanned<DeValue<'n>> = self.table.get(key)?;
        Some(ValueNode { path: join_path(&self.path, key), span: value.span(), value: value.get_ref() })
    }
}

pub(crate) fn join_path(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns the last component of a path: `plugins.spam.order` -> `order`.
pub(crate) fn last_key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
