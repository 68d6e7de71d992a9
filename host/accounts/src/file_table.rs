//! Lookup table in a file, reloaded after each change of the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Table, TableError};
use waxwing_types::Clock;

use crate::watched_file::{TABLE_CHECK_INTERVAL, WatchedFile};
use crate::{parse_aliases, parse_texthash};

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

/// Syntax of a table file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Syntax of postmap(1) input files.
    Texthash,
    /// Syntax of aliases(5) files.
    Aliases,
}

/// Lookup table stored in a file.
pub struct FileTable(WatchedFile<TableEntries>);

impl FileTable {
    /// Reads the file. Error: a missing, unreadable or too large file.
    pub fn open(path: &Path, format: TableFormat, clock: Arc<dyn Clock>) -> Result<Self, TableError> {
        let name = path.display().to_string();
        let parse = move |text: &str| {
            let entries = match format {
                TableFormat::Texthash => parse_texthash(text),
                TableFormat::Aliases => parse_aliases(text),
            };
            for problem in entries.problems() {
                tracing::warn!(table = name, "{problem}");
            }
            entries
        };
        Ok(Self(WatchedFile::open(path, TABLE_CHECK_INTERVAL, clock, parse)?))
    }

    /// Syntax problems of skipped lines in the current content.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.0.content().problems().to_vec()
    }
}

#[async_trait]
impl Table for FileTable {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        self.0.refresh().await;
        Ok(self.0.content().get(key).map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use waxwing_types::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_changed_file_is_read_again_within_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        std::fs::write(&path, "a 1\n").unwrap();
        let clock = Arc::new(ManualClock::default());
        let table = FileTable::open(&path, TableFormat::Texthash, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let get = async || table.get("a").await.unwrap().unwrap_or_default();
        std::fs::write(&path, "a two\n").unwrap();
        assert_eq!(get().await, "1", "not looked at yet");
        clock.advance(Duration::from_secs(1));
        assert_eq!(get().await, "two");
        std::fs::remove_file(&path).unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(get().await, "two", "the last good content stays");
        std::fs::write(&path, "a two\nA 3\n").unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(get().await, "two");
        assert_eq!(table.problems().len(), 1, "the new content is read");
    }

    #[test]
    fn a_missing_file_is_an_error_at_start() {
        let clock = Arc::new(ManualClock::default());
        let error = FileTable::open(Path::new("/no/such"), TableFormat::Aliases, clock).err().unwrap();
        assert_eq!(error.table, "/no/such");
    }
}
