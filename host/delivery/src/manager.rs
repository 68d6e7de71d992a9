//! The loop that holds the active queue.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use waxwing_net::{Shutdown, spawn};
use waxwing_pipeline::{Submit, Trace, Transport};
use waxwing_queue::{After, DueKey, Fresh, Lease, Settle, Spool, SpoolError, Unit};
use waxwing_types::{Clock, Message, NextHop, QueueId, Timestamp};

use crate::attempt::{self, Active};
use crate::{DeliverySettings, Router};

/// What the queue manager is made of.
pub struct Parts {
    /// Its numbers.
    pub settings: DeliverySettings,
    /// Where messages are.
    pub spool: Arc<dyn Spool>,
    /// Where they go.
    pub router: Router,
    /// By name in the configuration.
    pub transports: HashMap<String, Arc<dyn Transport>>,
    /// Takes reports through the hooks.
    pub submit: Arc<dyn Submit>,
    /// Keeps what became of each attempt.
    pub trace: Arc<dyn Trace>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Units read from the spool at once.
const SCAN_UNITS: usize = 200;
/// Waiting words of finished units; each is a few octets.
const DONE_MAX: usize = 4_096;
/// The longest sleep: a clock that was set is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long open attempts may go on after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Between two looks at the due index: what comes in meanwhile comes by hint.
const SCAN_PAUSE: Duration = Duration::from_millis(5);
/// Pause after the spool failed to answer.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Which unit.
pub(crate) type UnitKey = (QueueId, u16);

/// A unit has no open attempt any more.
pub(crate) struct Done {
    pub(crate) key: UnitKey,
    /// When it is due again, if anybody still waits.
    pub(crate) next_at: Option<Timestamp>,
}

/// What attempts share with the manager.
pub(crate) struct Core {
    pub(crate) parts: Parts,
    pub(crate) lease: Lease,
    pub(crate) done: mpsc::Sender<Done>,
}

/// The queue manager.
pub struct QueueManager {
    core: Arc<Core>,
    finished: mpsc::Receiver<Done>,
    active: HashSet<UnitKey>,
    /// The due index has been taken up to here.
    position: Option<DueKey>,
    /// When to look at the due index again.
    wake_at: Timestamp,
}

impl QueueManager {
    /// Becomes the owner of the spool's units.
    pub async fn new(parts: Parts) -> Result<Self, SpoolError> {
        let lease = parts.spool.acquire().await?;
        let (done, finished) = mpsc::channel(DONE_MAX);
        let wake_at = parts.clock.now();
        let core = Arc::new(Core { parts, lease, done });
        Ok(Self { core, finished, active: HashSet::new(), position: None, wake_at })
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
            let room = self.active.len() < self.core.parts.settings.active_limit;
            let now = self.core.parts.clock.now();
            if room && now >= self.wake_at {
                self.scan().await?;
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
                hint = fresh.recv(), if room && hints => match hint {
                    Some(Fresh { unit, message }) => self.start(unit, message),
                    None => hints = false,
                },
                from = &mut rescan => {
                    rescan = spool.rescan();
                    self.position = self.position.map(|p| p.min(from));
                    self.wake_at = now;
                }
                () = &mut sleep, if room => armed_for = Timestamp::default(),
            }
        }
        self.drain().await;
        Ok(())
    }

    fn finish(&mut self, done: &Done) {
        self.active.remove(&done.key);
        if let Some(next_at) = done.next_at {
            self.wake_at = self.wake_at.min(next_at);
        }
    }

    /// Takes up what is due, as far as there is room.
    async fn scan(&mut self) -> Result<(), SpoolError> {
        let spool = Arc::clone(&self.core.parts.spool);
        let lease = self.core.lease;
        let now = self.core.parts.clock.now();
        loop {
            let room = self.core.parts.settings.active_limit.saturating_sub(self.active.len());
            if room == 0 {
                return Ok(());
            }
            let units = match spool.scan_due(&lease, self.position, now, room.min(SCAN_UNITS)).await {
                Ok(units) => units,
                Err(error) => return self.scan_failed(error, now),
            };
            if units.is_empty() {
                break;
            }
            for unit in units {
                self.position = Some(unit.due_key());
                if !self.active.contains(&(unit.id, unit.number))
                    && let Err(error) = self.load_and_start(unit).await
                {
                    self.position = None;
                    return self.scan_failed(error, now);
                }
            }
        }
        match spool.next_due(&lease, self.position).await {
            Ok(next) => self.wake_at = next.unwrap_or(now + SLEEP_MAX).max(now + SCAN_PAUSE),
            Err(error) => return self.scan_failed(error, now),
        }
        Ok(())
    }

    fn scan_failed(&mut self, error: SpoolError, now: Timestamp) -> Result<(), SpoolError> {
        match error {
            SpoolError::Fenced | SpoolError::Store(_) => Err(error),
            SpoolError::Full { .. }
            | SpoolError::NotFound
            | SpoolError::Corrupt(_)
            | SpoolError::Conflict
            | SpoolError::Invalid(_)
            | SpoolError::Io(_) => {
                tracing::error!(target: "queue", "the queue can't be read now: {error}");
                self.wake_at = now + SPOOL_PAUSE;
                Ok(())
            }
        }
    }

    async fn load_and_start(&mut self, unit: Unit) -> Result<(), SpoolError> {
        match self.core.parts.spool.load(unit.id).await {
            Ok(message) => self.start(unit, message),
            Err(SpoolError::Corrupt(why)) => {
                tracing::error!(target: "queue", "{}: moved to the corrupt queue: {why}", unit.id);
                let settle = Settle {
                    remaining: unit.recipients.clone(),
                    attempts: unit.attempts,
                    after: After::Corrupt(why.to_string()),
                    unit,
                    dsn: None,
                };
                drop(self.core.parts.spool.settle(&self.core.lease, settle).await?);
            }
            Err(SpoolError::NotFound) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// One attempt for each next hop of the unit.
    fn start(&mut self, unit: Unit, message: Message) {
        if !self.active.insert((unit.id, unit.number)) {
            return;
        }
        let hops = self.hops(&unit, &message);
        let active = Arc::new(Active::new(unit, message, hops.len(), self.core.parts.clock.now()));
        for (hop, recipients) in hops {
            spawn("attempt", attempt::run(Arc::clone(&self.core), Arc::clone(&active), hop, recipients));
        }
    }

    /// The unit's recipients by next hop, in order of first mention.
    fn hops(&self, unit: &Unit, message: &Message) -> Vec<(NextHop, Vec<u32>)> {
        let mut hops: Vec<(NextHop, Vec<u32>)> = Vec::with_capacity(1);
        for recipient in &unit.recipients {
            let Some(to) = message.envelope.recipients.get(recipient.index as usize) else { continue };
            let hop = self.core.parts.router.route(&to.address);
            match hops.iter_mut().find(|(h, _)| *h == hop) {
                Some((_, list)) => list.push(recipient.index),
                None => hops.push((hop, vec![recipient.index])),
            }
        }
        hops
    }

    /// What is open may end; what is not stays in the queue.
    async fn drain(&mut self) {
        let all_done = async {
            while !self.active.is_empty() {
                match self.finished.recv().await {
                    Some(done) => self.active.remove(&done.key),
                    None => break,
                };
            }
        };
        if tokio::time::timeout(DRAIN_MAX, all_done).await.is_err() {
            tracing::warn!(target: "queue", "{} attempts were cut off by the shutdown", self.active.len());
        }
    }
}
