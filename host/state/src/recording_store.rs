//! Store of recorded transactions in a separate keyspace: bounded by octets and age, redacted before the write, written without a
//! sync by a separate task so that no session waits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use waxwing_config::RecordingConfig;
use waxwing_pipeline::{Recorder, Recording};
use waxwing_store::{Batch, Keyspace, Store};
use waxwing_types::{Clock, QueueId, Timestamp};

use crate::TraceError;
use crate::recording_codec::{decode, encode};

/// Name of the required keyspace of the store.
pub const RECORDING_KEYSPACE: &str = "recording";
/// Recordings waiting for the writer; more are dropped. Each holds at most a header and a body in memory.
const RECORDING_QUEUE_MAX: usize = 64;
/// Period of the removal of expired recordings.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);
/// Rows read at once on opening.
const COUNT_ROWS: usize = 256;
/// Octets of a key: the queue id.
const KEY_BYTES: u64 = 8;

/// Page of recordings, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingPage {
    /// Readable recordings of the page.
    pub recordings: Vec<Recording>,
    /// Number of recordings of another version or damaged.
    pub unreadable: u64,
    /// Id before which the next page starts; none on the last page.
    pub next: Option<QueueId>,
}

/// Store of recordings.
pub struct RecordingStore {
    store: Store,
    rows: Keyspace,
    config: RecordingConfig,
    clock: Arc<dyn Clock>,
    /// Stored octets by queue id.
    index: Mutex<BTreeMap<u64, u64>>,
    bytes: AtomicU64,
    queue: mpsc::Sender<RecordingJob>,
    dropped: AtomicU64,
    drop_logged: AtomicBool,
}

enum RecordingJob {
    Write(Box<Recording>),
    /// Signals the end of all writes queued before.
    Flush(oneshot::Sender<()>),
}

/// Receiver of the writer queue, for [`RecordingStore::run`].
pub struct RecordingQueue(mpsc::Receiver<RecordingJob>);

impl RecordingStore {
    /// Opens the recordings of a store with [`RECORDING_KEYSPACE`]. Reads nothing. Errors if the keyspace is missing.
    pub fn open(
        store: &Store,
        config: RecordingConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, RecordingQueue), TraceError> {
        let (line, waiting) = mpsc::channel(RECORDING_QUEUE_MAX);
        let this = Self {
            rows: store.keyspace(RECORDING_KEYSPACE)?,
            store: store.clone(),
            config,
            clock,
            index: Mutex::default(),
            bytes: AtomicU64::new(0),
            queue: line,
            dropped: AtomicU64::new(0),
            drop_logged: AtomicBool::new(false),
        };
        Ok((Arc::new(this), RecordingQueue(waiting)))
    }

