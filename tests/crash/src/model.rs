//! Model of the permitted spool contents after the received reports.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use waxwing_queue::EmbeddedSpool;
use waxwing_spool::{BODY_INLINE_BYTES_MAX, Spool, SpoolError, SpoolStats, Unit, UnitState};
use waxwing_types::{Message, QueueId};

use crate::content;

/// Bytes per read of a body.
const READ_BYTES: usize = 100_000;

/// State of a delivery unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitStatus {
    /// Never enqueued, or finished.
    Absent,
    /// Due, after this number of attempts.
    Due(u32),
    /// On hold, after this number of attempts.
    Held(u32),
}

#[derive(Clone, Debug)]
struct UnitModel {
    /// Last acknowledged state.
    acknowledged: UnitStatus,
    /// Unacknowledged settlement: resulting state, and ID of the DSN.
    pending: Option<(UnitStatus, Option<QueueId>)>,
}

#[derive(Clone, Debug)]
struct MessageModel {
    /// Enqueue acknowledged, or a later operation reported.
    enqueued: bool,
    units: Vec<UnitModel>,
}

impl MessageModel {
    fn new(id: QueueId, taken: bool) -> Self {
        let unit = UnitModel { acknowledged: UnitStatus::Due(0), pending: None };
        Self { enqueued: taken, units: vec![unit; usize::from(content::unit_count(id))] }
    }
}

/// All messages with a started enqueue and without an acknowledged removal.
#[derive(Default)]
pub struct Model {
    messages: HashMap<QueueId, MessageModel>,
    /// Number of acknowledged enqueues.
    pub enqueued: u64,
    /// Number of acknowledged settlements.
    pub settled: u64,
}

impl Model {
    /// Applies a complete report line.
    pub fn apply_line(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        self.apply_fields(&words).with_context(|| format!("line {line:?}"))
    }

    fn apply_fields(&mut self, words: &[&str]) -> Result<()> {
        let (word, id) = (words[0], words[1].parse::<QueueId>()?);
        if word == "e" {
            self.messages.insert(id, MessageModel::new(id, false));
            return Ok(());
        }
        let message = self.messages.get_mut(&id).context("an unknown message")?;
        message.enqueued = true;
        if word == "E" {
            self.enqueued += 1;
            return Ok(());
        }
        let unit = message.units.get_mut(words[2].parse::<usize>()?).context("an unknown unit")?;
        let attempts = words[3].parse()?;
        match word {
            "s" => {
                let state = match words[4] {
                    "gone" => UnitStatus::Absent,
                    "due" => UnitStatus::Due(attempts),
                    "hold" => UnitStatus::Held(attempts),
                    other => bail!("unknown state {other}"),
                };
                let dsn = words.get(5).map(|id| id.parse()).transpose()?;
                ensure!(unit.pending.is_none(), "a unit is settled twice at once");
                unit.pending = Some((state, dsn));
                if let Some(dsn) = dsn {
                    self.messages.insert(dsn, MessageModel::new(dsn, false));
                }
            }
            "S" => {
                let (state, dsn) = unit.pending.take().context("an answer without a question")?;
                unit.acknowledged = state;
                self.settled += 1;
                if let Some(dsn) = dsn {
                    self.messages.get_mut(&dsn).context("an unknown report")?.enqueued = true;
                }
            }
            other => bail!("unknown word {other}"),
        }
        Ok(())
    }

    /// Compares a newly opened spool with the permitted contents, byte by byte. Afterwards the model equals the contents found.
    pub async fn verify(&mut self, spool: &EmbeddedSpool, file_names: BTreeSet<String>) -> Result<()> {
        let found = SpoolContents::read(spool).await?;
        self.compare_units(&found)?;
        let mut expected_files = BTreeSet::new();
        for id in found.units.keys() {
            let message = spool.load(*id).await.with_context(|| format!("message {id}"))?;
            compare_message(*id, &message).await.with_context(|| format!("message {id}"))?;
            if content::body_size(*id) > BODY_INLINE_BYTES_MAX {
                expected_files.insert(id.to_string());
            }
        }
        for id in self.messages.keys().filter(|id| !found.units.contains_key(id)) {
            ensure!(matches!(spool.load(*id).await, Err(SpoolError::NotFound)), "message {id} is there without units");
        }
        ensure!(file_names == expected_files, "body files are {file_names:?}, not {expected_files:?}");
        found.compare_stats(&spool.stats())?;
        self.adopt(&found);
        Ok(())
    }

