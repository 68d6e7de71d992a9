//! Key-value stores of plugins in a separate keyspace. Writes are visible at once and reach the disk with later commits: no
//! plugin counter delays mail by a sync.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use waxwing_pipeline::{KvEntry, KvError, KvStore};
use waxwing_store::{Batch, Completion, Keyspace, QueuePermit, Store, StoreError, Urgency};
use waxwing_types::{Clock, Timestamp};

/// Name of the required keyspace of the store.
pub const KV_KEYSPACE: &str = "kv";
/// Maximum octets of a namespace name.
pub const KV_NAMESPACE_BYTES_MAX: usize = 64;
/// Maximum octets of a key.
pub const KV_KEY_BYTES_MAX: usize = 512;
/// Maximum octets of a value.
pub const KV_VALUE_BYTES_MAX: usize = 1 << 20;
/// Octets charged for each kv entry in addition to key and value.
pub const KV_ENTRY_OVERHEAD_BYTES: u64 = 32;
/// Maximum number of kv entries in one scan.
pub const KV_SCAN_MAX: usize = 1000;
/// Octets of keys and values in one scan; the entry crossing the limit is the last.
pub const KV_SCAN_BYTES_MAX: usize = 1 << 20;

/// Rows read at once.
const PAGE_ROWS: usize = 512;
/// Rows visited by one sweep; the next sweep continues behind.
const SWEEP_ROWS_MAX: usize = 20_000;
/// Octets of the expiry time before each value.
const EXPIRY_BYTES: usize = 8;
/// Upper bound of the octets of a batch besides key and value.
const BATCH_OVERHEAD_BYTES: usize = 128;

/// Row octets: eight for the expiry time (milliseconds since 1970, 0: never), then the value.
#[derive(Clone)]
struct KvRow(Bytes);

impl KvRow {
    fn new(value: &[u8], until: u64) -> Self {
        let mut row = BytesMut::with_capacity(EXPIRY_BYTES + value.len());
        row.put_u64(until);
        row.put_slice(value);
        Self(row.freeze())
    }

    fn expires_at_ms(&self) -> u64 {
        self.0.first_chunk::<EXPIRY_BYTES>().map_or(1, |time| u64::from_be_bytes(*time))
    }

    fn value(&self) -> &[u8] {
        self.0.get(EXPIRY_BYTES..).unwrap_or_default()
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at_ms() != 0 && self.expires_at_ms() <= now.as_millis()
    }
}

/// Write not yet finished by the store, visible to reads meanwhile.
struct PendingWrite {
    write_number: u64,
    /// New row; none: removed.
    row: Option<KvRow>,
}

#[derive(Default)]
struct KvState {
    /// Octets of each namespace written in the current run.
    namespace_bytes: HashMap<String, u64>,
    pending: BTreeMap<Bytes, PendingWrite>,
    /// Writes in order of submission.
    unfinished: VecDeque<(Completion, u64, Vec<Bytes>)>,
    last_write_number: u64,
    /// Start of the next sweep.
    sweep_position: Bytes,
}

/// Key-value stores of all plugins.
#[derive(Clone)]
pub struct KvStores(Arc<KvInner>);

struct KvInner {
    store: Store,
    rows: Keyspace,
    clock: Arc<dyn Clock>,
    state: Mutex<KvState>,
}

impl KvStores {
    /// Opens the stores of a database with [`KV_KEYSPACE`]. Reads nothing: the first write to a namespace counts its octets.
    /// Errors if the keyspace is missing.
    pub fn open(store: &Store, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let rows = store.keyspace(KV_KEYSPACE)?;
        Ok(Self(Arc::new(KvInner { store: store.clone(), rows, clock, state: Mutex::default() })))
    }

    /// Removes expired kv entries; returns their number. Visits up to 20,000 entries and continues behind on the next call. For a
    /// single caller, every few seconds.
    pub async fn sweep(&self) -> Result<u64, KvError> {
        let (mut seen, mut removed) = (0, 0);
        while seen < SWEEP_ROWS_MAX {
            let permit = self.0.store.reserve(PAGE_ROWS * (1024 + BATCH_OVERHEAD_BYTES)).await.map_err(unavailable)?;
            let page = self.blocking(move |inner| inner.sweep_page(permit)).await?;
            seen += page.0;
            removed += page.1;
            if page.0 < PAGE_ROWS {
                break;
            }
        }
        Ok(removed)
    }

