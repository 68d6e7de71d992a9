//! Workload of many tasks that enqueue and settle, and report each intent and each acknowledgement.
//!
//! Lines: `e ID` before an enqueue and `E ID` after the acknowledgement; `s ID UNIT ATTEMPTS STATE [DSN-ID]` before a settlement that
//! brings the unit to the state (`gone`, `due`, `hold`) and `S ID UNIT ATTEMPTS` after the acknowledgement. ATTEMPTS counts the attempts
//! after the settlement.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use waxwing_queue::EmbeddedSpool;
use waxwing_spool::{
    Lease, NewBody, NewMessage, NextState, Settlement, Spool, SpoolError, UNIT_RECIPIENTS_MAX, Unit, UnitRecipient,
};
use waxwing_types::{Clock, EnhancedCode, QueueId, Status};

use crate::content::{self, TestRng};

/// Number of enqueueing tasks.
const PRODUCERS: u64 = 16;
/// Maximum number of concurrent settlements.
const SETTLINGS: usize = 64;
/// Number of waiting units above which producers pause.
const BACKLOG_MAX: u64 = 1500;
/// Maximum number of consecutive pauses of a producer.
const PAUSES_MAX: u32 = 40;
/// Number of attempts after which a unit is finished.
const ATTEMPTS_MAX: u32 = 3;

/// Consumer of report lines.
pub type ReportSink = Arc<dyn Fn(String) + Send + Sync>;

/// Workload and its dependencies.
#[derive(Clone)]
pub struct Workload {
    /// Spool under test.
    pub spool: EmbeddedSpool,
    /// Consumer of the report lines.
    pub report: ReportSink,
    /// Wall clock of the workload.
    pub clock: Arc<dyn Clock>,
    /// Number of messages to enqueue.
    pub messages: u64,
    /// Units being settled.
    pub active: Active,
}

/// Set of units being settled.
pub type Active = Arc<Mutex<HashSet<(QueueId, u16)>>>;

impl Workload {
    /// Runs until all messages are enqueued and all due units are settled, or until the spool fails.
    pub async fn run(self) -> Result<(), SpoolError> {
        let lease = self.spool.acquire(waxwing_spool::ShardId::FIRST).await?;
        let left = Arc::new(AtomicU64::new(self.messages));
        let mut producers = JoinSet::new();
        for _ in 0..PRODUCERS {
            producers.spawn(self.clone().produce(left.clone()));
        }
        let (ended, producing) = watch::channel(true);
        let producers = async {
            let result = join(&mut producers).await;
            let _ = ended.send(false);
            result
        };
        // All tasks are awaited, so that every acknowledgement is reported: after an error the others end soon.
        let (produced, owned) = tokio::join!(producers, self.clone().settle_units(lease, producing));
        produced.and(owned)
    }

