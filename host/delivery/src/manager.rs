//! The loop that holds the active queue.

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

/// What a configuration says of delivery.
pub struct Ways {
    /// The numbers.
    pub settings: DeliverySettings,
    /// Where messages go.
    pub router: Router,
    /// By name in the configuration.
    pub transports: HashMap<String, Arc<dyn Transport>>,
}

/// The ways of now. A delivery that is under way keeps its transport.
pub struct CurrentWays(ArcSwap<Ways>);

impl CurrentWays {
    /// These.
    #[must_use]
    pub fn new(ways: Ways) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(ways)))
    }

    /// Others from now on.
    pub fn replace(&self, ways: Ways) {
        self.0.store(Arc::new(ways));
    }

    pub(crate) fn get(&self) -> Arc<Ways> {
        self.0.load_full()
    }
}

/// What the queue manager is made of.
pub struct Parts {
    /// Its numbers, where messages go, and how.
    pub ways: Arc<CurrentWays>,
    /// Where messages are.
    pub spool: Arc<dyn Spool>,
    /// The hooks of the queue and of delivery.
    pub pipeline: Arc<Pipeline>,
    /// Takes reports, and mail that plugins send, through the hooks.
    pub submit: Arc<dyn Submit>,
    /// Hears of what became of mail.
    pub events: Arc<dyn Events>,
    /// Keeps what became of each attempt.
    pub trace: Arc<dyn Trace>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Units read from the spool at once.
const SCAN_UNITS: usize = 200;
/// This part of the active queue is kept for what has just come in: a large deferred queue must not hold it up.
const FRESH_SHARE: usize = 8;
/// Waiting words of finished units; each is a few octets.
const DONE_MAX: usize = 4_096;
/// The longest sleep: a clock that was set is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long open attempts may go on after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Between two looks at the due index for hints that were dropped.
const SCAN_PAUSE: Duration = Duration::from_millis(5);
/// Pause after the spool failed to answer.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Which unit.
pub(crate) type UnitKey = (QueueId, u16);

/// A unit has no open attempt any more.
pub(crate) struct Done {
    pub(crate) key: UnitKey,
    pub(crate) next: Next,
}

/// What the manager has to do about a unit whose attempts have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nobody waits, or the operator decides.
    Nothing,
    /// It is due then.
    DueAt(Timestamp),
    /// It was not settled and stands where it stood.
    LookAgain(DueKey),
}

/// What attempts share with the manager.
pub(crate) struct Core {
    pub(crate) parts: Parts,
    pub(crate) lease: Lease,
    pub(crate) done: mpsc::Sender<Done>,
    /// Who may call plugins now.
    pub(crate) gates: Gates,
    /// Destinations that are left alone for a while.
    pub(crate) resting: Resting,
}

impl Core {
    /// What the configuration says now.
    pub(crate) fn ways(&self) -> Arc<Ways> {
        self.parts.ways.get()
    }
}

/// Which units are being tried. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ActiveUnits(Arc<Mutex<HashSet<UnitKey>>>);

impl ActiveUnits {
    /// An attempt for this unit is under way.
    #[must_use]
    pub fn contains(&self, id: QueueId, number: u16) -> bool {
        self.0.lock().contains(&(id, number))
    }

    /// How many there are.
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
    /// The due index has been taken up to here; what appears below is told by hint, or by its own attempt.
    position: Option<DueKey>,
    /// The furthest that any scan came: a hint of a unit above it is the first that is heard of that unit.
    passed: Option<DueKey>,
    /// From this unit on the index is to be read again at that time.
    again: Option<(Timestamp, DueKey)>,
    /// When to look at the due index again.
    wake_at: Timestamp,
    /// When that was done last.
    scanned_at: Timestamp,
}

impl QueueManager {
    /// Becomes the owner of the spool's units.
    pub async fn new(parts: Parts) -> Result<Self, SpoolError> {
        let lease = parts.spool.acquire().await?;
        let (done, finished) = mpsc::channel(DONE_MAX);
        let wake_at = parts.clock.now();
        let core = Arc::new(Core { parts, lease, done, gates: Gates::default(), resting: Resting::default() });
        let active = ActiveUnits::default();
        Ok(Self { core, finished, active, position: None, passed: None, again: None, wake_at, scanned_at: wake_at })
    }

    /// The units that are being tried, for the operator's lists.
    #[must_use]
    pub fn active(&self) -> ActiveUnits {
        self.active.clone()
    }

    /// Delivers until told to stop, then waits for open attempts within a limit. Returns early only if the spool is lost.
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