    /// Octets charged to a namespace; 0 if not written in the current run.
    #[must_use]
    pub fn bytes(&self, namespace: &str) -> u64 {
        self.0.state.lock().namespace_bytes.get(namespace).copied().unwrap_or_default()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KvInner) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, KvError> {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.unwrap_or_else(|_| Err(KvError::Unavailable("the server is shutting down".to_owned())))
    }

    async fn permit(&self, octets: usize) -> Result<QueuePermit, KvError> {
        self.0.store.reserve(octets + BATCH_OVERHEAD_BYTES + 1024).await.map_err(unavailable)
    }
}

#[async_trait]
impl KvStore for KvStores {
    async fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let key = row_key(namespace, key)?;
        self.blocking(move |inner| Ok(inner.get(&key)?.map(|row| row.value().to_vec()))).await
    }

    async fn set(&self, namespace: &str, bytes_max: u64, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
        if value.len() > KV_VALUE_BYTES_MAX {
            return Err(KvError::TooLarge);
        }
        let key = row_key(namespace, key)?;
        let permit = self.permit(value.len()).await?;
        let row = KvRow::new(value, self.0.expiry_ms(ttl));
        let namespace = namespace.to_owned();
        self.blocking(move |inner| inner.write(&mut inner.state.lock(), permit, &namespace, bytes_max, key, Some(row))).await
    }

    async fn delete(&self, namespace: &str, key: &[u8]) -> Result<(), KvError> {
        let key = row_key(namespace, key)?;
        let permit = self.permit(0).await?;
        let namespace = namespace.to_owned();
        self.blocking(move |inner| inner.write(&mut inner.state.lock(), permit, &namespace, u64::MAX, key, None)).await
    }

    async fn add(&self, namespace: &str, bytes_max: u64, key: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        let key = row_key(namespace, key)?;
        let permit = self.permit(0).await?;
        let until = self.0.expiry_ms(ttl);
        let namespace = namespace.to_owned();
        self.blocking(move |inner| inner.add(permit, &namespace, bytes_max, key, delta, until)).await
    }

    async fn scan(&self, namespace: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvEntry>, KvError> {
        let prefix = row_key(namespace, prefix)?;
        let after = after.map(|after| row_key(namespace, after)).transpose()?;
        let key_offset = 1 + namespace.len();
        self.blocking(move |inner| inner.scan(&prefix, after, limit.min(KV_SCAN_MAX), key_offset)).await
    }
}

impl KvInner {
    fn expiry_ms(&self, ttl: Option<Duration>) -> u64 {
        ttl.map_or(0, |ttl| (self.clock.now() + ttl).as_millis())
    }

    /// Reads an entry before its expiry.
    fn get(&self, key: &Bytes) -> Result<Option<KvRow>, KvError> {
        let pending = self.state.lock().pending.get(key).map(|pending| pending.row.clone());
        let row = match pending {
            Some(row) => row,
            None => self.read_stored(key)?,
        };
        Ok(row.filter(|row| !row.is_expired(self.clock.now())))
    }

    fn read_stored(&self, key: &[u8]) -> Result<Option<KvRow>, KvError> {
        Ok(self.rows.get(key).map_err(unavailable)?.map(KvRow))
    }

    /// Row of a key after all pending writes, expired or not.
    fn read_latest(&self, state: &KvState, key: &Bytes) -> Result<Option<KvRow>, KvError> {
        match state.pending.get(key) {
            Some(pending) => Ok(pending.row.clone()),
            None => self.read_stored(key),
        }
    }

    fn add(
        &self,
        permit: QueuePermit,
        namespace: &str,
        bytes_max: u64,
        key: Bytes,
        delta: i64,
        until: u64,
    ) -> Result<i64, KvError> {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let row = self.read_latest(&state, &key)?.filter(|row| !row.is_expired(now));
        let number = row.as_ref().and_then(|row| row.value().try_into().ok().map(i64::from_be_bytes));
        let sum = number.unwrap_or_default().saturating_add(delta);
        let until = match (&row, number) {
            (Some(row), Some(_)) => row.expires_at_ms(),
            (None | Some(_), _) => until,
        };
        let row = KvRow::new(&sum.to_be_bytes(), until);
        self.write(&mut state, permit, namespace, bytes_max, key, Some(row))?;
        Ok(sum)
    }

