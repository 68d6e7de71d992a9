//! Record formats. The layout is frozen: a change needs a new version beside the old version, and the fixtures must still
//! load.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use waxwing_spool::{DueKey, Unit, UnitRecipient};
use waxwing_types::{Envelope, QueueId, Tags, Timestamp};

use crate::codec::{MalformedRecord, RECORD_HEADER_BYTES, RecordReader, RecordWriter, open_record, seal_record};
use crate::envelope_codec::{WITHOUT_TARGETS, read_envelope, read_status, read_tags, write_envelope, write_status, write_tags};
use crate::file_body::{BODY_BLOCK_BYTES, BodyFileRef};
use crate::keys::{DUE_KEY_BYTES, due_key, parse_due_key};

const MESSAGE_VERSION: u8 = 2;
const UNIT_VERSION: u8 = 1;
const SUSPENDED_VERSION: u8 = 1;
const STATE_VERSION: u8 = 1;
const NUMBER_VERSION: u8 = 1;

const BODY_INLINE: u8 = 0;
const BODY_FILE: u8 = 1;

/// Octets of record header, body kind, length of the fields and length of the header block.
const MESSAGE_FIXED_BYTES: usize = RECORD_HEADER_BYTES + 1 + 4 + 4;

/// Body of a message as stored in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordBody {
    Inline(Bytes),
    File(BodyFileRef),
}

/// Decoded message record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageRecord {
    pub(crate) envelope: Envelope,
    pub(crate) tags: Tags,
    pub(crate) header: Bytes,
    pub(crate) body: RecordBody,
}

impl MessageRecord {
    /// Octets of header block and body.
    pub(crate) fn size(&self) -> u64 {
        self.header.len() as u64
            + match &self.body {
                RecordBody::Inline(bytes) => bytes.len() as u64,
                RecordBody::File(body) => body.size,
            }
    }
}

/// Encoded message record with the positions of header block and body.
pub(crate) struct EncodedMessage {
    pub(crate) bytes: Bytes,
    pub(crate) header: Bytes,
    /// Inline body; empty for a body file.
    pub(crate) inline_body: Bytes,
}

/// Encodes all stored parts of a message into a single buffer, used for both storage and delivery.
pub(crate) fn encode_message(
    id: QueueId,
    envelope: &Envelope,
    tags: &Tags,
    header: &[u8],
    body: &RecordBody,
) -> Result<EncodedMessage, MalformedRecord> {
    let mut fields = RecordWriter::with_capacity(256);
    write_envelope(&mut fields, envelope);
    write_tags(&mut fields, tags);
    let (kind, inline_body) = match body {
        RecordBody::Inline(bytes) => (BODY_INLINE, bytes.as_ref()),
        RecordBody::File(body) => {
            fields.number(u64::from(body.suffix));
            fields.number(body.size);
            for sum in &*body.block_checksums {
                fields.0.extend_from_slice(&sum.to_le_bytes());
            }
            (BODY_FILE, &[][..])
        }
    };
    let fields = fields.0;
    let too_long = |_| MalformedRecord("the envelope or the header block is too long");
    let (fields_bytes, header_bytes) =
        (u32::try_from(fields.len()).map_err(too_long)?, u32::try_from(header.len()).map_err(too_long)?);
    let mut record = BytesMut::with_capacity(MESSAGE_FIXED_BYTES + fields.len() + header.len() + inline_body.len());
    record.extend_from_slice(&[MESSAGE_VERSION, 0, 0, 0, 0, kind]);
    record.extend_from_slice(&fields_bytes.to_le_bytes());
    record.extend_from_slice(&header_bytes.to_le_bytes());
    for part in [&fields, header, inline_body] {
        record.extend_from_slice(part);
    }
    seal_record(&mut record, &id.to_key());
    let bytes = record.freeze();
    let header_at = MESSAGE_FIXED_BYTES + fields.len();
    let body_at = header_at + header.len();
    Ok(EncodedMessage { header: bytes.slice(header_at..body_at), inline_body: bytes.slice(body_at..), bytes })
}

