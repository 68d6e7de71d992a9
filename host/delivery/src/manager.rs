//! Queue manager loop: holds the active queue.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use waxwing_net::{Shutdown, spawn};
use waxwing_pipeline::{Events, Pipeline, Submit, Trace, Transport};
use waxwing_queue::{After, DueKey, Fresh, Lease, Settle, Spool, SpoolError, Unit};
use waxwing_types::{Clock, Message, QueueId, Timestamp};

use crate::hooks::Gates;
use crate::plan;
use crate::resting::Resting;
use crate::{DeliverySettings, Router};

/// Delivery configuration in force.
pub struct Ways {
    /// Limits and times of the queue manager.
    pub settings: DeliverySettings,
    /// Routing by recipient address.
    pub router: Router,
    /// Transports by name in the configuration.
    pub transports: HashMap<String, Arc<dyn Transport>>,
}

/// Routing and transports in force, replaceable on reload. Deliveries under way keep their transport.
pub struct CurrentWays(ArcSwap<Ways>);

impl CurrentWays {
    /// Creates the holder of a first configuration.
    #[must_use]
    pub fn new(ways: Ways) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(ways)))
    }

    /// Replaces the configuration for later deliveries.
    pub fn replace(&self, ways: Ways) {
        self.0.store(Arc::new(ways));
    }

    pub(crate) fn get(&self) -> Arc<Ways> {
        self.0.load_full()
    }
}

/// Services used by the queue manager.
pub struct Parts {
    /// Settings, routing and transports.
    pub ways: Arc<CurrentWays>,
    /// Queue storage of messages and units.
    pub spool: Arc<dyn Spool>,
    /// Hooks of the queue and of delivery.
    pub pipeline: Arc<Pipeline>,
    /// Runs the intake hooks on DSNs and plugin submissions.
    pub submit: Arc<dyn Submit>,
    /// Receives accounting events.
    pub events: Arc<dyn Events>,
    /// Receives the trace of each attempt.
    pub trace: Arc<dyn Trace>,
    /// Wall clock and monotonic time.
    pub clock: Arc<dyn Clock>,
}

/// Units read from the spool by one scan.
const SCAN_UNITS: usize = 200;
/// Fraction (1/n) of the active queue reserved for new units, so that a large deferred queue does not delay new mail.
const FRESH_SHARE: usize = 8;
/// Capacity of the channel of finished units; an entry is a few octets.
const DONE_MAX: usize = 4_096;
/// Longest sleep of the loop, and so the delay until a step of the clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Time for open attempts to end after a shutdown request.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Pause between two scans of the due index for dropped new-unit notifications.
const SCAN_PAUSE: Duration = Duration::from_millis(5);
/// Pause after an error of the spool.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Queue id and unit number.
pub(crate) type UnitKey = (QueueId, u16);

/// Notification: the unit has no open attempt any more.
pub(crate) struct Done {
    pub(crate) key: UnitKey,
    pub(crate) next: Next,
}

/// Action of the manager for a unit without open attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The unit is gone or on hold.
    Nothing,
    /// The unit is due at the given time.
    DueAt(Timestamp),
    /// The unit was not settled and keeps its place in the due index.
    LookAgain(DueKey),
}

/// State shared by the manager and all attempts.
pub(crate) struct Core {
    pub(crate) parts: Parts,
    pub(crate) lease: Lease,
    pub(crate) done: mpsc::Sender<Done>,
    /// Limits on concurrent plugin calls.
    pub(crate) gates: Gates,
    /// Destinations suspended by plugins.
    pub(crate) resting: Resting,
}

impl Core {
    /// Returns the configuration in force.
    pub(crate) fn ways(&self) -> Arc<Ways> {
        self.parts.ways.get()
    }
}

/// Set of units under delivery. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ActiveUnits(Arc<Mutex<HashSet<UnitKey>>>);

impl ActiveUnits {
    /// Returns true while an attempt for the unit is open.
    #[must_use]
    pub fn contains(&self, id: QueueId, number: u16) -> bool {
        self.0.lock().contains(&(id, number))
    }

    /// Number of active units.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    fn insert(&self, key: UnitKey) -> bool {
        self.0.lock().insert(key)
    }

    fn remove(&self, key: UnitKey) {
        self.0.lock().remove(&key);
    }
}

impl FromIterator<UnitKey> for ActiveUnits {
    fn from_iter<I: IntoIterator<Item = UnitKey>>(units: I) -> Self {
        Self(Arc::new(Mutex::new(units.into_iter().collect())))
    }
}