    /// Submits a write to the store in lock order and makes the write visible to readers.
    fn write(
        &self,
        state: &mut KvState,
        permit: QueuePermit,
        namespace: &str,
        bytes_max: u64,
        key: Bytes,
        row: Option<KvRow>,
    ) -> Result<(), KvError> {
        let key_offset = 1 + namespace.len();
        let weight = |row: &KvRow| (key.len() - key_offset + row.value().len()) as u64 + KV_ENTRY_OVERHEAD_BYTES;
        let before = self.read_latest(state, &key)?;
        if before.is_none() && row.is_none() {
            return Ok(());
        }
        let bytes = match state.namespace_bytes.get(namespace) {
            Some(bytes) => *bytes,
            None => self.count_bytes(state, namespace)?,
        };
        let rest = bytes.saturating_sub(before.as_ref().map_or(0, weight));
        let bytes = rest + row.as_ref().map_or(0, weight);
        // Writes without growth pass: the limit may have been lowered.
        if row.is_some() && bytes > bytes_max && before.as_ref().map_or(0, weight) < row.as_ref().map_or(0, weight) {
            return Err(KvError::Full);
        }
        state.namespace_bytes.insert(namespace.to_owned(), bytes);
        self.submit(state, permit, vec![(key, row)]);
        Ok(())
    }

    fn submit(&self, state: &mut KvState, permit: QueuePermit, changes: Vec<(Bytes, Option<KvRow>)>) {
        Self::drop_finished_writes(state);
        state.last_write_number += 1;
        let mut batch = Batch::with_capacity(changes.len());
        let mut keys = Vec::with_capacity(changes.len());
        for (key, row) in changes {
            match &row {
                Some(row) => batch.put(&self.rows, key.clone(), row.0.clone()),
                None => batch.delete(&self.rows, key.clone()),
            }
            state.pending.insert(key.clone(), PendingWrite { write_number: state.last_write_number, row });
            keys.push(key);
        }
        let completion = self.store.submit(permit, batch, Urgency::Lazy);
        let number = state.last_write_number;
        state.unfinished.push_back((completion, number, keys));
    }

    /// Drops finished writes from the pending set; the store shows them now. A failed write has poisoned the store.
    fn drop_finished_writes(state: &mut KvState) {
        let mut context = Context::from_waker(Waker::noop());
        while let Some((completion, _, _)) = state.unfinished.front_mut() {
            if Pin::new(completion).poll(&mut context).is_pending() {
                return;
            }
            let Some((_, number, keys)) = state.unfinished.pop_front() else { return };
            for key in keys {
                if state.pending.get(&key).is_some_and(|pending| pending.write_number == number) {
                    state.pending.remove(&key);
                }
            }
        }
    }

    /// Octets of a namespace: stored rows overlaid with pending writes.
    fn count_bytes(&self, state: &KvState, namespace: &str) -> Result<u64, KvError> {
        let prefix = row_key(namespace, &[])?;
        let key_offset = prefix.len();
        let weight = |key: &Bytes, row: &KvRow| (key.len() - key_offset + row.value().len()) as u64 + KV_ENTRY_OVERHEAD_BYTES;
        let pending = state.pending.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let mut bytes: u64 = pending.filter_map(|(key, pending)| Some(weight(key, pending.row.as_ref()?))).sum();
        self.for_each_row(&prefix, Bound::Included(prefix.clone()), |key, row| {
            if !state.pending.contains_key(&key) {
                bytes += weight(&key, &row);
            }
            true
        })?;
        Ok(bytes)
    }

