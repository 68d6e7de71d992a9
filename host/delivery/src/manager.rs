//! Queue manager loop: holds the active queue.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use waxwing_net::{Shutdown, spawn};
use waxwing_spool::{DueKey, NewUnit, NewUnits, SpoolError, Unit};
use waxwing_types::{Message, Timestamp};

use crate::context::{ActiveUnits, DeliveryContext, DeliveryServices, FollowUp, UnitFinished};
use crate::corrupt::move_to_corrupt;
use crate::dead_destinations::DeadDestinations;
use crate::plugin_call_limits::PluginCallLimits;
use crate::prepare;

/// Units read from the spool by one scan.
const SCAN_UNITS_MAX: usize = 200;
/// Fraction (1/n) of the active queue reserved for new units, so that a large deferred queue does not delay new mail.
const NEW_UNIT_SHARE: usize = 8;
/// Capacity of the channel of finished units; an entry is a few octets.
const FINISHED_QUEUE_MAX: usize = 4_096;
/// Longest sleep of the loop, and so the delay until a step of the clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Time for open attempts to end after a shutdown request.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(20);
/// Pause between two scans of the due index for dropped new-unit notifications.
const RESCAN_PAUSE: Duration = Duration::from_millis(5);
/// Pause after an error of the spool.
const SPOOL_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The queue manager.
pub struct QueueManager {
    context: Arc<DeliveryContext>,
    finished: mpsc::Receiver<UnitFinished>,
    active: ActiveUnits,
    /// Position of the scan in the due index. Units below are announced by notification or by their own attempt.
    scan_position: Option<DueKey>,
    /// Highest key reached by any scan. A notification of a unit above is the first mention of the unit.
    highest_scanned: Option<DueKey>,
    /// Scheduled rescan: its time, and the lowest key to read again.
    rescan_at: Option<(Timestamp, DueKey)>,
    /// Time of the next scan of the due index.
    next_scan_at: Timestamp,
    /// Time of the last scan.
    last_scan_at: Timestamp,
}

impl QueueManager {
    /// Acquires the lease on the spool's units. Errors if the spool fails.
    pub async fn new(parts: DeliveryServices) -> Result<Self, SpoolError> {
        let lease = parts.spool.acquire(waxwing_spool::ShardId::FIRST).await?;
        let (done, finished) = mpsc::channel(FINISHED_QUEUE_MAX);
        let wake_at = parts.clock.now();
        let core = Arc::new(DeliveryContext {
            services: parts,
            lease,
            finished: done,
            plugin_limits: PluginCallLimits::default(),
            dead_destinations: DeadDestinations::default(),
        });
        let active = ActiveUnits::default();
        Ok(Self {
            context: core,
            finished,
            active,
            scan_position: None,
            highest_scanned: None,
            rescan_at: None,
            next_scan_at: wake_at,
            last_scan_at: wake_at,
        })
    }

    /// Returns the set of active units, for the operator's listings.
    #[must_use]
    pub fn active_units(&self) -> ActiveUnits {
        self.active.clone()
    }

