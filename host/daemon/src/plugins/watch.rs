//! Whether a file has changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Enough to see that a file may be another one: device, inode, size, and the times of content and inode in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([i128; 5]);

impl Stamp {
    /// The stamp of now; none for a file that is not there.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let (modified, changed) = (time(about.mtime(), about.mtime_nsec()), time(about.ctime(), about.ctime_nsec()));
        Some(Self([about.dev().into(), about.ino().into(), about.size().into(), modified, changed]))
    }
}

/// A plugin's file, looked at now and then.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) path: PathBuf,
    seen: Option<Stamp>,
    /// It differs from what was seen, and may still be written.
    settling: Option<Option<Stamp>>,
    /// The hash of the content that was tried last, whether or not it is in service: it is not tried again by itself.
    pub(super) tried: blake3::Hash,
}

impl Watched {
    /// `stamp` was taken before the content was read.
    pub(super) fn new(path: PathBuf, stamp: Option<Stamp>, tried: blake3::Hash) -> Self {
        Self { path, seen: stamp, settling: None, tried }
    }

    /// It has been read, just after `stamp` was taken.
    pub(super) fn has_been_read(&mut self, stamp: Option<Stamp>) {
        self.seen = stamp;
        self.settling = None;
    }

    /// It is worth reading: it has changed, and was the same at two looks in a row, so that nobody is writing it any more.
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