pub(crate) fn decode_message(id: QueueId, record: &Bytes) -> Result<MessageRecord, MalformedRecord> {
    let version = if record.first() == Some(&WITHOUT_TARGETS) { WITHOUT_TARGETS } else { MESSAGE_VERSION };
    let mut input = RecordReader(open_record(record, &id.to_key(), version)?);
    let kind = input.u8()?;
    let fields = u32::from_le_bytes(input.array()?) as usize;
    let header_bytes = u32::from_le_bytes(input.array()?) as usize;
    let mut fields = RecordReader(input.take(fields)?);
    let header = record.slice_ref(input.take(header_bytes)?);
    let envelope = read_envelope(&mut fields, version)?;
    let tags = read_tags(&mut fields)?;
    let body = match kind {
        BODY_INLINE => RecordBody::Inline(record.slice_ref(input.0)),
        BODY_FILE => {
            input.end()?;
            RecordBody::File(read_body_ref(&mut fields)?)
        }
        _ => return Err(MalformedRecord("the kind of body is unknown")),
    };
    fields.end()?;
    Ok(MessageRecord { envelope, tags, header, body })
}

fn read_body_ref(fields: &mut RecordReader<'_>) -> Result<BodyFileRef, MalformedRecord> {
    let suffix = fields.narrow()?;
    let size: u64 = fields.number()?;
    let count = usize::try_from(size.div_ceil(BODY_BLOCK_BYTES as u64)).map_err(|_| MalformedRecord("a number is too large"))?;
    let sums = fields.take(count.checked_mul(4).ok_or(MalformedRecord("a number is too large"))?)?;
    let blocks: Arc<[u32]> = sums.as_chunks::<4>().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
    Ok(BodyFileRef { suffix, size, block_checksums: blocks })
}

/// Encodes a unit for the due index; time, id and number are in the key.
pub(crate) fn encode_unit(unit: &Unit, key: &[u8]) -> Bytes {
    let mut out = RecordWriter::new_record(UNIT_VERSION, 12 + 2 * unit.recipients.len());
    write_unit_fields(&mut out, unit);
    out.seal(key).into()
}

pub(crate) fn decode_unit(key: DueKey, record: &[u8]) -> Result<Unit, MalformedRecord> {
    let mut input = RecordReader(open_record(record, &due_key(key), UNIT_VERSION)?);
    let unit = read_unit_fields(&mut input, key)?;
    input.end()?;
    Ok(unit)
}

fn write_unit_fields(out: &mut RecordWriter, unit: &Unit) {
    out.number(unit.version);
    out.number(u64::from(unit.attempts));
    out.number(u64::from(unit.unit_count));
    out.u8(u8::from(unit.has_body_file));
    out.number(unit.recipients.len() as u64);
    for recipient in &unit.recipients {
        out.number(u64::from(recipient.index));
        match &recipient.last_status {
            None => out.u8(0),
            Some(status) => {
                out.u8(1);
                write_status(out, status);
            }
        }
    }
}

fn read_unit_fields(input: &mut RecordReader<'_>, key: DueKey) -> Result<Unit, MalformedRecord> {
    let version = input.number()?;
    let attempts = input.narrow()?;
    let siblings = input.narrow()?;
    let body_file = input.flag()?;
    let count = input.count()?;
    let mut recipients = Vec::with_capacity(count);
    for _ in 0..count {
        let index = input.narrow()?;
        let last = if input.flag()? { Some(read_status(input)?) } else { None };
        recipients.push(UnitRecipient { index, last_status: last });
    }
    Ok(Unit {
        id: key.id,
        number: key.number,
        recipients,
        attempts,
        next_at: key.next_at,
        version,
        unit_count: siblings,
        has_body_file: body_file,
    })
}