    /// The next scan begins at this place, or before.
    fn look_from(&mut self, key: DueKey) {
        self.position = self.position.map(|position| position.min(key.previous()));
    }

    /// A unit that the scan has passed is to be found again.
    fn look_again(&mut self, key: DueKey, at: Timestamp) {
        let (earliest, least) = self.again.unwrap_or((at, key));
        self.again = Some((earliest.min(at), least.min(key)));
        self.wake_at = self.wake_at.min(at);
    }

    /// A clock that was set back: units are due in times that were passed already.
    fn notice_clock(&mut self, now: Timestamp) {
        if now < self.scanned_at {
            (self.position, self.wake_at, self.scanned_at) = (None, now, now);
        }
    }

    fn has_room(&self) -> bool {
        self.active.count() < self.core.ways().settings.active_limit
    }

    /// Units that a scan may take up.
    fn scan_room(&self) -> usize {
        let limit = self.core.ways().settings.active_limit;
        (limit - limit / FRESH_SHARE).saturating_sub(self.active.count())
    }

    /// A scan for fewer is not worth its price.
    fn scan_room_min(&self) -> usize {
        SCAN_UNITS.min(self.core.ways().settings.active_limit / 2).max(1)
    }

    /// What came in during a scan has its turn, as many as a scan takes.
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

    /// Starts a unit that has just come in. A scan may have been faster, and the unit be gone by now.
    fn take(&mut self, Fresh { unit, message }: Fresh) {
        let key = unit.due_key();
        let unheard = self.passed.is_none_or(|passed| key > passed);
        match unheard.then_some(true).or_else(|| self.core.parts.spool.is_current(&unit)) {
            Some(true) => self.start(unit, message),
            Some(false) => {}
            None => {
                self.look_from(key);
                self.wake_at = self.wake_at.min(self.scanned_at + SCAN_PAUSE);
            }
        }
    }

    /// Takes up what is due: one batch, as far as there is room.
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
        let all = units.len() < wanted;
        for unit in units {
            let key = unit.due_key();
            self.position = Some(key);
            self.passed = self.passed.max(Some(key));
            if !self.active.contains(unit.id, unit.number) {
                self.load_and_start(unit, now).await?;
            }
        }
        if !all {
            return Ok(());
        }
        // All that was due is taken up. What comes in from now on is told of, so that only later times matter here.
        let taken = DueKey::first_at(now + Duration::from_millis(1)).previous();
        match spool.next_due(&lease, self.position.max(Some(taken))).await {
            Ok(next) => self.wake_at = next.unwrap_or(now + SLEEP_MAX).min(now + SLEEP_MAX),
            Err(error) => return self.scan_failed(error, now),
        }
        if let Some((at, _)) = self.again {
            self.wake_at = self.wake_at.min(at);
        }
        Ok(())
    }

    /// An error of the queue as a whole: if it may pass, the scan is tried again.
    fn scan_failed(&mut self, error: SpoolError, now: Timestamp) -> Result<(), SpoolError> {
        if error.is_fatal() {
            return Err(error);
        }
        tracing::error!(target: "queue", "the queue can't be read now: {error}");
        self.wake_at = now + SPOOL_PAUSE;
        Ok(())
    }

    /// One unit's trouble does not hold up the others: it is looked at again later.
    async fn load_and_start(&mut self, unit: Unit, now: Timestamp) -> Result<(), SpoolError> {
        let key = unit.due_key();
        let result = match self.core.parts.spool.load(unit.id).await {
            Ok(message) => {
                self.start(unit, message);
                Ok(())
            }
            Err(SpoolError::Corrupt(why)) => park(&self.core, unit, &why).await,
            Err(SpoolError::NotFound) => park(&self.core, unit, "its message is gone").await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::error!(target: "queue", "{}: can't be read now: {error}", key.id);
                self.look_again(key, now + self.core.ways().settings.minimal_backoff_time);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Begins the attempts of a unit.
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

    /// What is open may end; what is not stays in the queue.
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
            tracing::warn!(target: "queue", "{} attempts were cut off by the shutdown", self.active.count());
        }
    }
}

/// Into the corrupt queue.
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
    let next = match park(&core, unit, "the envelope lacks recipients of this unit").await {
        Ok(()) => Next::Nothing,
        Err(error) => {
            tracing::error!(target: "queue", "{}: can't be moved to the corrupt queue: {error}", due.id);
            Next::LookAgain(due)
        }
    };
    // The manager is gone only when the server stops.
    let _ = core.done.send(Done { key, next }).await;
}