    /// Visits stored rows with keys under `prefix`, until `visit` returns false.
    fn for_each_row(
        &self,
        prefix: &[u8],
        mut from: Bound<Bytes>,
        mut visit: impl FnMut(Bytes, KvRow) -> bool,
    ) -> Result<(), KvError> {
        loop {
            let page = self.rows.range(from.as_ref().map(|key| &key[..]), Bound::Unbounded, PAGE_ROWS).map_err(unavailable)?;
            let full = page.len() == PAGE_ROWS;
            let last = page.last().map(|(key, _)| key.clone());
            for (key, row) in page {
                if !key.starts_with(prefix) || !visit(key, KvRow(row)) {
                    return Ok(());
                }
            }
            match last {
                Some(last) if full => from = Bound::Excluded(last),
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn scan(&self, prefix: &Bytes, after: Option<Bytes>, limit: usize, key_offset: usize) -> Result<Vec<KvEntry>, KvError> {
        let now = self.clock.now();
        let from = match after {
            Some(after) if after >= *prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix.clone()),
        };
        // Pending writes first: later changes of the store are among them.
        let pending: BTreeMap<Bytes, Option<KvRow>> = {
            let state = self.state.lock();
            let range = state.pending.range((from.clone(), Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
            range.map(|(key, pending)| (key.clone(), pending.row.clone())).collect()
        };
        let mut rows: BTreeMap<Bytes, KvRow> = BTreeMap::new();
        if limit > 0 {
            self.for_each_row(prefix, from, |key, row| {
                if !pending.contains_key(&key) && !row.is_expired(now) {
                    rows.insert(key, row);
                }
                rows.len() < limit
            })?;
        }
        rows.extend(pending.into_iter().filter_map(|(key, row)| Some((key, row.filter(|row| !row.is_expired(now))?))));
        let mut octets = 0;
        let within_limit = |(key, row): &(Bytes, KvRow)| {
            let fits = octets < KV_SCAN_BYTES_MAX;
            octets += key.len() + row.value().len();
            fits
        };
        let entries = rows.into_iter().take(limit).take_while(within_limit);
        Ok(entries.map(|(key, row)| (key.get(key_offset..).unwrap_or_default().to_vec(), row.value().to_vec())).collect())
    }

    /// Sweeps one page; returns rows visited and removed.
    fn sweep_page(&self, permit: QueuePermit) -> Result<(usize, u64), KvError> {
        let from = self.state.lock().sweep_position.clone();
        let bound = if from.is_empty() { Bound::Unbounded } else { Bound::Excluded(&from[..]) };
        let page = self.rows.range(bound, Bound::Unbounded, PAGE_ROWS).map_err(unavailable)?;
        let now = self.clock.now();
        let mut state = self.state.lock();
        Self::drop_finished_writes(&mut state);
        let full = page.len() == PAGE_ROWS;
        state.sweep_position = page.last().filter(|_| full).map_or_else(Bytes::new, |(key, _)| key.clone());
        let seen = page.len();
        // Entries pending at the moment wait for the next sweep, as do entries renewed between the read and the lock.
        let is_over = |key: &Bytes| self.read_stored(key).ok().flatten().is_some_and(|row| row.is_expired(now));
        let rows = page.into_iter().map(|(key, row)| (key, KvRow(row)));
        let over: Vec<(Bytes, KvRow)> =
            rows.filter(|(key, row)| row.is_expired(now) && !state.pending.contains_key(key) && is_over(key)).collect();
        if over.is_empty() {
            return Ok((seen, 0));
        }
        for (key, row) in &over {
            let Some((namespace, key_offset)) = split_row_key(key) else { continue };
            if let Some(bytes) = state.namespace_bytes.get_mut(namespace) {
                *bytes = bytes.saturating_sub((key.len() - key_offset + row.value().len()) as u64 + KV_ENTRY_OVERHEAD_BYTES);
            }
        }
        let removed = over.len() as u64;
        self.submit(&mut state, permit, over.into_iter().map(|(key, _)| (key, None)).collect());
        Ok((seen, removed))
    }
}

/// Splits a row key: namespace, and the octets before the plugin's key.
fn split_row_key(key: &[u8]) -> Option<(&str, usize)> {
    let (length, rest) = key.split_first()?;
    let name = rest.get(..usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, 1 + name.len()))
}

/// Builds a row key from length of the namespace, namespace and key: keys of different namespaces never collide.
fn row_key(namespace: &str, key: &[u8]) -> Result<Bytes, KvError> {
    let length = u8::try_from(namespace.len()).ok().filter(|n| usize::from(*n) <= KV_NAMESPACE_BYTES_MAX);
    let Some(length) = length else { return Err(KvError::Unavailable(format!("namespace name too long: {namespace}"))) };
    if key.len() > KV_KEY_BYTES_MAX {
        return Err(KvError::TooLarge);
    }
    let mut row = BytesMut::with_capacity(1 + namespace.len() + key.len());
    row.put_u8(length);
    row.put_slice(namespace.as_bytes());
    row.put_slice(key);
    Ok(row.freeze())
}

#[allow(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn unavailable(error: StoreError) -> KvError {
    KvError::Unavailable(error.to_string())
}
