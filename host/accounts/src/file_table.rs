//! A table in a file: read at once, and again when the file has changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use waxwing_pipeline::{Table, TableError};
use waxwing_types::{Clock, Monotonic};

use crate::{parse_aliases, parse_texthash};

/// Octets of a table's file.
pub const TABLE_BYTES_MAX: u64 = 64 << 20;
/// How often a file is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Mistakes in a file that are remembered.
const PROBLEMS_MAX: usize = 100;

/// Keys and values of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    map: HashMap<String, String>,
    problems: Vec<String>,
}

impl Entries {
    /// The value of a key, in any case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.map.get(&key.to_lowercase()).map(String::as_str)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Lines that were left out: `line 7: …`.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(crate) fn insert(&mut self, number: usize, key: &str, value: &str) {
        match self.map.entry(key.to_lowercase()) {
            Entry::Vacant(place) => _ = place.insert(value.to_owned()),
            Entry::Occupied(_) => self.problem(number, &format!("\"{key}\" stands there twice; the first counts")),
        }
    }

    pub(crate) fn problem(&mut self, number: usize, text: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("line {number}: {text}"));
        }
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// postmap(1).
    Texthash,
    /// aliases(5).
    Aliases,
}

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
    }
}

struct Loaded {
    version: Option<Version>,
    entries: Entries,
}

/// A table in a file. It is looked at again at most once a second; a file that can't be read any more keeps its last good
/// content, and a line of the log says so.
pub struct FileTable {
    path: PathBuf,
    format: Format,
    clock: Arc<dyn Clock>,
    loaded: Arc<ArcSwap<Loaded>>,
    /// Microseconds of the clock at which the file was last looked at.
    checked_at: AtomicU64,
    reloading: Arc<AtomicBool>,
}

impl FileTable {
    /// Reads the file. It must be there.
    pub fn open(path: &Path, format: Format, clock: Arc<dyn Clock>) -> Result<Self, TableError> {
        let loaded = load(path, format).map_err(|error| table_error(path, &error))?;
        report(path, &loaded.entries);
        Ok(Self {
            path: path.to_owned(),
            format,
            checked_at: AtomicU64::new(clock.monotonic().as_micros()),
            clock,
            loaded: Arc::new(ArcSwap::from_pointee(loaded)),
            reloading: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Lines of the file that were left out.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.loaded.load().entries.problems().to_vec()
    }

    /// Reads the file anew if it has changed. Only one caller does it, off the reactor; the others go on with what they have.
    async fn refresh(&self) {
        let last = self.checked_at.load(Ordering::Relaxed);
        let now = self.clock.monotonic();
        if now.since(Monotonic::from_micros(last)) < CHECK_INTERVAL {
            return;
        }
        let mine = self.checked_at.compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !mine || self.reloading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (path, format) = (self.path.clone(), self.format);
        let (loaded, reloading) = (Arc::clone(&self.loaded), Arc::clone(&self.reloading));
        // The work ends by itself when the caller goes away, and clears the mark.
        let work = tokio::task::spawn_blocking(move || {
            reload(&path, format, &loaded);
            reloading.store(false, Ordering::Release);
        });
        drop(work.await);
    }
}

fn reload(path: &Path, format: Format, loaded: &ArcSwap<Loaded>) {
    let metadata = std::fs::metadata(path);
    if metadata.as_ref().is_ok_and(|m| loaded.load().version == Some(Version::of(m))) {
        return;
    }
    match metadata.and_then(|_| load(path, format)) {
        Ok(new) => {
            report(path, &new.entries);
            loaded.store(Arc::new(new));
        }
        Err(error) => {
            // Said once for each failure: the version is forgotten, so that the file is read as soon as it is back.
            if loaded.load().version.is_some() {
                tracing::warn!(table = %path.display(), %error, "the table can't be read; its last content stays in use");
                let entries = loaded.load().entries.clone();
                loaded.store(Arc::new(Loaded { version: None, entries }));
            }
        }
    }
}

/// The version is taken before the text: a change in between is seen at the next look.
fn load(path: &Path, format: Format) -> io::Result<Loaded> {
    let metadata = std::fs::metadata(path)?;
    if metadata.len() > TABLE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 64 MiB"));
    }
    let text = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let entries = match format {
        Format::Texthash => parse_texthash(&text),
        Format::Aliases => parse_aliases(&text),
    };
    Ok(Loaded { version: Some(Version::of(&metadata)), entries })
}

fn report(path: &Path, entries: &Entries) {
    for problem in entries.problems() {
        tracing::warn!(table = %path.display(), "{problem}");
    }
}

fn table_error(path: &Path, error: &io::Error) -> TableError {
    TableError { table: path.display().to_string(), reason: error.to_string() }
}

#[async_trait]
impl Table for FileTable {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        self.refresh().await;
        Ok(self.loaded.load().entries.get(key).map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_changed_file_is_read_again_within_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        std::fs::write(&path, "a 1\n").unwrap();
        let clock = Arc::new(ManualClock::default());
        let table = FileTable::open(&path, Format::Texthash, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
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
        let error = FileTable::open(Path::new("/no/such"), Format::Aliases, clock).err().unwrap();
        assert_eq!(error.table, "/no/such");
    }
}