/// The queue manager.
pub struct QueueManager {
    core: Arc<Core>,
    finished: mpsc::Receiver<Done>,
    active: ActiveUnits,
    /// Position of the scan in the due index. Units below are announced by notification or by their own attempt.
    position: Option<DueKey>,
    /// Highest key reached by any scan. A notification of a unit above is the first mention of the unit.
    passed: Option<DueKey>,
    /// Scheduled rescan: its time, and the lowest key to read again.
    again: Option<(Timestamp, DueKey)>,
    /// Time of the next scan of the due index.
    wake_at: Timestamp,
    /// Time of the last scan.
    scanned_at: Timestamp,
}

impl QueueManager {
    /// Acquires the lease on the spool's units. Errors if the spool fails.
    pub async fn new(parts: Parts) -> Result<Self, SpoolError> {
        let lease = parts.spool.acquire().await?;
        let (done, finished) = mpsc::channel(DONE_MAX);
        let wake_at = parts.clock.now();
        let core = Arc::new(Core { parts, lease, done, gates: Gates::default(), resting: Resting::default() });
        let active = ActiveUnits::default();
        Ok(Self { core, finished, active, position: None, passed: None, again: None, wake_at, scanned_at: wake_at })
    }

    /// Returns the set of active units, for the operator's listings.
    #[must_use]
    pub fn active(&self) -> ActiveUnits {
        self.active.clone()
    }

