//! Stores of plugins in a keyspace of their own. What is set is seen at once and reaches the disk with the next commits: no plugin's
//! counter makes mail wait for a sync.

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
use waxwing_pipeline::{KvError, KvPair, KvStore};
use waxwing_store::{Batch, Completion, Keyspace, Permit, Store, StoreError, Urgency};
use waxwing_types::{Clock, Timestamp};

/// The keyspace that the store must be opened with.
pub const KV_KEYSPACE: &str = "kv";
/// Octets of a namespace's name.
pub const KV_NAMESPACE_BYTES_MAX: usize = 64;
/// Octets of a key.
pub const KV_KEY_BYTES_MAX: usize = 512;
/// Octets of a value.
pub const KV_VALUE_BYTES_MAX: usize = 1 << 20;
/// Octets that each pair is counted with beside its key and value.
pub const KV_PAIR_BYTES: u64 = 32;
/// Pairs of one scan.
pub const KV_SCAN_MAX: usize = 1000;
/// Octets of the keys and values of one scan; a pair that passes it is the last.
pub const KV_SCAN_BYTES_MAX: usize = 1 << 20;

/// Rows that are read at once.
const PAGE_ROWS: usize = 512;
/// Rows that one sweep looks at; the next goes on behind them.
const SWEEP_ROWS_MAX: usize = 20_000;
/// Octets of the time before each value.
const TIME_BYTES: usize = 8;
/// Octets of a batch beside key and value, generously.
const BATCH_BYTES: usize = 128;

/// A value with its time: octets of the row, the first eight when it is over (milliseconds since 1970, 0: never).
#[derive(Clone)]
struct Row(Bytes);

impl Row {
    fn new(value: &[u8], until: u64) -> Self {
        let mut row = BytesMut::with_capacity(TIME_BYTES + value.len());
        row.put_u64(until);
        row.put_slice(value);
        Self(row.freeze())
    }

    fn until(&self) -> u64 {
        self.0.first_chunk::<TIME_BYTES>().map_or(1, |time| u64::from_be_bytes(*time))
    }

    fn value(&self) -> &[u8] {
        self.0.get(TIME_BYTES..).unwrap_or_default()
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.until() != 0 && self.until() <= now.as_millis()
    }
}

/// A write that the store has not finished: what reads see meanwhile.
struct Pending {
    number: u64,
    /// None: removed.
    row: Option<Row>,
}

#[derive(Default)]
struct State {
    /// Octets of each namespace that was written to in this run.
    bytes: HashMap<String, u64>,
    pending: BTreeMap<Bytes, Pending>,
    /// In the order of the writes.
    unfinished: VecDeque<(Completion, u64, Vec<Bytes>)>,
    number: u64,
    /// Where the next sweep begins.
    swept: Bytes,
}

/// The stores of all plugins.
#[derive(Clone)]
pub struct KvStores(Arc<Inner>);