    /// Delivers until shutdown, then waits up to 20 seconds for open attempts. Returns early with an error only if the spool is
    /// lost.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<(), SpoolError> {
        let spool = Arc::clone(&self.context.services.spool);
        let mut fresh = spool.new_units(waxwing_spool::ShardId::FIRST);
        let mut hints = true;
        let mut rescan = spool.rescan_from(waxwing_spool::ShardId::FIRST);
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed_for = self.next_scan_at;
        loop {
            while let Ok(done) = self.finished.try_recv() {
                self.handle_finished(&done);
            }
            if shutdown.is_triggered() {
                break;
            }
            let now = self.context.services.clock.now();
            self.detect_clock_step(now);
            let may_scan = self.scan_capacity() >= self.scan_capacity_min();
            if may_scan && now >= self.next_scan_at {
                self.scan(now).await?;
                self.start_announced_units(&mut fresh);
                continue;
            }
            if armed_for != self.next_scan_at {
                armed_for = self.next_scan_at;
                sleep.as_mut().reset(tokio::time::Instant::now() + armed_for.since(now).min(SLEEP_MAX));
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                Some(done) = self.finished.recv() => self.handle_finished(&done),
                from = &mut rescan => {
                    rescan = spool.rescan_from(waxwing_spool::ShardId::FIRST);
                    self.rewind_scan(from);
                    self.next_scan_at = self.next_scan_at.min(self.last_scan_at + RESCAN_PAUSE);
                }
                hint = fresh.recv(), if hints && self.has_capacity() => match hint {
                    Some(hint) => self.start_new_unit(hint),
                    None => hints = false,
                },
                () = &mut sleep, if may_scan => armed_for = Timestamp::default(),
            }
        }
        self.drain().await;
        Ok(())
    }

    fn handle_finished(&mut self, done: &UnitFinished) {
        self.active.remove(done.key);
        match done.next {
            FollowUp::Nothing => {}
            FollowUp::DueAt(at) => {
                self.rewind_scan(DueKey::first_at(at));
                self.next_scan_at = self.next_scan_at.min(at);
            }
            FollowUp::Rescan(key) => {
                let pause = self.context.routing().settings.minimal_backoff_time;
                self.schedule_rescan(key, self.context.services.clock.now() + pause);
            }
        }
    }

    /// Moves the start of the next scan back to `key`.
    fn rewind_scan(&mut self, key: DueKey) {
        self.scan_position = self.scan_position.map(|position| position.min(key.previous()));
    }

    /// Schedules a rescan for a unit already passed by the scan.
    fn schedule_rescan(&mut self, key: DueKey, at: Timestamp) {
        let (earliest, least) = self.rescan_at.unwrap_or((at, key));
        self.rescan_at = Some((earliest.min(at), least.min(key)));
        self.next_scan_at = self.next_scan_at.min(at);
    }

    /// Restarts the scan after a backward step of the clock: units may be due at times already scanned.
    fn detect_clock_step(&mut self, now: Timestamp) {
        if now < self.last_scan_at {
            (self.scan_position, self.next_scan_at, self.last_scan_at) = (None, now, now);
        }
    }

    fn has_capacity(&self) -> bool {
        self.active.count() < self.context.routing().settings.qmgr_message_active_limit
    }

    /// Number of units a scan may activate.
    fn scan_capacity(&self) -> usize {
        let limit = self.context.routing().settings.qmgr_message_active_limit;
        (limit - limit / NEW_UNIT_SHARE).saturating_sub(self.active.count())
    }

    /// Smallest capacity worth a scan.
    fn scan_capacity_min(&self) -> usize {
        SCAN_UNITS_MAX.min(self.context.routing().settings.qmgr_message_active_limit / 2).max(1)
    }

    /// Starts units announced during a scan, at most as many as a scan reads.
    fn start_announced_units(&mut self, fresh: &mut NewUnits) {
        for _ in 0..SCAN_UNITS_MAX {
            if !self.has_capacity() {
                return;
            }
            match fresh.try_recv() {
                Some(hint) => self.start_new_unit(hint),
                None => return,
            }
        }
    }

    /// Starts a new unit. A scan may have been faster, and the unit gone by now.
    fn start_new_unit(&mut self, NewUnit { unit, message }: NewUnit) {
        let key = unit.due_key();
        let first_seen = self.highest_scanned.is_none_or(|passed| key > passed);
        match first_seen.then_some(true).or_else(|| self.context.services.spool.is_current(&unit)) {
            Some(true) => self.start_attempts(unit, message),
            Some(false) => {}
            None => {
                self.rewind_scan(key);
                self.next_scan_at = self.next_scan_at.min(self.last_scan_at + RESCAN_PAUSE);
            }
        }
    }

    /// Activates due units: one batch, within the capacity.
    async fn scan(&mut self, now: Timestamp) -> Result<(), SpoolError> {
        let spool = Arc::clone(&self.context.services.spool);
        let lease = self.context.lease;
        self.last_scan_at = now;
        if let Some((_, key)) = self.rescan_at.take_if(|(at, _)| *at <= now) {
            self.rewind_scan(key);
        }
        let wanted = self.scan_capacity().min(SCAN_UNITS_MAX);
        let units = match spool.scan_due(&lease, self.scan_position, now, wanted).await {
            Ok(units) => units,
            Err(error) => return self.handle_scan_error(error, now),
        };
        let scanned_all = units.len() < wanted;
        for unit in units {
            let key = unit.due_key();
            self.scan_position = Some(key);
            self.highest_scanned = self.highest_scanned.max(Some(key));
            if !self.active.contains(unit.id, unit.number) {
                self.load_and_start(unit, now).await?;
            }
        }
        if !scanned_all {
            return Ok(());
        }
        // All due units are active. Later units are announced by notification, so only later due times matter here.
        let activated = DueKey::first_at(now + Duration::from_millis(1)).previous();
        match spool.next_due(&lease, self.scan_position.max(Some(activated))).await {
            Ok(next) => self.next_scan_at = next.unwrap_or(now + SLEEP_MAX).min(now + SLEEP_MAX),
            Err(error) => return self.handle_scan_error(error, now),
        }
        if let Some((at, _)) = self.rescan_at {
            self.next_scan_at = self.next_scan_at.min(at);
        }
        Ok(())
    }

    /// Handles an error of the whole queue: temporary errors lead to another scan.
    fn handle_scan_error(&mut self, error: SpoolError, now: Timestamp) -> Result<(), SpoolError> {
        if error.is_fatal() {
            return Err(error);
        }
        tracing::error!(target: "queue", "reading the queue failed, retrying: {error}");
        self.next_scan_at = now + SPOOL_RETRY_PAUSE;
        Ok(())
    }

    /// Loads and starts one unit. An error of one unit does not delay others: the unit is rescanned later.
    async fn load_and_start(&mut self, unit: Unit, now: Timestamp) -> Result<(), SpoolError> {
        let key = unit.due_key();
        let result = match self.context.services.spool.load(unit.id).await {
            Ok(message) => {
                self.start_attempts(unit, message);
                Ok(())
            }
            Err(SpoolError::Corrupt(why)) => move_to_corrupt(&self.context, unit, &why).await,
            Err(SpoolError::NotFound) => move_to_corrupt(&self.context, unit, "message record missing").await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::error!(target: "queue", "{}: reading the message failed, retrying later: {error}", key.id);
                self.schedule_rescan(key, now + self.context.routing().settings.minimal_backoff_time);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Starts the attempts of a unit.
    fn start_attempts(&mut self, unit: Unit, message: Message) {
        let key = (unit.id, unit.number);
        if !self.active.insert(key) {
            return;
        }
        match prepare::needs_hooks(&self.context, &unit) {
            true => drop(spawn("plan", prepare::run_hooks(Arc::clone(&self.context), unit, message))),
            false => prepare::start_without_hooks(&self.context, unit, message),
        }
    }

    /// Waits for open attempts; all other units stay in the queue.
    async fn drain(&mut self) {
        let all_done = async {
            while self.active.count() > 0 {
                match self.finished.recv().await {
                    Some(done) => self.active.remove(done.key),
                    None => break,
                };
            }
        };
        if tokio::time::timeout(DRAIN_TIME_MAX, all_done).await.is_err() {
            tracing::warn!(target: "queue", "shutdown: {} attempts aborted", self.active.count());
        }
    }
}
