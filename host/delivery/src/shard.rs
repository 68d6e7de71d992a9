//! Scan state of each shard whose lease the queue manager holds.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use waxwing_spool::{DueKey, Lease, NewUnit, NewUnits, ShardId, Spool, Unit};
use waxwing_types::Timestamp;

/// Pause between two scans of the due index for dropped new-unit notifications.
const RESCAN_PAUSE: Duration = Duration::from_millis(5);

/// Future of the next request to scan units again.
type RescanRequest = Pin<Box<dyn Future<Output = DueKey> + Send>>;

/// Event of a shard for the queue manager.
pub(crate) enum ShardEvent {
    /// New unit announced by the spool.
    NewUnit(NewUnit),
    /// Next scan of a shard brought forward.
    ScanBroughtForward,
}

/// Scan state of one shard.
pub(crate) struct ShardState {
    pub(crate) lease: Lease,
    spool: Arc<dyn Spool>,
    /// Notifications of new units; `None` after the end of the channel.
    new_units: Option<NewUnits>,
    rescan_request: RescanRequest,
    /// Position of the scan in the due index. Units below are announced by notification or by their own attempt.
    pub(crate) scan_position: Option<DueKey>,
    /// Highest key reached by any scan or command. A notification of a unit above is the first mention of the unit.
    highest_scanned: Option<DueKey>,
    /// Scheduled rescan: its time, and the lowest key to read again.
    rescan_at: Option<(Timestamp, DueKey)>,
    /// Time of the next scan of the due index.
    pub(crate) next_scan_at: Timestamp,
    /// Time of the last scan.
    last_scan_at: Timestamp,
}

impl ShardState {
    /// Creates the state of a shard that has not been scanned; the first scan is due `now`.
    pub(crate) fn new(spool: Arc<dyn Spool>, lease: Lease, now: Timestamp) -> Self {
        Self {
            lease,
            new_units: Some(spool.new_units(lease.shard())),
            rescan_request: rescan_request(&spool, lease.shard()),
            spool,
            scan_position: None,
            highest_scanned: None,
            rescan_at: None,
            next_scan_at: now,
            last_scan_at: now,
        }
    }

    /// Starts a scan: applies the scheduled rescan, if due.
    pub(crate) fn begin_scan(&mut self, now: Timestamp) {
        self.last_scan_at = now;
        if let Some((_, key)) = self.rescan_at.take_if(|(at, _)| *at <= now) {
            self.rewind_scan(key);
        }
    }

    /// Moves the scan position to a unit read by a scan.
    pub(crate) fn advance(&mut self, key: DueKey) {
        self.scan_position = Some(key);
        self.mark_seen(key);
    }

    /// Ends a scan that read all due units. The next scan is due at `at`, or earlier for a scheduled rescan.
    pub(crate) fn end_scan(&mut self, at: Timestamp) {
        self.next_scan_at = self.rescan_at.map_or(at, |(rescan, _)| rescan.min(at));
    }

    /// Records that a notification of the unit may be older than the state of the unit in the spool.
    pub(crate) fn mark_seen(&mut self, key: DueKey) {
        self.highest_scanned = self.highest_scanned.max(Some(key));
    }

    /// Returns true if the announced unit can start. A scan may have been faster, and the unit gone by now; in doubt, the unit
    /// is left to the next scan.
    pub(crate) fn accepts_new_unit(&mut self, unit: &Unit) -> bool {
        let key = unit.due_key();
        if self.highest_scanned.is_none_or(|passed| key > passed) {
            return true;
        }
        self.spool.is_current(unit).unwrap_or_else(|| {
            self.rescan_soon(key);
            false
        })
    }

    /// Scans at `at` for a unit due then.
    pub(crate) fn schedule_due(&mut self, at: Timestamp) {
        self.rewind_scan(DueKey::first_at(at));
        self.next_scan_at = self.next_scan_at.min(at);
    }

    /// Scans again from `key`, after the pause that limits the rate of such scans.
    pub(crate) fn rescan_soon(&mut self, key: DueKey) {
        self.rewind_scan(key);
        self.next_scan_at = self.next_scan_at.min(self.last_scan_at + RESCAN_PAUSE);
    }

    /// Schedules a rescan for a unit already passed by the scan.
    pub(crate) fn schedule_rescan(&mut self, key: DueKey, at: Timestamp) {
        let (earliest, least) = self.rescan_at.unwrap_or((at, key));
        self.rescan_at = Some((earliest.min(at), least.min(key)));
        self.next_scan_at = self.next_scan_at.min(at);
    }

    /// Restarts the scan after a backward step of the clock: units may be due at times already scanned.
    pub(crate) fn detect_clock_step(&mut self, now: Timestamp) {
        if now < self.last_scan_at {
            (self.scan_position, self.next_scan_at, self.last_scan_at) = (None, now, now);
        }
    }

    /// Returns a notification of a new unit that is ready.
    pub(crate) fn try_new_unit(&mut self) -> Option<NewUnit> {
        self.new_units.as_mut()?.try_recv()
    }

    /// Moves the start of the next scan back to `key`.
    fn rewind_scan(&mut self, key: DueKey) {
        self.scan_position = self.scan_position.map(|position| position.min(key.previous()));
    }

    fn poll_event(&mut self, context: &mut Context<'_>, accepts_new_units: bool) -> Poll<ShardEvent> {
        if let Poll::Ready(from) = self.rescan_request.as_mut().poll(context) {
            self.rescan_request = rescan_request(&self.spool, self.lease.shard());
            self.rescan_soon(from);
            return Poll::Ready(ShardEvent::ScanBroughtForward);
        }
        let Some(new_units) = self.new_units.as_mut().filter(|_| accepts_new_units) else { return Poll::Pending };
        let received = pin!(new_units.recv()).poll(context);
        match received {
            Poll::Ready(Some(new_unit)) => Poll::Ready(ShardEvent::NewUnit(new_unit)),
            Poll::Ready(None) => {
                self.new_units = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Waits for the next event of any shard. A dropped future loses nothing.
pub(crate) async fn next_event(shards: &mut [ShardState], accepts_new_units: bool) -> ShardEvent {
    poll_fn(|context| {
        let events = shards.iter_mut().map(|shard| shard.poll_event(context, accepts_new_units));
        events.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

fn rescan_request(spool: &Arc<dyn Spool>, shard: ShardId) -> RescanRequest {
    let spool = Arc::clone(spool);
    Box::pin(async move { spool.rescan_from(shard).await })
}