    async fn produce(self, left: Arc<AtomicU64>) -> Result<(), SpoolError> {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let id = self.spool.next_queue_id(self.clock.now());
            (self.report)(format!("e {id}"));
            let message = self.message(id).await?;
            self.spool.enqueue(message).await?;
            (self.report)(format!("E {id}"));
            for _pause in 0..PAUSES_MAX {
                if self.spool.stats().incoming <= BACKLOG_MAX {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    async fn message(&self, id: QueueId) -> Result<NewMessage, SpoolError> {
        let all = content::body(id);
        let declared = if id.as_u64().is_multiple_of(2) { 0 } else { all.len() as u64 };
        let mut writer = self.spool.body_sink(id, self.spool.reserve_space(declared)?);
        for start in (0..all.len()).step_by(50_000) {
            writer.write(all.slice(start..all.len().min(start + 50_000))).await?;
        }
        self.new_message(id, writer.finish().await?)
    }

    fn new_message(&self, id: QueueId, body: NewBody) -> Result<NewMessage, SpoolError> {
        let envelope = content::envelope(id, self.clock.now());
        Ok(NewMessage {
            id,
            envelope,
            header: content::head(id),
            body,
            tags: content::tags(id),
            hold: None,
            not_before: Duration::ZERO,
            priority: 0,
            attached: Vec::new(),
        })
    }

    /// Settles new and due units.
    async fn settle_units(self, lease: Lease, producing: watch::Receiver<bool>) -> Result<(), SpoolError> {
        let mut settlings = JoinSet::new();
        let result = self.dispatch(lease, producing, &mut settlings).await;
        result.and(join(&mut settlings).await)
    }

    async fn dispatch(
        &self,
        lease: Lease,
        producing: watch::Receiver<bool>,
        settlings: &mut JoinSet<Result<(), SpoolError>>,
    ) -> Result<(), SpoolError> {
        let mut fresh = self.spool.new_units(waxwing_spool::ShardId::FIRST);
        let slots = Arc::new(Semaphore::new(SETTLINGS));
        // Units arrive by notification and by scan; each version of a unit is processed once.
        let mut worked_on: HashMap<(QueueId, u16), u64> = HashMap::new();
        loop {
            let ending = !*producing.borrow();
            let mut units = Vec::new();
            while let Some(hint) = fresh.try_recv() {
                units.push(hint.unit);
            }
            if units.is_empty() {
                units = self.spool.scan_due(&lease, None, self.clock.now(), 200).await?;
            }
            units.retain(|unit| {
                let key = (unit.id, unit.number);
                worked_on.get(&key).is_none_or(|known| *known < unit.version) && self.active.lock().insert(key)
            });
            if units.is_empty() {
                if ending && settlings.is_empty() && self.spool.next_due(&lease, None).await?.is_none() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            for unit in units {
                worked_on.insert((unit.id, unit.number), unit.version);
                let slot = slots.clone().acquire_owned().await.expect("nobody closes it");
                let this = self.clone();
                settlings.spawn(async move {
                    let key = (unit.id, unit.number);
                    this.settle(&lease, unit).await?;
                    this.active.lock().remove(&key);
                    drop(slot);
                    Ok(())
                });
            }
            while let Some(done) = settlings.try_join_next() {
                done.expect("a settling panicked")?;
            }
        }
    }

    async fn settle(&self, lease: &Lease, unit: Unit) -> Result<(), SpoolError> {
        let (id, number, attempts) = (unit.id, unit.number, unit.attempts + 1);
        let mut dice = TestRng::new(id.as_u64() ^ u64::from(number) << 32 ^ u64::from(attempts));
        let (word, after, with_dsn) = match dice.below(100) {
            0..=1 => ("hold", NextState::Hold("the dice said so".to_owned()), false),
            2..=29 if attempts < ATTEMPTS_MAX => {
                ("due", NextState::RetryAt(self.clock.now() + Duration::from_millis(dice.below(30))), dice.below(8) == 0)
            }
            n => ("gone", NextState::Removed, n > 90),
        };
        let dsn = if with_dsn { Some(self.dsn().await?) } else { None };
        let name = dsn.as_ref().map(|dsn| format!(" {}", dsn.id)).unwrap_or_default();
        let remaining = if word == "gone" { Vec::new() } else { deferred(&unit.recipients) };
        let settle = Settlement { unit, remaining, attempts, next_state: after, generated: dsn.into_iter().collect() };
        (self.report)(format!("s {id} {number} {attempts} {word}{name}"));
        self.spool.settle(lease, settle).await?;
        (self.report)(format!("S {id} {number} {attempts}"));
        Ok(())
    }

    /// DSN: small bodies inline, large bodies through a writer, as for DSNs that return the full message.
    async fn dsn(&self) -> Result<NewMessage, SpoolError> {
        let id = self.spool.next_queue_id(self.clock.now());
        match NewBody::inline(content::body(id)) {
            Ok(body) => self.new_message(id, body),
            Err(_large) => self.message(id).await,
        }
    }
}

/// Waits for all tasks; returns the first error, if any.
async fn join(tasks: &mut JoinSet<Result<(), SpoolError>>) -> Result<(), SpoolError> {
    let mut result = Ok(());
    while let Some(done) = tasks.join_next().await {
        result = result.and(done.expect("a task of the workload panicked"));
    }
    result
}

fn deferred(recipients: &[UnitRecipient]) -> Vec<UnitRecipient> {
    assert!(recipients.len() <= UNIT_RECIPIENTS_MAX);
    let status = Status::local(EnhancedCode::new(4, 4, 1), "the dice said later");
    recipients.iter().map(|recipient| UnitRecipient { index: recipient.index, last_status: Some(status.clone()) }).collect()
}
