//! Content of a table file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Maximum number of syntax problems kept for one file.
const PROBLEMS_MAX: usize = 100;

/// Keys and values of a table file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableEntries {
    map: HashMap<String, String>,
    problems: Vec<String>,
}

impl TableEntries {
    /// Returns the value of a key, compared without case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.map.get(&key.to_lowercase()).map(String::as_str)
    }

    /// Number of keys in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// True for a table without keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Syntax problems of skipped lines: `line 7: …`.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(crate) fn insert(&mut self, number: usize, key: &str, value: &str) {
        match self.map.entry(key.to_lowercase()) {
            Entry::Vacant(entry) => _ = entry.insert(value.to_owned()),
            Entry::Occupied(_) => self.add_problem(number, &format!("duplicate key \"{key}\"; the first counts")),
        }
    }

    pub(crate) fn add_problem(&mut self, number: usize, text: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("line {number}: {text}"));
        }
    }
}
