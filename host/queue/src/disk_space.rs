//! Disk space: limits incoming mail so that the reserve for settlements and journals stays free.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_spool::{Reservation, ReservedSpace, SpoolError};
use waxwing_types::{Clock, Monotonic};

use crate::body_files::BodyFiles;

/// Octets reserved for a message of unknown size.
const UNKNOWN_SIZE_RESERVE_BYTES: u64 = 16 << 10;
/// Octets of overhead per message: records, keys, and rounding of file sizes.
const MESSAGE_OVERHEAD_BYTES: u64 = 4 << 10;
/// Octets written by the spool after which free disk space is measured again.
const MEASURE_AFTER_BYTES: u64 = 4 << 20;
/// Time after which free disk space is measured again.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);
/// Multiple of the reserve below which free disk space is measured on every request.
const LOW_SPACE_RESERVES: u64 = 2;

#[derive(Default)]
struct FreeSpace {
    /// Free octets at the last measurement.
    free: u64,
    /// Octets written since the last measurement.
    written: u64,
    measured_at: Option<Monotonic>,
    /// Octets reserved and not written yet.
    reserved: u64,
}

impl FreeSpace {
    fn unreserved(&self) -> u64 {
        self.free.saturating_sub(self.written).saturating_sub(self.reserved)
    }
}

/// Accounts reserved octets against free disk space.
pub(crate) struct DiskSpace {
    files: Arc<dyn BodyFiles>,
    clock: Arc<dyn Clock>,
    minfree: u64,
    free_space: Mutex<FreeSpace>,
}

impl DiskSpace {
    pub(crate) fn new(files: Arc<dyn BodyFiles>, clock: Arc<dyn Clock>, minfree: u64) -> Arc<Self> {
        Arc::new(Self { files, clock, minfree, free_space: Mutex::default() })
    }

    /// Reserves disk space for a message of the given size, 0 if unknown.
    pub(crate) fn reserve(self: &Arc<Self>, size_hint: u64) -> Result<Reservation, SpoolError> {
        let size = if size_hint == 0 { UNKNOWN_SIZE_RESERVE_BYTES } else { size_hint };
        let bytes = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        self.reserve_bytes(bytes)?;
        Ok(Reservation::new(size_hint, Box::new(DiskReservation { disk_space: self.clone(), reserved: bytes, written: 0 })))
    }

    /// Checks that the disk reserve is still free regardless of reservations, because other programs write to the disk too.
    pub(crate) fn check_reserve(&self) -> Result<(), SpoolError> {
        let mut space = self.free_space.lock();
        self.measure(&mut space, 0)?;
        let free = space.free.saturating_sub(space.written);
        if free < self.minfree { Err(SpoolError::Full { free, needed: 0, minfree: self.minfree }) } else { Ok(()) }
    }

    fn reserve_bytes(&self, bytes: u64) -> Result<(), SpoolError> {
        let mut space = self.free_space.lock();
        self.measure(&mut space, bytes)?;
        let free = space.unreserved();
        if free < self.minfree.saturating_add(bytes) {
            return Err(SpoolError::Full { free, needed: bytes, minfree: self.minfree });
        }
        space.reserved += bytes;
        Ok(())
    }

    /// Measures free disk space if the last value is old or the space is low.
    fn measure(&self, space: &mut FreeSpace, bytes: u64) -> Result<(), SpoolError> {
        let now = self.clock.monotonic();
        let stale = space.measured_at.is_none_or(|at| now.since(at) >= MEASURE_INTERVAL) || space.written >= MEASURE_AFTER_BYTES;
        if stale || space.unreserved().saturating_sub(bytes) < self.minfree.saturating_mul(LOW_SPACE_RESERVES) {
            *space = FreeSpace { free: self.files.free_bytes()?, written: 0, measured_at: Some(now), reserved: space.reserved };
        }
        Ok(())
    }
}

/// Disk space reserved for a single message. Ends on drop; the octets written until then show up in the free space of the
/// disk.
struct DiskReservation {
    disk_space: Arc<DiskSpace>,
    /// Octets reserved, including octets already written.
    reserved: u64,
    written: u64,
}

impl ReservedSpace for DiskReservation {
    fn extend_to(&mut self, size: u64) -> Result<(), SpoolError> {
        let needed = size.saturating_add(MESSAGE_OVERHEAD_BYTES);
        if needed > self.reserved {
            // Reserves twice the size, so that a long body needs few extensions.
            let more = (needed - self.reserved).max(size.min(MEASURE_AFTER_BYTES));
            self.disk_space.reserve_bytes(more)?;
            self.reserved += more;
        }
        Ok(())
    }

    fn check_reserve(&self) -> Result<(), SpoolError> {
        self.disk_space.check_reserve()
    }

    fn consume(&mut self, bytes: u64) {
        // Written octets are visible in the free space of the disk from now on.
        let bytes = bytes.min(self.reserved - self.written);
        self.written += bytes;
        let mut space = self.disk_space.free_space.lock();
        space.reserved -= bytes;
        space.written += bytes;
    }
}

impl Drop for DiskReservation {
    fn drop(&mut self) {
        let unused = self.reserved - self.written;
        let mut space = self.disk_space.free_space.lock();
        space.reserved -= unused;
        // The octets may or may not have been written: the next measurement corrects the account.
        space.written += unused;
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};

    use waxwing_types::ManualClock;

    use super::*;
    use crate::body_files::BodyFile;

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
        let room = DiskSpace::new(disk.clone(), Arc::new(ManualClock::default()), 50 * MIB);
        let first = room.reserve(30 * MIB).unwrap();
        assert!(matches!(room.reserve(30 * MIB), Err(SpoolError::Full { .. })));
        drop(first);
        let mut second = room.reserve(30 * MIB).unwrap();
        assert!(matches!(second.extend_to(60 * MIB), Err(SpoolError::Full { .. })), "more than was promised is asked for anew");
        second.extend_to(30 * MIB).unwrap();

        // What is written is on the disk's account, not on both.
        second.consume(30 * MIB);
        disk.0.store(70 * MIB, Ordering::Relaxed);
        let third = room.reserve(15 * MIB).unwrap();
        assert!(room.reserve(10 * MIB).is_err());
        drop((second, third));
        room.reserve(15 * MIB).unwrap();
    }

    #[test]
    fn an_unknown_size_is_taken_only_above_the_reserve() {
        let disk = Arc::new(Disk(AtomicU64::new(50 * MIB)));
        let room = DiskSpace::new(disk.clone(), Arc::new(ManualClock::default()), 50 * MIB);
        assert!(room.reserve(0).is_err());
        disk.0.store(51 * MIB, Ordering::Relaxed);
        room.reserve(0).unwrap();
    }
}
