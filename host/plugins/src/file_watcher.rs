//! Change detection for plugin files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fingerprint of a file: device, inode, size, and the modification and change times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFingerprint([i128; 5]);

impl FileFingerprint {
    /// Reads the current fingerprint; `None` if the file does not exist.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let (modified, changed) = (time(metadata.mtime(), metadata.mtime_nsec()), time(metadata.ctime(), metadata.ctime_nsec()));
        Some(Self([metadata.dev().into(), metadata.ino().into(), metadata.size().into(), modified, changed]))
    }
}

/// A plugin file polled for changes.
#[derive(Clone, Debug)]
pub(crate) struct PluginFile {
    pub(crate) path: PathBuf,
    last_read: Option<FileFingerprint>,
    /// Fingerprint that differs from the last read; the file may still be written to.
    pending: Option<Option<FileFingerprint>>,
    /// Hash of the content tried last, in service or not; polling does not try the same content again.
    pub(crate) tried_hash: blake3::Hash,
}

impl PluginFile {
    /// Creates the state for a file just read; `fingerprint` was taken before the read.
    pub(crate) fn new(path: PathBuf, fingerprint: Option<FileFingerprint>, tried: blake3::Hash) -> Self {
        Self { path, last_read: fingerprint, pending: None, tried_hash: tried }
    }

    /// Records a read of the file, made just after `fingerprint` was taken.
    pub(crate) fn mark_read(&mut self, fingerprint: Option<FileFingerprint>) {
        self.last_read = fingerprint;
        self.pending = None;
    }

    /// Tells whether to read the file: changed, and the same at two polls in a row, so that no writer is active.
    pub(crate) fn check_changed(&mut self, fingerprint: Option<FileFingerprint>) -> bool {
        if fingerprint == self.last_read {
            self.pending = None;
            return false;
        }
        let is_settled = self.pending == Some(fingerprint);
        self.pending = Some(fingerprint);
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
        let fingerprint = FileFingerprint::read(&path);
        let mut watched = PluginFile::new(path.clone(), fingerprint, blake3::hash(b"one"));
        assert!(!watched.check_changed(fingerprint));
        std::fs::write(&path, "two and").unwrap();
        let half = FileFingerprint::read(&path);
        assert_ne!(half, fingerprint);
        assert!(!watched.check_changed(half), "it may be half of it");
        std::fs::write(&path, "two and three").unwrap();
        let whole = FileFingerprint::read(&path);
        assert!(!watched.check_changed(whole));
        assert!(watched.check_changed(whole));
        watched.mark_read(whole);
        assert!(!watched.check_changed(whole));
    }

    #[test]
    fn a_file_of_the_same_size_in_its_place_is_seen_and_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("p.wasm"), dir.path().join("other"));
        std::fs::write(&path, "one").unwrap();
        let fingerprint = FileFingerprint::read(&path);
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(FileFingerprint::read(&path), fingerprint);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(FileFingerprint::read(&path), None);
    }
}