struct Inner {
    store: Store,
    rows: Keyspace,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl KvStores {
    /// Opens the stores of a database that has [`KV_KEYSPACE`]. Nothing is read yet: the first write to a namespace counts it.
    pub fn open(store: &Store, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let rows = store.keyspace(KV_KEYSPACE)?;
        Ok(Self(Arc::new(Inner { store: store.clone(), rows, clock, state: Mutex::default() })))
    }

    /// Removes pairs whose time is over, and says how many. It looks at some thousand pairs and goes on behind them the next time. To
    /// be called every few seconds, by one caller.
    pub async fn sweep(&self) -> Result<u64, KvError> {
        let (mut seen, mut removed) = (0, 0);
        while seen < SWEEP_ROWS_MAX {
            let permit = self.0.store.reserve(PAGE_ROWS * (1024 + BATCH_BYTES)).await.map_err(unavailable)?;
            let page = self.blocking(move |inner| inner.sweep_page(permit)).await?;
            seen += page.0;
            removed += page.1;
            if page.0 < PAGE_ROWS {
                break;
            }
        }
        Ok(removed)
    }

    /// Octets of a namespace as its limit counts them; 0 if it was not written to in this run.
    #[must_use]
    pub fn bytes(&self, namespace: &str) -> u64 {
        self.0.state.lock().bytes.get(namespace).copied().unwrap_or_default()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, KvError> {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.unwrap_or_else(|_| Err(KvError::Unavailable("the server is shutting down".to_owned())))
    }

    async fn permit(&self, octets: usize) -> Result<Permit, KvError> {
        self.0.store.reserve(octets + BATCH_BYTES + 1024).await.map_err(unavailable)
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
        let row = Row::new(value, self.0.until(ttl));
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
        let until = self.0.until(ttl);
        let namespace = namespace.to_owned();
        self.blocking(move |inner| inner.add(permit, &namespace, bytes_max, key, delta, until)).await
    }

    async fn scan(&self, namespace: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvPair>, KvError> {
        let prefix = row_key(namespace, prefix)?;
        let after = after.map(|after| row_key(namespace, after)).transpose()?;
        let own = 1 + namespace.len();
        self.blocking(move |inner| inner.scan(&prefix, after, limit.min(KV_SCAN_MAX), own)).await
    }
}

impl Inner {
    fn until(&self, ttl: Option<Duration>) -> u64 {
        ttl.map_or(0, |ttl| (self.clock.now() + ttl).as_millis())
    }

    /// A pair whose time is not over.
    fn get(&self, key: &Bytes) -> Result<Option<Row>, KvError> {
        let pending = self.state.lock().pending.get(key).map(|pending| pending.row.clone());
        let row = match pending {
            Some(row) => row,
            None => self.stored(key)?,
        };
        Ok(row.filter(|row| !row.is_over(self.clock.now())))
    }

    fn stored(&self, key: &[u8]) -> Result<Option<Row>, KvError> {
        Ok(self.rows.get(key).map_err(unavailable)?.map(Row))
    }

    /// What the store will have under a key when all writes have come to it, its time over or not.
    fn latest(&self, state: &State, key: &Bytes) -> Result<Option<Row>, KvError> {
        match state.pending.get(key) {
            Some(pending) => Ok(pending.row.clone()),
            None => self.stored(key),
        }
    }

    fn add(&self, permit: Permit, namespace: &str, bytes_max: u64, key: Bytes, delta: i64, until: u64) -> Result<i64, KvError> {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let row = self.latest(&state, &key)?.filter(|row| !row.is_over(now));
        let number = row.as_ref().and_then(|row| row.value().try_into().ok().map(i64::from_be_bytes));
        let sum = number.unwrap_or_default().saturating_add(delta);
        let until = match (&row, number) {
            (Some(row), Some(_)) => row.until(),
            (None | Some(_), _) => until,
        };
        let row = Row::new(&sum.to_be_bytes(), until);
        self.write(&mut state, permit, namespace, bytes_max, key, Some(row))?;
        Ok(sum)
    }

    /// Hands a write to the store, in the order of the lock, and shows it to readers.
    fn write(
        &self,
        state: &mut State,
        permit: Permit,
        namespace: &str,
        bytes_max: u64,
        key: Bytes,
        row: Option<Row>,
    ) -> Result<(), KvError> {
        let own = 1 + namespace.len();
        let weight = |row: &Row| (key.len() - own + row.value().len()) as u64 + KV_PAIR_BYTES;
        let before = self.latest(state, &key)?;
        if before.is_none() && row.is_none() {
            return Ok(());
        }
        let bytes = match state.bytes.get(namespace) {
            Some(bytes) => *bytes,
            None => self.count(state, namespace)?,
        };
        let rest = bytes.saturating_sub(before.as_ref().map_or(0, weight));
        let bytes = rest + row.as_ref().map_or(0, weight);
        // What makes the namespace no larger is let through: a limit may have been lowered.
        if row.is_some() && bytes > bytes_max && before.as_ref().map_or(0, weight) < row.as_ref().map_or(0, weight) {
            return Err(KvError::Full);
        }
        state.bytes.insert(namespace.to_owned(), bytes);
        self.submit(state, permit, vec![(key, row)]);
        Ok(())
    }

    fn submit(&self, state: &mut State, permit: Permit, changes: Vec<(Bytes, Option<Row>)>) {
        Self::forget_finished(state);
        state.number += 1;
        let mut batch = Batch::with_capacity(changes.len());
        let mut keys = Vec::with_capacity(changes.len());
        for (key, row) in changes {
            match &row {
                Some(row) => batch.put(&self.rows, key.clone(), row.0.clone()),
                None => batch.delete(&self.rows, key.clone()),
            }
            state.pending.insert(key.clone(), Pending { number: state.number, row });
            keys.push(key);
        }
        let completion = self.store.submit(permit, batch, Urgency::Ride);
        let number = state.number;
        state.unfinished.push_back((completion, number, keys));
    }

    /// Writes that have come to the store need not be shown from here any more. One that failed has poisoned the store.
    fn forget_finished(state: &mut State) {
        let mut context = Context::from_waker(Waker::noop());
        while let Some((completion, _, _)) = state.unfinished.front_mut() {
            if Pin::new(completion).poll(&mut context).is_pending() {
                return;
            }
            let Some((_, number, keys)) = state.unfinished.pop_front() else { return };
            for key in keys {
                if state.pending.get(&key).is_some_and(|pending| pending.number == number) {
                    state.pending.remove(&key);
                }
            }
        }
    }

    /// Octets of a namespace: what is stored, with what is pending laid over it.
    fn count(&self, state: &State, namespace: &str) -> Result<u64, KvError> {
        let prefix = row_key(namespace, &[])?;
        let own = prefix.len();
        let weight = |key: &Bytes, row: &Row| (key.len() - own + row.value().len()) as u64 + KV_PAIR_BYTES;
        let pending = state.pending.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let mut bytes: u64 = pending.filter_map(|(key, pending)| Some(weight(key, pending.row.as_ref()?))).sum();
        self.each_row(&prefix, Bound::Included(prefix.clone()), |key, row| {
            if !state.pending.contains_key(&key) {
                bytes += weight(&key, &row);
            }
            true
        })?;
        Ok(bytes)
    }

    /// Stored rows whose keys begin with `prefix`, until `visit` says false.
    fn each_row(&self, prefix: &[u8], mut from: Bound<Bytes>, mut visit: impl FnMut(Bytes, Row) -> bool) -> Result<(), KvError> {
        loop {
            let page = self.rows.range(from.as_ref().map(|key| &key[..]), Bound::Unbounded, PAGE_ROWS).map_err(unavailable)?;
            let full = page.len() == PAGE_ROWS;
            let last = page.last().map(|(key, _)| key.clone());
            for (key, row) in page {
                if !key.starts_with(prefix) || !visit(key, Row(row)) {
                    return Ok(());
                }
            }
            match last {
                Some(last) if full => from = Bound::Excluded(last),
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn scan(&self, prefix: &Bytes, after: Option<Bytes>, limit: usize, own: usize) -> Result<Vec<KvPair>, KvError> {
        let now = self.clock.now();
        let from = match after {
            Some(after) if after >= *prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix.clone()),
        };
        // Writes under way first: whatever reaches the store after this is among them.
        let pending: BTreeMap<Bytes, Option<Row>> = {
            let state = self.state.lock();
            let range = state.pending.range((from.clone(), Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
            range.map(|(key, pending)| (key.clone(), pending.row.clone())).collect()
        };
        let mut found: BTreeMap<Bytes, Row> = BTreeMap::new();
        if limit > 0 {
            self.each_row(prefix, from, |key, row| {
                if !pending.contains_key(&key) && !row.is_over(now) {
                    found.insert(key, row);
                }
                found.len() < limit
            })?;
        }
        found.extend(pending.into_iter().filter_map(|(key, row)| Some((key, row.filter(|row| !row.is_over(now))?))));
        let mut octets = 0;
        let in_room = |(key, row): &(Bytes, Row)| {
            let fits = octets < KV_SCAN_BYTES_MAX;
            octets += key.len() + row.value().len();
            fits
        };
        let pairs = found.into_iter().take(limit).take_while(in_room);
        Ok(pairs.map(|(key, row)| (key.get(own..).unwrap_or_default().to_vec(), row.value().to_vec())).collect())
    }

    /// Rows seen, and removed.
    fn sweep_page(&self, permit: Permit) -> Result<(usize, u64), KvError> {
        let from = self.state.lock().swept.clone();
        let bound = if from.is_empty() { Bound::Unbounded } else { Bound::Excluded(&from[..]) };
        let page = self.rows.range(bound, Bound::Unbounded, PAGE_ROWS).map_err(unavailable)?;
        let now = self.clock.now();
        let mut state = self.state.lock();
        Self::forget_finished(&mut state);
        let full = page.len() == PAGE_ROWS;
        state.swept = page.last().filter(|_| full).map_or_else(Bytes::new, |(key, _)| key.clone());
        let seen = page.len();
        // A pair that is written at this moment is looked at the next time; one that was set anew between the read and the lock, too.
        let is_over = |key: &Bytes| self.stored(key).ok().flatten().is_some_and(|row| row.is_over(now));
        let rows = page.into_iter().map(|(key, row)| (key, Row(row)));
        let over: Vec<(Bytes, Row)> =
            rows.filter(|(key, row)| row.is_over(now) && !state.pending.contains_key(key) && is_over(key)).collect();
        if over.is_empty() {
            return Ok((seen, 0));
        }
        for (key, row) in &over {
            let Some((namespace, own)) = namespace_of(key) else { continue };
            if let Some(bytes) = state.bytes.get_mut(namespace) {
                *bytes = bytes.saturating_sub((key.len() - own + row.value().len()) as u64 + KV_PAIR_BYTES);
            }
        }
        let removed = over.len() as u64;
        self.submit(&mut state, permit, over.into_iter().map(|(key, _)| (key, None)).collect());
        Ok((seen, removed))
    }
}

/// The namespace of a row's key, and the octets before the plugin's own key.
fn namespace_of(key: &[u8]) -> Option<(&str, usize)> {
    let (length, rest) = key.split_first()?;
    let name = rest.get(..usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, 1 + name.len()))
}

/// The length of the namespace, the namespace, the key: so that no key of one is a key of another.
fn row_key(namespace: &str, key: &[u8]) -> Result<Bytes, KvError> {
    let length = u8::try_from(namespace.len()).ok().filter(|n| usize::from(*n) <= KV_NAMESPACE_BYTES_MAX);
    let Some(length) = length else { return Err(KvError::Unavailable(format!("the name {namespace} is too long for a store"))) };
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
