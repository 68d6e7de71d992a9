//! Traversal of the parsed TOML tree: records the spans of keys and collects diagnostics.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Facts;
use crate::kind::Kind;
use crate::mistake::{Mistake, Position};
use crate::names::{POSTFIX_NAMES, advice_for};
use crate::nearest::nearest;

/// Spans of a key and a value, as byte offsets in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Spans of all keys in the file, by path: `smtpd_timeout`, `listen[0].address`, `plugins.spam.limits.time`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) file: Arc<str>,
    pub(crate) text: Arc<str>,
    map: BTreeMap<String, Place>,
}

impl Places {
    pub(crate) fn get(&self, path: &str) -> Option<&Place> {
        self.map.get(path)
    }

    /// Returns the span of `path`, or of the nearest enclosing table, or the start of the file.
    pub(crate) fn nearest(&self, path: &str) -> Range<usize> {
        if let Some(place) = self.map.get(path) {
            return place.value.clone();
        }
        let mut path = path;
        while let Some(end) = path.rfind(['.', '[']) {
            path = path.get(..end).unwrap_or("");
            if let Some(place) = self.map.get(path) {
                return place.key.clone();
            }
        }
        0..0
    }

    pub(crate) fn position(&self, path: &str) -> Position {
        Position::of(&self.file, &self.text, self.nearest(path).start)
    }
}

/// A value of the TOML tree.
pub(crate) struct Node<'n> {
    pub(crate) path: String,
    pub(crate) value: &'n DeValue<'n>,
    pub(crate) span: Range<usize>,
}

/// State of reading a file: key spans and diagnostics so far.
pub(crate) struct Reader<'f> {
    pub(crate) facts: &'f Facts,
    pub(crate) places: Places,
    mistakes: Vec<Mistake>,
    base: PathBuf,
}

impl<'f> Reader<'f> {
    /// Creates a reader. Diagnostics name `file`; relative paths in the file start at the directory of `file`.
    pub(crate) fn new(file: &Path, text: &str, facts: &'f Facts) -> Self {
        let places = Places { file: file.display().to_string().into(), text: text.into(), map: BTreeMap::new() };
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        Self { facts, places, mistakes: Vec::new(), base }
    }

    pub(crate) fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, advice: impl Into<Option<String>>) {
        let position = Position::of(&self.places.file, &self.places.text, span.start);
        self.mistakes.push(Mistake { position, message: message.into(), advice: advice.into(), span });
    }

    /// Reports an error at the value with the given path.
    pub(crate) fn wrong_at(&mut self, path: &str, message: impl Into<String>, advice: impl Into<Option<String>>) {
        let span = self.places.nearest(path);
        self.wrong(span, message, advice);
    }

    /// Reports an error at the key with the given path.
    pub(crate) fn wrong_key(&mut self, path: &str, message: impl Into<String>, advice: impl Into<Option<String>>) {
        let span = self.places.get(path).map_or_else(|| self.places.nearest(path), |place| place.key.clone());
        self.wrong(span, message, advice);
    }

    /// Reports a value of the wrong type.
    pub(crate) fn wrong_type(&mut self, node: &Node<'_>, wanted: &str) {
        let found = match node.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(node.span.clone(), format!("{} is {found}", last_key(&node.path)), format!("write {wanted}"));
    }

    pub(crate) fn finish(self) -> (Places, Vec<Mistake>) {
        (self.places, self.mistakes)
    }

    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Opens a table: records the spans of all keys, and reports keys not listed in `known`.
    pub(crate) fn table<'n>(&mut self, path: &str, table: &'n DeTable<'n>, known: &[&str]) -> TableReader<'n> {
        for (key, value) in table {
            let name: &str = key.get_ref();
            self.remember(&join(path, name), key.span(), value.span());
            if !known.contains(&name) {
                let advice = unknown_advice(path, name, known);
                self.wrong(key.span(), format!("unknown key \"{name}\""), advice);
            }
        }
        TableReader { path: path.to_owned(), table }
    }

    pub(crate) fn remember(&mut self, path: &str, key: Range<usize>, value: Range<usize>) {
        self.places.map.insert(path.to_owned(), Place { key, value });
    }
}

fn unknown_advice(path: &str, name: &str, known: &[&str]) -> Option<String> {
    if path.is_empty() && POSTFIX_NAMES.iter().any(|(postfix, _)| *postfix == name) {
        return advice_for(name).map(str::to_owned);
    }
    match nearest(name, known.iter().copied()) {
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
    pub(crate) fn key<K: Kind>(&self, key: &str, reader: &mut Reader<'_>) -> Option<K::Value> {
        K::read(&self.node(key)?, reader)
    }

    fn node(&self, key: &str) -> Option<Node<'n>> {
        let value: &Spanned<DeValue<'n>> = self.table.get(key)?;
        Some(Node { path: join(&self.path, key), span: value.span(), value: value.get_ref() })
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns the last component of a path: `plugins.spam.order` -> `order`.
pub(crate) fn last_key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