/// Unit that is not due, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SuspendedUnit {
    /// Unit put on hold for the operator.
    Held { reason: String, unit: Unit },
    /// Unit whose message cannot be read.
    CorruptMessage { detail: String, unit: Unit },
    /// Unit whose own record cannot be read, with the raw record.
    CorruptUnit { detail: String, next_at: Timestamp, record: Bytes },
}

pub(crate) fn encode_suspended(key: &[u8], parked: &SuspendedUnit) -> Bytes {
    let mut out = RecordWriter::new_record(SUSPENDED_VERSION, 64);
    let (kind, reason, next_at) = match parked {
        SuspendedUnit::Held { reason, unit } => (0, reason, unit.next_at),
        SuspendedUnit::CorruptMessage { detail, unit } => (1, detail, unit.next_at),
        SuspendedUnit::CorruptUnit { detail, next_at, .. } => (2, detail, *next_at),
    };
    out.u8(kind);
    out.text(reason);
    out.number(next_at.as_millis());
    match parked {
        SuspendedUnit::Held { unit, .. } | SuspendedUnit::CorruptMessage { unit, .. } => write_unit_fields(&mut out, unit),
        SuspendedUnit::CorruptUnit { record, .. } => out.bytes(record),
    }
    out.seal(key).into()
}

pub(crate) fn decode_suspended(key: &[u8], id: QueueId, number: u16, record: &[u8]) -> Result<SuspendedUnit, MalformedRecord> {
    let mut input = RecordReader(open_record(record, key, SUSPENDED_VERSION)?);
    let kind = input.u8()?;
    let reason = input.text()?.to_owned();
    let next_at = Timestamp::from_millis(input.number()?);
    let key = DueKey { next_at, id, number };
    let parked = match kind {
        0 => SuspendedUnit::Held { reason, unit: read_unit_fields(&mut input, key)? },
        1 => SuspendedUnit::CorruptMessage { detail: reason, unit: read_unit_fields(&mut input, key)? },
        2 => SuspendedUnit::CorruptUnit { detail: reason, next_at, record: Bytes::copy_from_slice(input.bytes()?) },
        _ => return Err(MalformedRecord("the reason is unknown")),
    };
    input.end()?;
    Ok(parked)
}

/// Schedule state stored from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateRecord {
    /// Low-water cursor: no unit is due below.
    pub(crate) low: DueKey,
    /// Greatest message id in use.
    pub(crate) last_id: QueueId,
}

/// Maximum octets of a state record with its key.
pub(crate) const STATE_BYTES_MAX: usize = 256;

pub(crate) fn encode_state(key: &[u8], state: StateRecord) -> Bytes {
    let mut out = RecordWriter::new_record(STATE_VERSION, DUE_KEY_BYTES + 10);
    out.0.extend_from_slice(&due_key(state.low));
    out.number(state.last_id.as_u64());
    out.seal(key).into()
}

pub(crate) fn decode_state(key: &[u8], record: &[u8]) -> Result<StateRecord, MalformedRecord> {
    let mut input = RecordReader(open_record(record, key, STATE_VERSION)?);
    let low = parse_due_key(input.take(DUE_KEY_BYTES)?).ok_or(MalformedRecord("the low-water cursor is no key"))?;
    let last_id = QueueId::from_u64(input.number()?);
    input.end()?;
    Ok(StateRecord { low, last_id })
}

pub(crate) fn encode_number(key: &[u8], number: u64) -> Bytes {
    let mut out = RecordWriter::new_record(NUMBER_VERSION, 10);
    out.number(number);
    out.seal(key).into()
}

pub(crate) fn decode_number(key: &[u8], record: &[u8]) -> Result<u64, MalformedRecord> {
    let mut input = RecordReader(open_record(record, key, NUMBER_VERSION)?);
    let number = input.number()?;
    input.end()?;
    Ok(number)
}

#[cfg(test)]
mod tests;
