//! Records of the engine in memory. Every method is one atomic step.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Envelope, MemoryBody, Message, QueueId, Tags, Timestamp};

use crate::error::SpoolError;
use crate::lease::{Lease, ShardId};
use crate::listing_types::{ListEntry, ListKey, ListMessage, ListPage, MessageDetail, SpoolStats, UnitState};
use crate::new_message::NewMessage;
use crate::transition::{Transition, UnitCommand, UnitTarget, apply};
use crate::unit::{DueKey, NextState, Settlement, Unit};

use super::body_bytes;

/// Maximum number of units per page.
const LIST_UNITS_MAX: usize = 1000;
/// Detail of an unreadable unit or message.
const UNREADABLE: &str = "the record cannot be read";

struct MessageEntry {
    envelope: Arc<Envelope>,
    header: Bytes,
    body: Bytes,
    has_body_file: bool,
    tags: Arc<Tags>,
    readable: bool,
}

/// Unit with its state; the unit is none if the record cannot be read.
struct UnitEntry {
    unit: Option<Unit>,
    state: UnitState,
}

impl UnitEntry {
    fn due(unit: Unit) -> Self {
        let state = if unit.attempts == 0 { UnitState::Incoming } else { UnitState::Deferred };
        Self { unit: Some(unit), state }
    }
}

/// Messages, due units in order, and suspended units.
#[derive(Default)]
pub(super) struct Records {
    messages: BTreeMap<QueueId, MessageEntry>,
    due: BTreeMap<DueKey, UnitEntry>,
    suspended: BTreeMap<(QueueId, u16), UnitEntry>,
    epochs: BTreeMap<ShardId, u64>,
    last_id: Option<QueueId>,
    enqueued: u64,
    settled: u64,
}

/// Units that have been enqueued; with the message if they are due at once.
type NewUnitList = Vec<(Unit, Option<Message>)>;

impl Records {
    pub(super) fn last_id(&self) -> QueueId {
        self.last_id.unwrap_or(QueueId::from_u64(0))
    }

    pub(super) fn acquire(&mut self, shard: ShardId) -> Lease {
        let epoch = self.epochs.entry(shard).or_default();
        *epoch += 1;
        Lease::new(shard, *epoch)
    }

    pub(super) fn check_lease(&self, lease: &Lease) -> Result<(), SpoolError> {
        if self.epochs.get(&lease.shard()) == Some(&lease.epoch()) { Ok(()) } else { Err(SpoolError::Fenced) }
    }

    /// Enqueues all messages with their attached messages, or none.
    pub(super) fn enqueue(&mut self, messages: Vec<NewMessage>) -> Result<NewUnitList, SpoolError> {
        let mut prepared = Vec::with_capacity(messages.len());
        let mut remaining: VecDeque<NewMessage> = messages.into();
        while let Some(mut message) = remaining.pop_front() {
            remaining.extend(std::mem::take(&mut message.attached));
            let (body, has_body_file) = body_bytes(&message)?;
            prepared.push((message.units(has_body_file)?, body, has_body_file, message));
        }
        let mut new_units = Vec::new();
        for (units, body, has_body_file, message) in prepared {
            if !self.messages.contains_key(&message.id) {
                new_units.extend(self.insert(units, body, has_body_file, message));
            }
        }
        Ok(new_units)
    }

    fn insert(&mut self, units: Vec<Unit>, body: Bytes, has_body_file: bool, message: NewMessage) -> NewUnitList {
        let is_due_now = message.due_at() <= message.envelope.origin.received_at;
        let NewMessage { id, envelope, header, tags, hold, .. } = message;
        let entry =
            MessageEntry { envelope: Arc::new(envelope), header, body, has_body_file, tags: Arc::new(tags), readable: true };
        let message = is_due_now.then(|| entry.to_message(id));
        self.messages.insert(id, entry);
        self.last_id = self.last_id.max(Some(id));
        self.enqueued += 1;
        match hold {
            Some(reason) => {
                for unit in units {
                    let entry = UnitEntry { unit: Some(unit.clone()), state: UnitState::Hold(reason.clone()) };
                    self.suspended.insert((id, unit.number), entry);
                }
                Vec::new()
            }
            None => {
                self.due.extend(units.iter().map(|unit| (unit.due_key(), UnitEntry::due(unit.clone()))));
                units.into_iter().map(|unit| (unit, message.clone())).collect()
            }
        }
    }

