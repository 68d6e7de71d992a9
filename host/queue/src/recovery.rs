//! Recovery at start: counts units, finds the first due unit, handles unreadable records and removes unreferenced files.

use std::ops::Bound;
use std::sync::Arc;

use waxwing_spool::{DueKey, SpoolError};
use waxwing_store::{Batch, Keyspace};
use waxwing_types::{QueueId, Timestamp};

use crate::body_files::BodyFiles;
use crate::error::unavailable;
use crate::file_body::parse_body_file_name;
use crate::inner::{EPOCH_KEY, move_to_corrupt};
use crate::keys::{due_key, parse_due_key, parse_suspended_key};
use crate::record::{
    RecordBody, StateRecord, SuspendedUnit, decode_message, decode_number, decode_state, decode_suspended, decode_unit,
    encode_number,
};
use crate::schedule::{STATE_KEY, Schedule};

/// Key of the schema version in the keyspace `meta`.
const SCHEMA_KEY: &[u8] = b"schema";
/// Version of the layout of keyspaces and keys; records have versions of their own.
const SCHEMA_VERSION: u64 = 1;
/// Number of rows per read.
const ROWS_PER_READ: usize = 1024;

/// Parts of a spool during opening.
pub(crate) struct Recovery {
    pub(crate) message: Keyspace,
    pub(crate) due: Keyspace,
    pub(crate) suspended: Keyspace,
    pub(crate) meta: Keyspace,
    pub(crate) files: Arc<dyn BodyFiles>,
}

/// State of the spool recovered from disk.
pub(crate) struct RecoveredState {
    pub(crate) schedule: Schedule,
    pub(crate) last_id: QueueId,
    pub(crate) epoch: u64,
    /// Writes to be committed before any other.
    pub(crate) repairs: Batch,
}

impl Recovery {
    /// Recovers the spool state. Blocking; takes about a microsecond per unit.
    pub(crate) fn run(self) -> Result<(Self, RecoveredState), SpoolError> {
        let mut repairs = Batch::default();
        self.check_schema(&mut repairs)?;
        let epoch = match self.meta.get(EPOCH_KEY).map_err(unavailable)? {
            None => 0,
            Some(record) => decode_number(EPOCH_KEY, &record).map_err(|e| SpoolError::Corrupt(format!("epoch: {e}").into()))?,
        };
        let state = self.load_state()?;
        let mut schedule = Schedule::new(state);
        self.scan_due(&mut schedule, state.low, &mut repairs)?;
        self.scan_suspended(&mut schedule)?;
        self.remove_unreferenced_files()?;
        let last_message = self
            .message
            .last()
            .map_err(unavailable)?
            .and_then(|(key, _)| Some(u64::from_be_bytes(key.as_ref().try_into().ok()?)));
        let last_id = state.last_id.max(QueueId::from_u64(last_message.unwrap_or(0)));
        Ok((self, RecoveredState { schedule, last_id, epoch, repairs }))
    }

    fn check_schema(&self, repairs: &mut Batch) -> Result<(), SpoolError> {
        let corrupt = |detail: String| Err(SpoolError::Corrupt(detail.into()));
        match self.meta.get(SCHEMA_KEY).map_err(unavailable)? {
            None => repairs.put(&self.meta, SCHEMA_KEY, encode_number(SCHEMA_KEY, SCHEMA_VERSION)),
            Some(record) => match decode_number(SCHEMA_KEY, &record) {
                Ok(SCHEMA_VERSION) => {}
                Ok(other) => return corrupt(format!("the spool has schema {other}; this program supports {SCHEMA_VERSION}")),
                Err(error) => return corrupt(format!("schema: {error}")),
            },
        }
        Ok(())
    }

    /// Reads the state record. Without a readable cursor the due index is read from the start: slow, but complete.
    fn load_state(&self) -> Result<StateRecord, SpoolError> {
        let start = StateRecord { low: DueKey::first_at(Timestamp::from_millis(0)), last_id: QueueId::from_u64(0) };
        let Some(record) = self.meta.get(STATE_KEY).map_err(unavailable)? else { return Ok(start) };
        Ok(decode_state(STATE_KEY, &record).unwrap_or_else(|error| {
            tracing::error!(%error, "the low-water cursor cannot be read: the due index is read from its start");
            start
        }))
    }

    fn scan_due(&self, schedule: &mut Schedule, low: DueKey, repairs: &mut Batch) -> Result<(), SpoolError> {
        let (_, hand_overs) = schedule.begin_scan();
        let mut from = Bound::Included(due_key(low).to_vec());
        let mut first = None;
        loop {
            let rows = self.due.range(from.as_ref().map(Vec::as_slice), Bound::Unbounded, ROWS_PER_READ).map_err(unavailable)?;
            let Some((last, _)) = rows.last() else { break };
            from = Bound::Excluded(last.to_vec());
            for (key, record) in rows {
                let Some(key) = parse_due_key(&key) else {
                    tracing::error!(?key, "due index: invalid key skipped");
                    continue;
                };
                first.get_or_insert(key);
                match decode_unit(key, &record) {
                    Ok(unit) => {
                        *schedule.counts.due_mut(unit.attempts) += 1;
                        schedule.add_recovered(&unit);
                    }
                    Err(error) => {
                        tracing::error!(id = %key.id, unit = key.number, %error, "unit record unreadable: unit moved to corrupt");
                        move_to_corrupt(repairs, &self.due, &self.suspended, key, record, error);
                        schedule.counts.corrupt += 1;
                        schedule.add_unreadable(key.id);
                    }
                }
            }
        }
        if let Some(first) = first {
            schedule.finish_scan(hand_overs, first);
        }
        Ok(())
    }

    fn scan_suspended(&self, schedule: &mut Schedule) -> Result<(), SpoolError> {
        let mut from = Bound::Unbounded;
        loop {
            let rows =
                self.suspended.range(from.as_ref().map(Vec::as_slice), Bound::Unbounded, ROWS_PER_READ).map_err(unavailable)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = Bound::Excluded(last.to_vec());
            for (key, record) in rows {
                let Some((id, number)) = parse_suspended_key(&key) else { continue };
                match decode_suspended(&key, id, number, &record) {
                    Ok(SuspendedUnit::Held { unit, .. }) => {
                        schedule.counts.hold += 1;
                        schedule.add_recovered(&unit);
                    }
                    Ok(SuspendedUnit::CorruptMessage { unit, .. }) => {
                        schedule.counts.corrupt += 1;
                        schedule.add_recovered(&unit);
                    }
                    Ok(SuspendedUnit::CorruptUnit { .. }) | Err(_) => {
                        schedule.counts.corrupt += 1;
                        schedule.add_unreadable(id);
                    }
                }
            }
        }
    }

    /// Removes files without a referencing record, left by a crash between file creation and commit, or between the commit
    /// of the message's removal and the unlinking. Files with an unreadable record stay.
    fn remove_unreferenced_files(&self) -> Result<(), SpoolError> {
        for name in self.files.names()? {
            let Some((id, suffix)) = parse_body_file_name(&name) else { continue };
            let record = self.message.get(&id.to_key()).map_err(unavailable)?;
            let referenced = record.is_some_and(|record| match decode_message(id, &record) {
                Ok(message) => matches!(&message.body, RecordBody::File(body) if body.suffix == suffix),
                Err(_) => true,
            });
            if !referenced {
                self.files.remove(&name)?;
            }
        }
        Ok(())
    }
}
