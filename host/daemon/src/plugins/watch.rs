//! Change detection for plugin files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fingerprint of a file: device, inode, size, and the modification and change times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([i128; 5]);

impl Stamp {
    /// Reads the current fingerprint; `None` if the file does not exist.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let (modified, changed) = (time(metadata.mtime(), metadata.mtime_nsec()), time(metadata.ctime(), metadata.ctime_nsec()));
        Some(Self([metadata.dev().into(), metadata.ino().into(), metadata.size().into(), modified, changed]))
    }
}

/// A plugin file polled for changes.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) path: PathBuf,
    seen: Option<Stamp>,
    /// Fingerprint that differs from the last read; the file may still be written to.
    settling: Option<Option<Stamp>>,
    /// Hash of the content tried last, in service or not; polling does not try the same content again.
    pub(super) tried: blake3::Hash,
}

impl Watched {
    /// Creates the state for a file just read; `stamp` was taken before the read.
    pub(super) fn new(path: PathBuf, stamp: Option<Stamp>, tried: blake3::Hash) -> Self {
        Self { path, seen: stamp, settling: None, tried }
    }

    /// Records a read of the file, made just after `stamp` was taken.
    pub(super) fn has_been_read(&mut self, stamp: Option<Stamp>) {
        self.seen = stamp;
        self.settling = None;
    }

    /// Tells whether to read the file: changed, and the same at two polls in a row, so that no writer is active.
    pub(super) fn is_changed(&mut self, stamp: Option<Stamp>) -> bool {
        if stamp == self.seen {
            self.settling = None;
            return false;
        }
        let is_settled = self.settling == Some(stamp);
        self.settling = Some(stamp);
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.wasm");
        std::fs::write(&path, "one").unwrap();
        let stamp = Stamp::of(&path);
        let mut watched = Watched::new(path.clone(), stamp, blake3::hash(b"one"));
        assert!(!watched.is_changed(stamp));
        std::fs::write(&path, "two and").unwrap();
        let half = Stamp::of(&path);
        assert_ne!(half, stamp);
        assert!(!watched.is_changed(half), "it may be half of it");
        std::fs::write(&path, "two and three").unwrap();
        let whole = Stamp::of(&path);
        assert!(!watched.is_changed(whole));
        assert!(watched.is_changed(whole));
        watched.has_been_read(whole);
        assert!(!watched.is_changed(whole));
    }

    #[test]
    fn a_file_of_the_same_size_in_its_place_is_seen_and_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("p.wasm"), dir.path().join("other"));
        std::fs::write(&path, "one").unwrap();
        let stamp = Stamp::of(&path);
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&path), stamp);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Stamp::of(&path), None);
    }
}