    pub(super) fn scan_due(
        &mut self,
        after: Option<DueKey>,
        until: Timestamp,
        limit: usize,
        in_shard: impl Fn(QueueId) -> bool,
    ) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut unreadable = Vec::new();
        for (key, entry) in self.due.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)) {
            if key.next_at > until || units.len() == limit {
                break;
            }
            match &entry.unit {
                _ if !in_shard(key.id) => {}
                Some(unit) => units.push(unit.clone()),
                None => unreadable.push(*key),
            }
        }
        for key in unreadable {
            if let Some(entry) = self.due.remove(&key) {
                self.suspended.insert((key.id, key.number), entry);
            }
        }
        units
    }

    pub(super) fn next_due(&self, after: Option<DueKey>, in_shard: impl Fn(QueueId) -> bool) -> Option<Timestamp> {
        let mut keys = self.due.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        keys.find(|(key, _)| in_shard(key.id)).map(|(key, _)| key.next_at)
    }

    pub(super) fn load(&self, id: QueueId) -> Result<Message, SpoolError> {
        let entry = self.messages.get(&id).ok_or(SpoolError::NotFound)?;
        if entry.readable { Ok(entry.to_message(id)) } else { Err(SpoolError::Corrupt(UNREADABLE.into())) }
    }

    pub(super) fn settle(&mut self, settle: Settlement) -> Result<(Option<Unit>, NewUnitList), SpoolError> {
        settle.check()?;
        let Settlement { unit, remaining, attempts, next_state, generated } = settle;
        let key = unit.due_key();
        if self.is_current(&unit) != Some(true) {
            return Err(SpoolError::Conflict);
        }
        let new_units = self.enqueue(generated)?;
        self.due.remove(&key);
        self.settled += 1;
        let mut next = Unit { recipients: remaining, attempts, version: unit.version.wrapping_add(1), ..unit };
        let state = match next_state {
            NextState::Removed => {
                self.remove_message_without_units(next.id);
                return Ok((None, new_units));
            }
            NextState::RetryAt(next_at) => {
                next.next_at = next_at;
                self.due.insert(next.due_key(), UnitEntry::due(next.clone()));
                return Ok((Some(next), new_units));
            }
            NextState::Hold(reason) => UnitState::Hold(reason),
            NextState::Corrupt(detail) => UnitState::Corrupt(detail),
        };
        self.suspended.insert((next.id, next.number), UnitEntry { unit: Some(next.clone()), state });
        Ok((Some(next), new_units))
    }

    pub(super) fn apply_command(
        &mut self,
        target: UnitTarget,
        command: &UnitCommand,
        now: Timestamp,
    ) -> Result<Transition, SpoolError> {
        let (id, entry) = match target.key {
            ListKey::Due(key) => (key.id, self.due.get(&key)),
            ListKey::Suspended(id, number) => (id, self.suspended.get(&(id, number))),
        };
        let entry = entry.ok_or(SpoolError::Conflict)?;
        if entry.unit.as_ref().map(|unit| unit.version) != target.version {
            return Err(SpoolError::Conflict);
        }
        let transition = match (&entry.unit, command) {
            (Some(unit), command) => apply(unit, &entry.state, command, now),
            (None, UnitCommand::Delete) => Transition::Removed,
            (None, UnitCommand::Hold { .. } | UnitCommand::Release | UnitCommand::Requeue | UnitCommand::Flush) => {
                Transition::Unchanged
            }
        };
        if transition == Transition::Unchanged {
            return Ok(transition);
        }
        match target.key {
            ListKey::Due(key) => drop(self.due.remove(&key)),
            ListKey::Suspended(id, number) => drop(self.suspended.remove(&(id, number))),
        }
        match &transition {
            Transition::Unchanged => {}
            Transition::Removed => self.remove_message_without_units(id),
            Transition::Due(unit) => drop(self.due.insert(unit.due_key(), UnitEntry::due(unit.clone()))),
            Transition::Held { unit, reason } => {
                let entry = UnitEntry { unit: Some(unit.clone()), state: UnitState::Hold(reason.clone()) };
                self.suspended.insert((id, unit.number), entry);
            }
        }
        Ok(transition)
    }

    pub(super) fn is_current(&self, unit: &Unit) -> Option<bool> {
        let stored = self.due.get(&unit.due_key()).and_then(|entry| entry.unit.as_ref());
        Some(stored.is_some_and(|stored| stored.version == unit.version))
    }

    fn remove_message_without_units(&mut self, id: QueueId) {
        let has_units = self.due.keys().any(|key| key.id == id) || self.suspended.keys().any(|(other, _)| *other == id);
        if !has_units {
            self.messages.remove(&id);
        }
    }

    pub(super) fn list(&self, after: Option<ListKey>, limit: usize) -> ListPage {
        let limit = limit.clamp(1, LIST_UNITS_MAX);
        let (suspended_after, due_after) = match after {
            None => (Some(Bound::Unbounded), Bound::Unbounded),
            Some(ListKey::Suspended(id, number)) => (Some(Bound::Excluded((id, number))), Bound::Unbounded),
            Some(ListKey::Due(key)) => (None, Bound::Excluded(key)),
        };
        let suspended = suspended_after.into_iter().flat_map(|after| self.suspended.range((after, Bound::Unbounded)));
        let suspended = suspended.map(|((id, number), entry)| (ListKey::Suspended(*id, *number), *id, *number, entry));
        let due = self.due.range((due_after, Bound::Unbounded));
        let due = due.map(|(key, entry)| (ListKey::Due(*key), key.id, key.number, entry));
        let mut page = ListPage::default();
        for (key, id, number, entry) in suspended.chain(due).take(limit) {
            page.entries.push(self.list_entry(id, number, entry));
            page.next = Some(key);
        }
        if page.entries.len() < limit {
            page.next = None;
        }
        page
    }

    fn list_entry(&self, id: QueueId, number: u16, entry: &UnitEntry) -> ListEntry {
        let message = self.messages.get(&id).filter(|message| message.readable).map(|message| ListMessage {
            size: message.size(),
            received_at: message.envelope.origin.received_at,
            sender: message.envelope.sender.clone(),
            recipients: recipient_addresses(&message.envelope, entry.unit.as_ref()),
        });
        ListEntry { id, number, state: entry.state.clone(), unit: entry.unit.clone(), message }
    }

    pub(super) fn show(&self, id: QueueId) -> Result<MessageDetail, SpoolError> {
        let message = self.messages.get(&id).ok_or(SpoolError::NotFound)?;
        let suspended = self.suspended.range((id, 0)..=(id, u16::MAX)).map(|(_, entry)| entry);
        let due = self.due.iter().filter(|(key, _)| key.id == id).map(|(_, entry)| entry);
        let units = suspended.chain(due).map(|entry| (entry.unit.clone(), entry.state.clone())).collect();
        let readable = Some(message).filter(|message| message.readable);
        Ok(MessageDetail {
            id,
            envelope: readable.map(|message| (*message.envelope).clone()),
            size: readable.map_or(0, MessageEntry::size),
            has_body_file: readable.is_some_and(|message| message.has_body_file),
            tags: readable.map(|message| (*message.tags).clone()).unwrap_or_default(),
            units,
        })
    }

    pub(super) fn stats(&self) -> SpoolStats {
        let mut stats = SpoolStats { enqueued: self.enqueued, settled: self.settled, ..SpoolStats::default() };
        for entry in self.due.values().chain(self.suspended.values()) {
            *match entry.state {
                UnitState::Incoming => &mut stats.incoming,
                UnitState::Deferred => &mut stats.deferred,
                UnitState::Hold(_) => &mut stats.hold,
                UnitState::Corrupt(_) => &mut stats.corrupt,
            } += 1;
        }
        stats
    }

    pub(super) fn corrupt_message(&mut self, id: QueueId) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.readable = false;
        }
    }

    pub(super) fn corrupt_unit(&mut self, key: DueKey) {
        if let Some(entry) = self.due.get_mut(&key) {
            *entry = UnitEntry { unit: None, state: UnitState::Corrupt(UNREADABLE.to_owned()) };
        }
    }
}

impl MessageEntry {
    fn size(&self) -> u64 {
        (self.header.len() + self.body.len()) as u64
    }

    fn to_message(&self, id: QueueId) -> Message {
        Message {
            id,
            envelope: Arc::clone(&self.envelope),
            header: self.header.clone(),
            body: Arc::new(MemoryBody::new(self.body.clone())),
            tags: Arc::clone(&self.tags),
        }
    }
}

/// Returns the addresses of the unit's recipients, or of all recipients if the unit cannot be read.
fn recipient_addresses(envelope: &Envelope, unit: Option<&Unit>) -> Vec<String> {
    let all = &envelope.recipients;
    match unit {
        None => all.iter().map(|recipient| recipient.address.to_string()).collect(),
        Some(unit) => {
            let waiting = unit.recipients.iter().filter_map(|waiting| all.get(waiting.index as usize));
            waiting.map(|recipient| recipient.address.to_string()).collect()
        }
    }
}