    fn compare_units(&self, found: &SpoolContents) -> Result<()> {
        for id in found.units.keys() {
            ensure!(self.messages.contains_key(id), "message {id} was never begun, or was gone and came back");
        }
        for (id, message) in &self.messages {
            let units = found.units.get(id);
            if units.is_none() && !message.enqueued {
                continue;
            }
            for (number, unit) in message.units.iter().enumerate() {
                let state = units.and_then(|units| units.get(&(number as u16))).copied().unwrap_or(UnitStatus::Absent);
                let settled = unit.pending.is_some_and(|(begun, _)| begun == state);
                ensure!(
                    settled || state == unit.acknowledged,
                    "unit {number} of message {id} is {state:?}; acknowledged {:?}, begun {:?}",
                    unit.acknowledged,
                    unit.pending
                );
                if let Some((_, Some(dsn))) = unit.pending {
                    let reported = found.units.contains_key(&dsn) || self.messages.get(&dsn).is_some_and(|dsn| dsn.enqueued);
                    ensure!(settled == reported, "unit {number} of message {id}: settled {settled}, reported {reported}");
                }
            }
        }
        Ok(())
    }

    fn adopt(&mut self, found: &SpoolContents) {
        self.messages.retain(|id, _| found.units.contains_key(id));
        for (id, units) in &found.units {
            let message = self.messages.get_mut(id).unwrap();
            message.enqueued = true;
            for (number, unit) in message.units.iter_mut().enumerate() {
                let state = units.get(&(number as u16)).copied().unwrap_or(UnitStatus::Absent);
                *unit = UnitModel { acknowledged: state, pending: None };
            }
        }
    }

    /// Number of messages known to be in the spool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns whether no message is known to be in the spool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// Contents listed by the spool.
#[derive(Default)]
struct SpoolContents {
    units: BTreeMap<QueueId, BTreeMap<u16, UnitStatus>>,
    incoming: u64,
    deferred: u64,
    hold: u64,
}

impl SpoolContents {
    async fn read(spool: &EmbeddedSpool) -> Result<Self> {
        let mut found = Self::default();
        let mut after = None;
        loop {
            let page = spool.list(after, 500).await?;
            for entry in page.entries {
                let unit = entry.unit.with_context(|| format!("unit {} of {} is {:?}", entry.number, entry.id, entry.state))?;
                let state = found.count(&entry.state, &unit)?;
                let known = found.units.entry(entry.id).or_default().insert(entry.number, state);
                ensure!(known.is_none(), "unit {} of {} is there twice", entry.number, entry.id);
            }
            match page.next {
                None => return Ok(found),
                next => after = next,
            }
        }
    }

    fn count(&mut self, state: &UnitState, unit: &Unit) -> Result<UnitStatus> {
        Ok(match state {
            UnitState::Incoming => {
                self.incoming += 1;
                UnitStatus::Due(unit.attempts)
            }
            UnitState::Deferred => {
                self.deferred += 1;
                UnitStatus::Due(unit.attempts)
            }
            UnitState::Hold(_) => {
                self.hold += 1;
                UnitStatus::Held(unit.attempts)
            }
            UnitState::Corrupt(detail) => bail!("unit {} of {} is corrupt: {detail}", unit.number, unit.id),
        })
    }

    fn compare_stats(&self, stats: &SpoolStats) -> Result<()> {
        let counted = (self.incoming, self.deferred, self.hold, 0);
        let said = (stats.incoming, stats.deferred, stats.hold, stats.corrupt);
        ensure!(counted == said, "counted {counted:?}, the spool says {said:?}");
        Ok(())
    }
}

async fn compare_message(id: QueueId, message: &Message) -> Result<()> {
    ensure!(*message.envelope == content::envelope(id, message.envelope.origin.received_at), "another envelope");
    ensure!(*message.tags == content::tags(id), "other tags");
    ensure!(message.header == content::head(id), "another head");
    let expected = content::body(id);
    ensure!(message.body.size() == expected.len() as u64, "another size of body");
    let mut offset = 0;
    while offset < expected.len() {
        let piece: Bytes = message.body.read(offset as u64, READ_BYTES).await?;
        ensure!(!piece.is_empty(), "the body ends at {offset}");
        ensure!(expected.get(offset..offset + piece.len()) == Some(&piece[..]), "another body after {offset}");
        offset += piece.len();
    }
    Ok(())
}
