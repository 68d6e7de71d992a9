//! A file that is read at once, and again when it has changed.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use waxwing_pipeline::TableError;
use waxwing_types::{Clock, Monotonic};

/// Octets of such a file.
pub const TABLE_BYTES_MAX: u64 = 64 << 20;
/// How often a table is looked at.
pub(crate) const TABLE_INTERVAL: Duration = Duration::from_secs(1);

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

struct Loaded<T> {
    version: Option<Version>,
    content: Arc<T>,
}

/// How a file's text is understood; it says in the log what it leaves out.
type Parse<T> = Arc<dyn Fn(&str) -> T + Send + Sync>;

/// A file's content. It is looked at again at most once in an interval; a file that can't be read any more keeps its last good content, and a line
/// of the log says so.
pub(crate) struct WatchedFile<T> {
    path: PathBuf,
    parse: Parse<T>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    loaded: Arc<ArcSwap<Loaded<T>>>,
    /// Microseconds of the clock at which the file was last looked at.
    checked_at: AtomicU64,
    reloading: Arc<AtomicBool>,
}

impl<T: Send + Sync + 'static> WatchedFile<T> {
    /// Reads the file. It must be there.
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

    /// As it was read last.
    pub(crate) fn content(&self) -> Arc<T> {
        Arc::clone(&self.loaded.load().content)
    }

    /// Reads the file anew if it has changed. Only one caller does it, off the reactor; the others go on with what they have.
    pub(crate) async fn refresh(&self) {
        let last = self.checked_at.load(Ordering::Relaxed);
        let now = self.clock.monotonic();
        if now.since(Monotonic::from_micros(last)) < self.interval {
            return;
        }
        let mine = self.checked_at.compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !mine || self.reloading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (path, parse) = (self.path.clone(), Arc::clone(&self.parse));
        let (loaded, reloading) = (Arc::clone(&self.loaded), Arc::clone(&self.reloading));
        // The work ends by itself when the caller goes away, and clears the mark.
        let work = tokio::task::spawn_blocking(move || {
            reload(&path, &*parse, &loaded);
            reloading.store(false, Ordering::Release);
        });
        drop(work.await);
    }
}

fn reload<T>(path: &Path, parse: &(dyn Fn(&str) -> T + Send + Sync), loaded: &ArcSwap<Loaded<T>>) {
    let metadata = std::fs::metadata(path);
    if metadata.as_ref().is_ok_and(|m| loaded.load().version == Some(Version::of(m))) {
        return;
    }
    match metadata.and_then(|_| load(path, parse)) {
        Ok(new) => loaded.store(Arc::new(new)),
        Err(error) => {
            // Said once for each failure: the version is forgotten, so that the file is read as soon as it is back.
            if loaded.load().version.is_some() {
                tracing::warn!(table = %path.display(), %error, "the table can't be read; its last content stays in use");
                let content = Arc::clone(&loaded.load().content);
                loaded.store(Arc::new(Loaded { version: None, content }));
            }
        }
    }
}

/// The version is taken before the text: a change in between is seen at the next look.
fn load<T>(path: &Path, parse: impl Fn(&str) -> T) -> io::Result<Loaded<T>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.len() > TABLE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 64 MiB"));
    }
    let text = std::fs::read(path)?;
    let content = Arc::new(parse(&String::from_utf8_lossy(&text)));
    Ok(Loaded { version: Some(Version::of(&metadata)), content })
}
