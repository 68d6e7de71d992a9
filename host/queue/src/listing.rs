//! Queue listing for the operator. All functions block.

use std::ops::Bound;

use waxwing_spool::{DueKey, ListEntry, ListKey, ListMessage, ListPage, MessageDetail, SpoolError, Unit, UnitState};
use waxwing_types::QueueId;

use crate::error::unavailable;
use crate::inner::SpoolInner;
use crate::keys::{due_key, parse_due_key, parse_suspended_key, suspended_key};
use crate::record::{MessageRecord, RecordBody, SuspendedUnit, decode_suspended, decode_unit};

/// Maximum number of units per page.
const LIST_UNITS_MAX: usize = 1000;
/// Number of rows per read during a walk.
const ROWS_PER_READ: usize = 1024;

impl SpoolInner {
    pub(crate) fn list(&self, after: Option<ListKey>, limit: usize) -> Result<ListPage, SpoolError> {
        let limit = limit.clamp(1, LIST_UNITS_MAX);
        let mut page = ListPage::default();
        if !matches!(after, Some(ListKey::Due(_))) {
            self.list_suspended(after, limit, &mut page)?;
        }
        if page.entries.len() < limit {
            self.list_due(after, limit, &mut page)?;
        }
        Ok(page)
    }

    fn list_suspended(&self, after: Option<ListKey>, limit: usize, page: &mut ListPage) -> Result<(), SpoolError> {
        let after = match after {
            Some(ListKey::Suspended(id, number)) => Some(suspended_key(id, number)),
            Some(ListKey::Due(_)) | None => None,
        };
        let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
        for (key, record) in self.suspended.range(from, Bound::Unbounded, limit).map_err(unavailable)? {
            let Some((id, number)) = parse_suspended_key(&key) else { continue };
            let (unit, state) = suspended_state(&key, id, number, &record);
            page.entries.push(self.entry(id, number, state, unit));
            page.next = Some(ListKey::Suspended(id, number));
        }
        Ok(())
    }

    fn list_due(&self, after: Option<ListKey>, limit: usize, page: &mut ListPage) -> Result<(), SpoolError> {
        let low = self.schedule.lock().low();
        let from = match after {
            Some(ListKey::Due(key)) => key.next().max(low),
            Some(ListKey::Suspended(..)) | None => low,
        };
        let wanted = limit - page.entries.len();
        let rows = self.due.range(Bound::Included(&due_key(from)), Bound::Unbounded, wanted).map_err(unavailable)?;
        let full = rows.len() == wanted;
        for (key, record) in rows {
            let Some(key) = parse_due_key(&key) else { continue };
            let (unit, state) = due_state(key, &record);
            page.entries.push(self.entry(key.id, key.number, state, unit));
            page.next = Some(ListKey::Due(key));
        }
        if !full {
            page.next = None;
        }
        Ok(())
    }

    fn entry(&self, id: QueueId, number: u16, state: UnitState, unit: Option<Unit>) -> ListEntry {
        let message = self.read_message(id).ok().map(|record| ListMessage {
            size: record.size(),
            received_at: record.envelope.origin.received_at,
            recipients: recipient_addresses(&record, unit.as_ref()),
            sender: record.envelope.sender,
        });
        ListEntry { id, number, state, unit, message }
    }

    pub(crate) fn show(&self, id: QueueId) -> Result<MessageDetail, SpoolError> {
        let record = match self.read_message(id) {
            Ok(record) => Some(record),
            Err(SpoolError::Corrupt(_)) => None,
            Err(error) => return Err(error),
        };
        let mut units = Vec::new();
        let (first, last) = (suspended_key(id, 0), suspended_key(id, u16::MAX));
        let (from, to) = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        for (key, record) in self.suspended.range(from, to, usize::from(u16::MAX) + 1).map_err(unavailable)? {
            let Some((_, number)) = parse_suspended_key(&key) else { continue };
            units.push(suspended_state(&key, id, number, &record));
        }
        self.due_units(id, &mut units)?;
        let size = record.as_ref().map_or(0, MessageRecord::size);
        let body_file = record.as_ref().is_some_and(|record| matches!(record.body, RecordBody::File(_)));
        let (envelope, tags) = record.map(|record| (record.envelope, record.tags)).unzip();
        Ok(MessageDetail { id, envelope, size, has_body_file: body_file, tags: tags.unwrap_or_default(), units })
    }

    /// Collects the due units of a message. The index is sorted by time, so the whole index is read: a fraction of a second
    /// for 100,000 units.
    fn due_units(&self, id: QueueId, units: &mut Vec<(Option<Unit>, UnitState)>) -> Result<(), SpoolError> {
        let mut from = Bound::Included(due_key(self.schedule.lock().low()).to_vec());
        loop {
            let rows = self.due.range(from.as_ref().map(Vec::as_slice), Bound::Unbounded, ROWS_PER_READ).map_err(unavailable)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = Bound::Excluded(last.to_vec());
            for (key, record) in rows {
                if let Some(key) = parse_due_key(&key).filter(|key| key.id == id) {
                    units.push(due_state(key, &record));
                }
            }
        }
    }
}

pub(crate) fn due_state(key: DueKey, record: &[u8]) -> (Option<Unit>, UnitState) {
    match decode_unit(key, record) {
        Ok(unit) if unit.attempts == 0 => (Some(unit), UnitState::Incoming),
        Ok(unit) => (Some(unit), UnitState::Deferred),
        Err(error) => (None, UnitState::Corrupt(error.to_string())),
    }
}

pub(crate) fn suspended_state(key: &[u8], id: QueueId, number: u16, record: &[u8]) -> (Option<Unit>, UnitState) {
    match decode_suspended(key, id, number, record) {
        Ok(SuspendedUnit::Held { reason, unit }) => (Some(unit), UnitState::Hold(reason)),
        Ok(SuspendedUnit::CorruptMessage { detail, unit }) => (Some(unit), UnitState::Corrupt(detail)),
        Ok(SuspendedUnit::CorruptUnit { detail, .. }) => (None, UnitState::Corrupt(detail)),
        Err(error) => (None, UnitState::Corrupt(error.to_string())),
    }
}

/// Returns the addresses of the unit's recipients, or of all recipients if the unit cannot be read.
fn recipient_addresses(record: &MessageRecord, unit: Option<&Unit>) -> Vec<String> {
    let all = &record.envelope.recipients;
    match unit {
        None => all.iter().map(|recipient| recipient.address.to_string()).collect(),
        Some(unit) => {
            let waiting = unit.recipients.iter().filter_map(|waiting| all.get(waiting.index as usize));
            waiting.map(|recipient| recipient.address.to_string()).collect()
        }
    }
}
