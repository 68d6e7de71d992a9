//! Store keys of units, sorted as [`DueKey`]s and as message ids.

use waxwing_spool::DueKey;
use waxwing_types::{QueueId, Timestamp};

/// Octets of a stored [`DueKey`].
pub(crate) const DUE_KEY_BYTES: usize = 18;
/// Octets of a stored message id with unit number.
pub(crate) const SUSPENDED_KEY_BYTES: usize = 10;

/// Returns the store key of a due unit.
pub(crate) fn due_key(due: DueKey) -> [u8; DUE_KEY_BYTES] {
    let mut key = [0; DUE_KEY_BYTES];
    let (at, rest) = key.split_at_mut(8);
    at.copy_from_slice(&due.next_at.as_millis().to_be_bytes());
    rest.copy_from_slice(&suspended_key(due.id, due.number));
    key
}

pub(crate) fn parse_due_key(key: &[u8]) -> Option<DueKey> {
    let (at, rest) = key.split_first_chunk::<8>()?;
    let (id, number) = parse_suspended_key(rest)?;
    Some(DueKey { next_at: Timestamp::from_millis(u64::from_be_bytes(*at)), id, number })
}

/// Returns the key of a suspended unit (on hold or corrupt).
pub(crate) fn suspended_key(id: QueueId, number: u16) -> [u8; SUSPENDED_KEY_BYTES] {
    let mut key = [0; SUSPENDED_KEY_BYTES];
    let (first, last) = key.split_at_mut(8);
    first.copy_from_slice(&id.to_key());
    last.copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn parse_suspended_key(key: &[u8]) -> Option<(QueueId, u16)> {
    let (id, number) = key.split_first_chunk::<8>()?;
    let number = <[u8; 2]>::try_from(number).ok()?;
    Some((QueueId::from_u64(u64::from_be_bytes(*id)), u16::from_be_bytes(number)))
}
