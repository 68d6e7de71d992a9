//! Queue manager loop: holds the active queue.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use waxwing_net::{Shutdown, spawn};
use waxwing_spool::{DueKey, NewUnit, SpoolError, Unit};
use waxwing_types::{Message, QueueId, Timestamp};

use crate::commands::{self, QueueManagerHandle, QueuedCommand};
use crate::context::{ActiveUnits, DeliveryContext, DeliveryServices, FollowUp, UnitFinished};
use crate::corrupt::move_to_corrupt;
use crate::dead_destinations::DeadDestinations;
use crate::plugin_call_limits::PluginCallLimits;
use crate::prepare;
use crate::shard::{ShardEvent, ShardState, next_event};

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
/// Pause after an error of the spool.
const SPOOL_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The queue manager.
pub struct QueueManager {
    context: Arc<DeliveryContext>,
    finished: mpsc::Receiver<UnitFinished>,
    inbox: mpsc::Receiver<QueuedCommand>,
    handle: QueueManagerHandle,
    /// Command under way; the next one waits.
    command: Option<JoinHandle<()>>,
    active: ActiveUnits,
    /// State of each shard, the shard scanned last at the end.
    shards: Vec<ShardState>,
}

impl QueueManager {
    /// Acquires the leases on all shards of the spool. Errors if the spool fails.
    pub async fn new(services: DeliveryServices) -> Result<Self, SpoolError> {
        let spool = Arc::clone(&services.spool);
        let now = services.clock.now();
        let mut leases = Vec::new();
        for shard in spool.shards() {
            leases.push(spool.acquire(shard).await?);
        }
        let (finished_sender, finished) = mpsc::channel(FINISHED_QUEUE_MAX);
        let (handle, inbox) = QueueManagerHandle::new();
        let shards = leases.iter().map(|lease| ShardState::new(Arc::clone(&spool), *lease, now)).collect();
        let context = Arc::new(DeliveryContext {
            services,
            leases,
            finished: finished_sender,
            plugin_limits: PluginCallLimits::default(),
            dead_destinations: DeadDestinations::default(),
        });
        Ok(Self { context, finished, inbox, handle, command: None, active: ActiveUnits::default(), shards })
    }

    /// Returns a sender of the operator's commands.
    #[must_use]
    pub fn handle(&self) -> QueueManagerHandle {
        self.handle.clone()
    }

    /// Returns the set of active units, for the operator's listings.
    #[must_use]
    pub fn active_units(&self) -> ActiveUnits {
        self.active.clone()
    }

