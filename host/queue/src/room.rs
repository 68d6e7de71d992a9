//! The disk's reserve: what may still come in without eating the space that settling and the journals need.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_types::{Clock, Monotonic};

use crate::error::SpoolError;
use crate::files::BodyFiles;

/// Octets that are promised to a message whose size is not known yet.
const SIZE_UNKNOWN_BYTES: u64 = 16 << 10;
/// Octets that each message takes beside its own: records, keys, and the rounding of files.
const MESSAGE_OVERHEAD_BYTES: u64 = 4 << 10;
/// The disk is asked again after so many octets of ours ...
const LOOK_AGAIN_BYTES: u64 = 4 << 20;
/// ... or after this time, ...
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// ... and each time when less than so many reserves are left.
const NEAR_RESERVES: u64 = 2;

#[derive(Default)]
struct Seen {
    /// Octets free at the last look.
    free: u64,
    /// Octets written since.
    spent: u64,
    at: Option<Monotonic>,
    /// Octets promised and not written yet.
    promised: u64,
}

impl Seen {
    fn unpromised(&self) -> u64 {
        self.free.saturating_sub(self.spent).saturating_sub(self.promised)
    }
}

/// Counts what is promised against what is free.
pub(crate) struct Room {
    files: Arc<dyn BodyFiles>,
    clock: Arc<dyn Clock>,
    minfree: u64,
    seen: Mutex<Seen>,
}

impl Room {
    pub(crate) fn new(files: Arc<dyn BodyFiles>, clock: Arc<dyn Clock>, minfree: u64) -> Arc<Self> {
        Arc::new(Self { files, clock, minfree, seen: Mutex::default() })
    }

    /// Promises room for a message of that size, 0 if unknown.
    pub(crate) fn reserve(self: &Arc<Self>, size_hint: u64) -> Result<Reservation, SpoolError> {
        let size = if size_hint == 0 { SIZE_UNKNOWN_BYTES } else { size_hint };
        let bytes = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        self.promise(bytes)?;
        Ok(Reservation { room: self.clone(), size_hint, promised: bytes, spent: 0 })
    }

    /// Checks that the reserve is still there, whatever was promised: others write to the disk too.
    pub(crate) fn check(&self) -> Result<(), SpoolError> {
        let mut seen = self.seen.lock();
        self.look(&mut seen, 0)?;
        let free = seen.free.saturating_sub(seen.spent);
        if free < self.minfree { Err(SpoolError::Full { free, needed: 0, minfree: self.minfree }) } else { Ok(()) }
    }

    fn promise(&self, bytes: u64) -> Result<(), SpoolError> {
        let mut seen = self.seen.lock();
        self.look(&mut seen, bytes)?;
        let free = seen.unpromised();
        if free < self.minfree.saturating_add(bytes) {
            return Err(SpoolError::Full { free, needed: bytes, minfree: self.minfree });
        }
        seen.promised += bytes;
        Ok(())
    }

    /// Asks the disk, if the last answer is old or it matters.
    fn look(&self, seen: &mut Seen, bytes: u64) -> Result<(), SpoolError> {
        let now = self.clock.monotonic();
        let stale = seen.at.is_none_or(|at| now.since(at) >= LOOK_AGAIN_AFTER) || seen.spent >= LOOK_AGAIN_BYTES;
        if stale || seen.unpromised().saturating_sub(bytes) < self.minfree.saturating_mul(NEAR_RESERVES) {
            *seen = Seen { free: self.files.free_bytes()?, spent: 0, at: Some(now), promised: seen.promised };
        }
        Ok(())
    }
}

/// Room that was promised to one message. It ends when this is dropped: what was written by then shows on the disk.
pub struct Reservation {
    room: Arc<Room>,
    size_hint: u64,
    /// Octets promised, with those already written.
    promised: u64,
    spent: u64,
}

impl Reservation {
    /// The size that was asked for; 0 if unknown.
    #[must_use]
    pub fn size_hint(&self) -> u64 {
        self.size_hint
    }

    /// Makes sure that a message of `size` octets has room.
    pub(crate) fn cover(&mut self, size: u64) -> Result<(), SpoolError> {
        let needed = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        if needed > self.promised {
            // Twice the size, so that a long body asks seldom.
            let more = (needed - self.promised).max(size.min(LOOK_AGAIN_BYTES));
            self.room.promise(more)?;
            self.promised += more;
        }
        Ok(())
    }

    /// The reserve is still there.
    pub(crate) fn check(&self) -> Result<(), SpoolError> {
        self.room.check()
    }

    /// So many octets have been written: the disk shows them from now on.
    pub(crate) fn spend(&mut self, bytes: u64) {
        let bytes = bytes.min(self.promised - self.spent);
        self.spent += bytes;
        let mut seen = self.room.seen.lock();
        seen.promised -= bytes;
        seen.spent += bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let rest = self.promised - self.spent;
        let mut seen = self.room.seen.lock();
        seen.promised -= rest;
        // Perhaps it was written, perhaps not: the next look at the disk tells.
        seen.spent += rest;
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("promised", &self.promised).field("spent", &self.spent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};

    use waxwing_types::ManualClock;

    use super::*;
    use crate::files::BodyFile;

    /// A disk of which only the free space matters.
    struct Disk(AtomicU64);

    impl BodyFiles for Disk {
        fn create(&self, _: &str) -> io::Result<Box<dyn BodyFile>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn open(&self, _: &str) -> io::Result<Box<dyn BodyFile>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_directory(&self) -> io::Result<()> {
            Ok(())
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn names(&self) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn free_bytes(&self) -> io::Result<u64> {
            Ok(self.0.load(Ordering::Relaxed))
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_promised_counts_until_it_is_dropped() {
        let disk = Arc::new(Disk(AtomicU64::new(100 * MIB)));
        let room = Room::new(disk.clone(), Arc::new(ManualClock::default()), 50 * MIB);
        let first = room.reserve(30 * MIB).unwrap();
        assert!(matches!(room.reserve(30 * MIB), Err(SpoolError::Full { .. })));
        drop(first);
        let mut second = room.reserve(30 * MIB).unwrap();
        assert!(matches!(second.cover(60 * MIB), Err(SpoolError::Full { .. })), "more than was promised is asked for anew");
        second.cover(30 * MIB).unwrap();

        // What is written is on the disk's account, not on both.
        second.spend(30 * MIB);
        disk.0.store(70 * MIB, Ordering::Relaxed);
        let third = room.reserve(15 * MIB).unwrap();
        assert!(room.reserve(10 * MIB).is_err());
        drop((second, third));
        room.reserve(15 * MIB).unwrap();
    }

    #[test]
    fn an_unknown_size_is_taken_only_above_the_reserve() {
        let disk = Arc::new(Disk(AtomicU64::new(50 * MIB)));
        let room = Room::new(disk.clone(), Arc::new(ManualClock::default()), 50 * MIB);
        assert!(room.reserve(0).is_err());
        disk.0.store(51 * MIB, Ordering::Relaxed);
        room.reserve(0).unwrap();
    }
}
