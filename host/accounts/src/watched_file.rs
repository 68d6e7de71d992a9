//! File content in memory, reloaded after each change of the file.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use waxwing_pipeline::TableError;
use waxwing_types::{Clock, Monotonic};

/// Maximum size of a table file or user file, in bytes.
pub const TABLE_BYTES_MAX: u64 = 64 << 20;
/// Minimum interval between two checks of a table file.
pub(crate) const TABLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Metadata for the detection of a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl FileVersion {
    fn from_metadata(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
    }
}

struct LoadedFile<T> {
    version: Option<FileVersion>,
    content: Arc<T>,
}

/// Parser of the file's text; logs skipped lines.
type ParseFn<T> = Arc<dyn Fn(&str) -> T + Send + Sync>;

/// Parsed content of a file, checked for changes at most once per interval. After a read error the last good content stays in use, and a
/// warning is logged.
pub(crate) struct WatchedFile<T> {
    path: PathBuf,
    parse: ParseFn<T>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    loaded: Arc<ArcSwap<LoadedFile<T>>>,
    /// Time of the last check, in microseconds of the monotonic clock.
    checked_at: AtomicU64,
    reloading: Arc<AtomicBool>,
}

impl<T: Send + Sync + 'static> WatchedFile<T> {
    /// Reads the file. Error: a missing, unreadable or too large file.
    pub(crate) fn open(
        path: &Path,
        interval: Duration,
        clock: Arc<dyn Clock>,
        parse: impl Fn(&str) -> T + Send + Sync + 'static,
    ) -> Result<Self, TableError> {
        let loaded =
            load(path, &parse).map_err(|error| TableError { table: path.display().to_string(), reason: error.to_string() })?;
        Ok(Self {
            path: path.to_owned(),
            parse: Arc::new(parse),
            interval,
            checked_at: AtomicU64::new(clock.monotonic().as_micros()),
            clock,
            loaded: Arc::new(ArcSwap::from_pointee(loaded)),
            reloading: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Returns the content of the last successful read.
    pub(crate) fn content(&self) -> Arc<T> {
        Arc::clone(&self.loaded.load().content)
    }

    /// Reloads a changed file. Only one caller reloads, on a blocking thread; concurrent callers continue with the current content.
    pub(crate) async fn refresh(&self) {
        let last = self.checked_at.load(Ordering::Relaxed);
        let now = self.clock.monotonic();
        if now.since(Monotonic::from_micros(last)) < self.interval {
            return;
        }
        let claimed = self.checked_at.compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !claimed || self.reloading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (path, parse) = (self.path.clone(), Arc::clone(&self.parse));
        let (loaded, reloading) = (Arc::clone(&self.loaded), Arc::clone(&self.reloading));
        // The task finishes and resets `reloading` even if the caller is cancelled.
        let work = tokio::task::spawn_blocking(move || {
            reload(&path, &*parse, &loaded);
            reloading.store(false, Ordering::Release);
        });
        drop(work.await);
    }
}

fn reload<T>(path: &Path, parse: &(dyn Fn(&str) -> T + Send + Sync), loaded: &ArcSwap<LoadedFile<T>>) {
    let metadata = std::fs::metadata(path);
    if metadata.as_ref().is_ok_and(|m| loaded.load().version == Some(FileVersion::from_metadata(m))) {
        return;
    }
    match metadata.and_then(|_| load(path, parse)) {
        Ok(new) => loaded.store(Arc::new(new)),
        Err(error) => {
            // Logged once for each failure: without a version, the file is read again at the next check.
            if loaded.load().version.is_some() {
                tracing::warn!(table = %path.display(), %error, "the table can't be read; its last content stays in use");
                let content = Arc::clone(&loaded.load().content);
                loaded.store(Arc::new(LoadedFile { version: None, content }));
            }
        }
    }
}

/// Takes the version before the text: a change in between is detected by the next check.
fn load<T>(path: &Path, parse: impl Fn(&str) -> T) -> io::Result<LoadedFile<T>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.len() > TABLE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 64 MiB"));
    }
    let text = std::fs::read(path)?;
    let content = Arc::new(parse(&String::from_utf8_lossy(&text)));
    Ok(LoadedFile { version: Some(FileVersion::from_metadata(&metadata)), content })
}
