//! Disk space: limits incoming mail so that the reserve for settlements and journals stays free.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_types::{Clock, Monotonic};

use crate::error::SpoolError;
use crate::files::BodyFiles;

/// Octets reserved for a message of unknown size.
const SIZE_UNKNOWN_BYTES: u64 = 16 << 10;
/// Octets of overhead per message: records, keys, and rounding of file sizes.
const MESSAGE_OVERHEAD_BYTES: u64 = 4 << 10;
/// Octets written by the spool after which free disk space is measured again.
const LOOK_AGAIN_BYTES: u64 = 4 << 20;
/// Time after which free disk space is measured again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Multiple of the reserve below which free disk space is measured on every request.
const NEAR_RESERVES: u64 = 2;

#[derive(Default)]
struct Seen {
    /// Free octets at the last measurement.
    free: u64,
    /// Octets written since the last measurement.
    spent: u64,
    at: Option<Monotonic>,
    /// Octets reserved and not written yet.
    promised: u64,
}

impl Seen {
    fn unpromised(&self) -> u64 {
        self.free.saturating_sub(self.spent).saturating_sub(self.promised)
    }
}

/// Accounts reserved octets against free disk space.
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

    /// Reserves disk space for a message of the given size, 0 if unknown.
    pub(crate) fn reserve(self: &Arc<Self>, size_hint: u64) -> Result<Reservation, SpoolError> {
        let size = if size_hint == 0 { SIZE_UNKNOWN_BYTES } else { size_hint };
        let bytes = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        self.promise(bytes)?;
        Ok(Reservation { room: self.clone(), size_hint, promised: bytes, spent: 0 })
    }

    /// Checks that the disk reserve is still free regardless of reservations, because other programs write to the disk too.
    pub(crate) fn check(&self) -> Result<(), SpoolError> {
        let mut space = self.seen.lock();
        self.look(&mut space, 0)?;
        let free = space.free.saturating_sub(space.spent);
        if free < self.minfree { Err(SpoolError::Full { free, needed: 0, minfree: self.minfree }) } else { Ok(()) }
    }

    fn promise(&self, bytes: u64) -> Result<(), SpoolError> {
        let mut space = self.seen.lock();
        self.look(&mut space, bytes)?;
        let free = space.unpromised();
        if free < self.minfree.saturating_add(bytes) {
            return Err(SpoolError::Full { free, needed: bytes, minfree: self.minfree });
        }
        space.promised += bytes;
        Ok(())
    }

    /// Measures free disk space if the last value is old or the space is low.
    fn look(&self, space: &mut Seen, bytes: u64) -> Result<(), SpoolError> {
        let now = self.clock.monotonic();
        let stale = space.at.is_none_or(|at| now.since(at) >= LOOK_AGAIN_AFTER) || space.spent >= LOOK_AGAIN_BYTES;
        if stale || space.unpromised().saturating_sub(bytes) < self.minfree.saturating_mul(NEAR_RESERVES) {
            *space = Seen { free: self.files.free_bytes()?, spent: 0, at: Some(now), promised: space.promised };
        }
        Ok(())
    }
}

/// Disk space reserved for a single message. Ends on drop; the octets written until then show up in the free space of the
/// disk.
pub struct Reservation {
    room: Arc<Room>,
    size_hint: u64,
    /// Octets reserved, including octets already written.
    promised: u64,
    spent: u64,
}

impl Reservation {
    /// Requested size in octets; 0 if unknown.
    #[must_use]
    pub fn size_hint(&self) -> u64 {
        self.size_hint
    }

    /// Extends the reservation to a message of `size` octets.
    pub(crate) fn cover(&mut self, size: u64) -> Result<(), SpoolError> {
        let needed = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        if needed > self.promised {
            // Reserves twice the size, so that a long body needs few extensions.
            let more = (needed - self.promised).max(size.min(LOOK_AGAIN_BYTES));
            self.room.promise(more)?;
            self.promised += more;
        }
        Ok(())
    }

    /// Checks that the disk reserve is still free.
    pub(crate) fn check(&self) -> Result<(), SpoolError> {
        self.room.check()
    }

    /// Records written octets, visible in the free space of the disk from now on.
    pub(crate) fn spend(&mut self, bytes: u64) {
        let bytes = bytes.min(self.promised - self.spent);
        self.spent += bytes;
        let mut space = self.room.seen.lock();
        space.promised -= bytes;
        space.spent += bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let unused = self.promised - self.spent;
        let mut space = self.room.seen.lock();
        space.promised -= unused;
        // The octets may or may not have been written: the next measurement corrects the account.
        space.spent += unused;
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