    /// Indexes recordings of earlier runs, then writes new ones and enforces the limits. Returns only at shutdown or on an error
    /// of the store.
    pub async fn run(self: Arc<Self>, mut waiting: RecordingQueue) -> Result<(), TraceError> {
        let this = Arc::clone(&self);
        tokio::task::spawn_blocking(move || this.load_index()).await.map_err(|_| TraceError::Stopped)??;
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                job = waiting.0.recv() => match job {
                    Some(RecordingJob::Write(recording)) => self.write(*recording),
                    Some(RecordingJob::Flush(answer)) => _ = answer.send(()),
                    None => return Ok(()),
                },
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    /// Returns the recording of a transaction. Blocks for a read; errors if the store fails.
    pub fn get(&self, id: QueueId) -> Result<RecordingPage, TraceError> {
        let mut page = RecordingPage::default();
        if !self.is_expired(id) && self.index.lock().contains_key(&id.as_u64()) {
            page.push_row(self.rows.get(&id.to_key())?);
        }
        Ok(page)
    }

    /// Returns at most `limit` recordings before the id `before`, or the latest, of about `bytes_max` octets at most. Blocks for
    /// reads; errors if the store fails.
    pub fn last(&self, before: Option<QueueId>, limit: usize, bytes_max: u64) -> Result<RecordingPage, TraceError> {
        let end = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_u64()));
        let (mut ids, mut more, mut bytes) = (Vec::new(), None, 0u64);
        for (id, size) in self.index.lock().range((Bound::Unbounded, end)).rev() {
            bytes = bytes.saturating_add(*size);
            if self.is_expired(QueueId::from_u64(*id)) {
                break;
            }
            if ids.len() >= limit || (bytes > bytes_max && !ids.is_empty()) {
                more = ids.last().copied();
                break;
            }
            ids.push(QueueId::from_u64(*id));
        }
        let mut page = RecordingPage { next: more, ..RecordingPage::default() };
        for id in ids {
            page.push_row(self.rows.get(&id.to_key())?);
        }
        Ok(page)
    }

    /// Waits until earlier recordings are readable. Errors if the writer has stopped or the store fails.
    pub async fn flush(&self) -> Result<(), TraceError> {
        let (answer, written) = oneshot::channel();
        self.queue.send(RecordingJob::Flush(answer)).await.map_err(|_| TraceError::Stopped)?;
        written.await.map_err(|_| TraceError::Stopped)?;
        Ok(self.store.commit(Batch::default()).await?)
    }

    /// Octets of stored keys and recordings.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of recordings dropped because of a full queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn load_index(&self) -> Result<(), TraceError> {
        let mut from = Bytes::new();
        loop {
            let bound = if from.is_empty() { Bound::Unbounded } else { Bound::Excluded(&from[..]) };
            let rows = self.rows.range(bound, Bound::Unbounded, COUNT_ROWS)?;
            let mut index = self.index.lock();
            for (key, value) in &rows {
                if let Ok(key) = <[u8; 8]>::try_from(&key[..]) {
                    let size = KEY_BYTES + value.len() as u64;
                    index.insert(u64::from_be_bytes(key), size);
                    self.bytes.fetch_add(size, Ordering::Relaxed);
                }
            }
            match rows.last() {
                Some((key, _)) if rows.len() == COUNT_ROWS => from = key.clone(),
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn write(&self, recording: Recording) {
        let Ok(id) = recording.id.parse::<QueueId>() else { return };
        let value = encode(recording, &self.config);
        let size = KEY_BYTES + value.len() as u64;
        if size > self.config.bytes_max {
            return;
        }
        let mut batch = Batch::default();
        batch.put(&self.rows, Bytes::copy_from_slice(&id.to_key()), value);
        let before = self.index.lock().insert(id.as_u64(), size).unwrap_or_default();
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        self.enforce_limits(&mut batch);
        self.store.put_unsynced(batch);
    }

    fn sweep(&self) {
        let mut batch = Batch::default();
        self.enforce_limits(&mut batch);
        if !batch.is_empty() {
            self.store.put_unsynced(batch);
        }
    }

    /// Removes the oldest recordings until the limits hold.
    fn enforce_limits(&self, batch: &mut Batch) {
        let mut index = self.index.lock();
        while let Some((&id, &size)) = index.first_key_value() {
            let id = QueueId::from_u64(id);
            if self.bytes() <= self.config.bytes_max && !self.is_expired(id) {
                return;
            }
            index.remove(&id.as_u64());
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            batch.delete(&self.rows, Bytes::copy_from_slice(&id.to_key()));
        }
    }

    fn is_expired(&self, id: QueueId) -> bool {
        let now: Timestamp = self.clock.now();
        now.since(id.created_at()) > self.config.age_max
    }
}

impl RecordingPage {
    fn push_row(&mut self, value: Option<Bytes>) {
        match value.map(|value| decode(&value)) {
            Some(Ok(recording)) => self.recordings.push(recording),
            Some(Err(_)) => self.unreadable += 1,
            None => {}
        }
    }
}

impl Recorder for RecordingStore {
    fn record(&self, recording: Recording) {
        if self.queue.try_send(RecordingJob::Write(Box::new(recording))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if !self.drop_logged.swap(true, Ordering::Relaxed) {
                tracing::warn!("recording queue full: recordings dropped");
            }
        }
    }
}

#[cfg(test)]
mod tests;