    /// Delivers until shutdown, then waits up to 20 seconds for open attempts. Returns early with an error only if the spool is
    /// lost.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<(), SpoolError> {
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed_for = None;
        loop {
            while let Ok(done) = self.finished.try_recv() {
                self.handle_finished(&done);
            }
            if shutdown.is_triggered() {
                break;
            }
            let now = self.context.services.clock.now();
            self.shards.iter_mut().for_each(|shard| shard.detect_clock_step(now));
            let may_scan = self.scan_capacity() >= self.scan_capacity_min();
            if may_scan && self.scan_due_shard(now).await? {
                continue;
            }
            let next_scan_at = self.next_scan_at(now);
            if armed_for != Some(next_scan_at) {
                armed_for = Some(next_scan_at);
                sleep.as_mut().reset(tokio::time::Instant::now() + next_scan_at.since(now).min(SLEEP_MAX));
            }
            let (has_capacity, accepts_commands) = (self.has_capacity(), self.command.is_none());
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                Some(done) = self.finished.recv() => self.handle_finished(&done),
                Some(()) = wait_for_command(&mut self.command) => self.command = None,
                Some(command) = self.inbox.recv(), if accepts_commands => self.start_command(command),
                event = next_event(&mut self.shards, has_capacity) => match event {
                    ShardEvent::NewUnit(new_unit) => self.start_new_unit(new_unit),
                    ShardEvent::ScanBroughtForward => {}
                },
                () = &mut sleep, if may_scan => armed_for = None,
            }
        }
        self.drain().await;
        Ok(())
    }

    fn start_command(&mut self, command: QueuedCommand) {
        let (context, active) = (Arc::clone(&self.context), self.active.clone());
        self.command = Some(spawn("queue-command", commands::execute(context, active, command)));
    }

    fn handle_finished(&mut self, done: &UnitFinished) {
        self.active.remove(done.key);
        let pause = self.context.routing().settings.queue.minimal_backoff_time;
        let now = self.context.services.clock.now();
        let Some(shard) = self.shard_of_message(done.key.0) else { return };
        match done.next {
            FollowUp::Nothing => {}
            FollowUp::DueAt(at) => shard.schedule_due(at),
            FollowUp::Rescan(key) => shard.schedule_rescan(key, now + pause),
            FollowUp::Commanded { from, due } => {
                shard.mark_seen(from);
                if let Some(key) = due {
                    shard.mark_seen(key);
                    shard.schedule_due(key.next_at);
                }
            }
        }
    }

    fn shard_of_message(&mut self, id: QueueId) -> Option<&mut ShardState> {
        let shard = self.context.services.spool.shard_for(id);
        self.shards.iter_mut().find(|state| state.lease.shard() == shard)
    }

    /// Time of the next scan of any shard.
    fn next_scan_at(&self, now: Timestamp) -> Timestamp {
        self.shards.iter().map(|shard| shard.next_scan_at).min().unwrap_or(now + SLEEP_MAX)
    }

    fn has_capacity(&self) -> bool {
        self.active.count() < self.context.routing().settings.queue.qmgr_message_active_limit
    }

    /// Number of units a scan may activate.
    fn scan_capacity(&self) -> usize {
        let limit = self.context.routing().settings.queue.qmgr_message_active_limit;
        (limit - limit / NEW_UNIT_SHARE).saturating_sub(self.active.count())
    }

    /// Smallest capacity worth a scan.
    fn scan_capacity_min(&self) -> usize {
        SCAN_UNITS_MAX.min(self.context.routing().settings.queue.qmgr_message_active_limit / 2).max(1)
    }

    /// Starts units announced during a scan, at most as many as a scan reads.
    fn start_announced_units(&mut self, shard: &mut ShardState) {
        for _ in 0..SCAN_UNITS_MAX {
            if !self.has_capacity() {
                return;
            }
            match shard.try_new_unit() {
                Some(new_unit) if shard.accepts_new_unit(&new_unit.unit) => self.start_attempts(new_unit.unit, new_unit.message),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Starts a new unit.
    fn start_new_unit(&mut self, NewUnit { unit, message }: NewUnit) {
        if self.shard_of_message(unit.id).is_some_and(|shard| shard.accepts_new_unit(&unit)) {
            self.start_attempts(unit, message);
        }
    }

    /// Scans a shard whose scan is due; false if none is.
    async fn scan_due_shard(&mut self, now: Timestamp) -> Result<bool, SpoolError> {
        let Some(index) = self.shards.iter().position(|shard| shard.next_scan_at <= now) else { return Ok(false) };
        let mut shard = self.shards.remove(index);
        let result = self.scan(&mut shard, now).await;
        if result.is_ok() {
            self.start_announced_units(&mut shard);
        }
        // At the end, so that the other shards take their turn.
        self.shards.push(shard);
        result.map(|()| true)
    }

    /// Activates due units of a shard: one batch, within the capacity.
    async fn scan(&mut self, shard: &mut ShardState, now: Timestamp) -> Result<(), SpoolError> {
        let spool = Arc::clone(&self.context.services.spool);
        shard.begin_scan(now);
        let wanted = self.scan_capacity().min(SCAN_UNITS_MAX);
        let units = match spool.scan_due(&shard.lease, shard.scan_position, now, wanted).await {
            Ok(units) => units,
            Err(error) => return handle_scan_error(shard, error, now),
        };
        let scanned_all = units.len() < wanted;
        for unit in units {
            shard.advance(unit.due_key());
            if !self.active.contains(unit.id, unit.number) {
                self.load_and_start(shard, unit, now).await?;
            }
        }
        if !scanned_all {
            return Ok(());
        }
        // All due units are active. Later units are announced by notification, so only later due times matter here.
        let activated = DueKey::first_at(now + Duration::from_millis(1)).previous();
        match spool.next_due(&shard.lease, shard.scan_position.max(Some(activated))).await {
            Ok(next) => shard.end_scan(next.unwrap_or(now + SLEEP_MAX).min(now + SLEEP_MAX)),
            Err(error) => return handle_scan_error(shard, error, now),
        }
        Ok(())
    }

    /// Loads and starts one unit. An error of one unit does not delay others: the unit is rescanned later.
    async fn load_and_start(&mut self, shard: &mut ShardState, unit: Unit, now: Timestamp) -> Result<(), SpoolError> {
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
                shard.schedule_rescan(key, now + self.context.routing().settings.queue.minimal_backoff_time);
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

/// Handles an error of a whole shard: temporary errors lead to another scan.
fn handle_scan_error(shard: &mut ShardState, error: SpoolError, now: Timestamp) -> Result<(), SpoolError> {
    if error.is_fatal() {
        return Err(error);
    }
    tracing::error!(target: "queue", "reading the queue failed, retrying: {error}");
    shard.next_scan_at = now + SPOOL_RETRY_PAUSE;
    Ok(())
}

/// Waits for the end of the command under way; `None` without one.
async fn wait_for_command(command: &mut Option<JoinHandle<()>>) -> Option<()> {
    // A panic in a command ends that command only: the sender is answered by the closed channel.
    let _ = command.as_mut()?.await;
    Some(())
}