    /// Delivers until shutdown, then waits up to 20 seconds for open attempts. Returns early with an error only if the spool is
    /// lost.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<(), SpoolError> {
        let spool = Arc::clone(&self.core.parts.spool);
        let mut fresh = spool.fresh();
        let mut hints = true;
        let mut rescan = spool.rescan();
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed_for = self.wake_at;
        loop {
            while let Ok(done) = self.finished.try_recv() {
                self.finish(&done);
            }
            if shutdown.is_triggered() {
                break;
            }
            let now = self.core.parts.clock.now();
            self.notice_clock(now);
            let may_scan = self.scan_room() >= self.scan_room_min();
            if may_scan && now >= self.wake_at {
                self.scan(now).await?;
                self.take_hints(&mut fresh);
                continue;
            }
            if armed_for != self.wake_at {
                armed_for = self.wake_at;
                sleep.as_mut().reset(tokio::time::Instant::now() + armed_for.since(now).min(SLEEP_MAX));
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                Some(done) = self.finished.recv() => self.finish(&done),
                from = &mut rescan => {
                    rescan = spool.rescan();
                    self.look_from(from);
                    self.wake_at = self.wake_at.min(self.scanned_at + SCAN_PAUSE);
                }
                hint = fresh.recv(), if hints && self.has_room() => match hint {
                    Some(hint) => self.take(hint),
                    None => hints = false,
                },
                () = &mut sleep, if may_scan => armed_for = Timestamp::default(),
            }
        }
        self.drain().await;
        Ok(())
    }

    fn finish(&mut self, done: &Done) {
        self.active.remove(done.key);
        match done.next {
            Next::Nothing => {}
            Next::DueAt(at) => {
                self.look_from(DueKey::first_at(at));
                self.wake_at = self.wake_at.min(at);
            }
            Next::LookAgain(key) => {
                let pause = self.core.ways().settings.minimal_backoff_time;
                self.look_again(key, self.core.parts.clock.now() + pause);
            }
        }
    }

    /// Moves the start of the next scan back to `key`.
    fn look_from(&mut self, key: DueKey) {
        self.position = self.position.map(|position| position.min(key.previous()));
    }

    /// Schedules a rescan for a unit already passed by the scan.
    fn look_again(&mut self, key: DueKey, at: Timestamp) {
        let (earliest, least) = self.again.unwrap_or((at, key));
        self.again = Some((earliest.min(at), least.min(key)));
        self.wake_at = self.wake_at.min(at);
    }

    /// Restarts the scan after a backward step of the clock: units may be due at times already scanned.
    fn notice_clock(&mut self, now: Timestamp) {
        if now < self.scanned_at {
            (self.position, self.wake_at, self.scanned_at) = (None, now, now);
        }
    }

    fn has_room(&self) -> bool {
        self.active.count() < self.core.ways().settings.active_limit
    }

    /// Number of units a scan may activate.
    fn scan_room(&self) -> usize {
        let limit = self.core.ways().settings.active_limit;
        (limit - limit / FRESH_SHARE).saturating_sub(self.active.count())
    }

    /// Smallest capacity worth a scan.
    fn scan_room_min(&self) -> usize {
        SCAN_UNITS.min(self.core.ways().settings.active_limit / 2).max(1)
    }

    /// Starts units announced during a scan, at most as many as a scan reads.
    fn take_hints(&mut self, fresh: &mut mpsc::Receiver<Fresh>) {
        for _ in 0..SCAN_UNITS {
            if !self.has_room() {
                return;
            }
            match fresh.try_recv() {
                Ok(hint) => self.take(hint),
                Err(_) => return,
            }
        }
    }

    /// Starts a new unit. A scan may have been faster, and the unit gone by now.
    fn take(&mut self, Fresh { unit, message }: Fresh) {
        let key = unit.due_key();
        let first_seen = self.passed.is_none_or(|passed| key > passed);
        match first_seen.then_some(true).or_else(|| self.core.parts.spool.is_current(&unit)) {
            Some(true) => self.start(unit, message),
            Some(false) => {}
            None => {
                self.look_from(key);
                self.wake_at = self.wake_at.min(self.scanned_at + SCAN_PAUSE);
            }
        }
    }

    /// Activates due units: one batch, within the capacity.
    async fn scan(&mut self, now: Timestamp) -> Result<(), SpoolError> {
        let spool = Arc::clone(&self.core.parts.spool);
        let lease = self.core.lease;
        self.scanned_at = now;
        if let Some((_, key)) = self.again.take_if(|(at, _)| *at <= now) {
            self.look_from(key);
        }
        let wanted = self.scan_room().min(SCAN_UNITS);
        let units = match spool.scan_due(&lease, self.position, now, wanted).await {
            Ok(units) => units,
            Err(error) => return self.scan_failed(error, now),
        };
        let scanned_all = units.len() < wanted;
        for unit in units {
            let key = unit.due_key();
            self.position = Some(key);
            self.passed = self.passed.max(Some(key));
            if !self.active.contains(unit.id, unit.number) {
                self.load_and_start(unit, now).await?;
            }
        }
        if !scanned_all {
            return Ok(());
        }
        // All due units are active. Later units are announced by notification, so only later due times matter here.
        let activated = DueKey::first_at(now + Duration::from_millis(1)).previous();
        match spool.next_due(&lease, self.position.max(Some(activated))).await {
            Ok(next) => self.wake_at = next.unwrap_or(now + SLEEP_MAX).min(now + SLEEP_MAX),
            Err(error) => return self.scan_failed(error, now),
        }
        if let Some((at, _)) = self.again {
            self.wake_at = self.wake_at.min(at);
        }
        Ok(())
    }

    /// Handles an error of the whole queue: temporary errors lead to another scan.
    fn scan_failed(&mut self, error: SpoolError, now: Timestamp) -> Result<(), SpoolError> {
        if error.is_fatal() {
            return Err(error);
        }
        tracing::error!(target: "queue", "reading the queue failed, retrying: {error}");
        self.wake_at = now + SPOOL_PAUSE;
        Ok(())
    }

    /// Loads and starts one unit. An error of one unit does not delay others: the unit is rescanned later.
    async fn load_and_start(&mut self, unit: Unit, now: Timestamp) -> Result<(), SpoolError> {
        let key = unit.due_key();
        let result = match self.core.parts.spool.load(unit.id).await {
            Ok(message) => {
                self.start(unit, message);
                Ok(())
            }
            Err(SpoolError::Corrupt(why)) => park(&self.core, unit, &why).await,
            Err(SpoolError::NotFound) => park(&self.core, unit, "message record missing").await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::error!(target: "queue", "{}: reading the message failed, retrying later: {error}", key.id);
                self.look_again(key, now + self.core.ways().settings.minimal_backoff_time);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Starts the attempts of a unit.
    fn start(&mut self, unit: Unit, message: Message) {
        let key = (unit.id, unit.number);
        if !self.active.insert(key) {
            return;
        }
        match plan::is_wanted(&self.core, &unit) {
            true => drop(spawn("plan", plan::run(Arc::clone(&self.core), unit, message))),
            false => plan::start(&self.core, unit, message),
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
        if tokio::time::timeout(DRAIN_MAX, all_done).await.is_err() {
            tracing::warn!(target: "queue", "shutdown: {} attempts aborted", self.active.count());
        }
    }
}

/// Moves a unit to the corrupt queue.
async fn park(core: &Core, unit: Unit, why: &str) -> Result<(), SpoolError> {
    tracing::error!(target: "queue", "{}: moved to the corrupt queue: {why}", unit.id);
    let settle = Settle {
        remaining: unit.recipients.clone(),
        attempts: unit.attempts,
        after: After::Corrupt(why.to_owned()),
        unit,
        made: Vec::new(),
    };
    core.parts.spool.settle(&core.lease, settle).await.map(drop)
}

pub(crate) async fn park_and_tell(core: Arc<Core>, unit: Unit) {
    let (key, due) = ((unit.id, unit.number), unit.due_key());
    let next = match park(&core, unit, "the envelope lacks recipients of the unit").await {
        Ok(()) => Next::Nothing,
        Err(error) => {
            tracing::error!(target: "queue", "{}: moving to the corrupt queue failed: {error}", due.id);
            Next::LookAgain(due)
        }
    };
    // The send fails only while the server stops, after the end of the manager.
    let _ = core.done.send(Done { key, next }).await;
}
