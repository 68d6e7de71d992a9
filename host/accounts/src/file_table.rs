//! Lookup table in a file, reloaded after each change of the file.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Table, TableError};
use waxwing_types::Clock;

use crate::aliases::parse_aliases;
use crate::table_entries::TableEntries;
use crate::texthash::parse_texthash;
use crate::watched_file::{TABLE_CHECK_INTERVAL, WatchedFile};

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
