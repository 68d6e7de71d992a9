//! Notification of the spool's owner about new units, with their messages as far as channel and memory limits allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use waxwing_types::{BodyRead, MemoryBody};

use crate::spool::Fresh;
use crate::unit::DueKey;

pub(crate) struct Hints {
    sender: mpsc::Sender<Fresh>,
    receiver: Mutex<Option<mpsc::Receiver<Fresh>>>,
    memory: Arc<HintMemory>,
    /// Least key of the dropped notifications.
    missed: Mutex<Option<DueKey>>,
    wake: Notify,
    dropped: AtomicU64,
}

/// Memory budget for messages passed to the owner with notifications.
struct HintMemory {
    used: AtomicU64,
    bytes_max: u64,
}

impl Hints {
    pub(crate) fn new(hints_max: usize, bytes_max: u64) -> Self {
        let (sender, receiver) = mpsc::channel(hints_max);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            memory: Arc::new(HintMemory { used: AtomicU64::new(0), bytes_max }),
            missed: Mutex::default(),
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn receiver(&self) -> mpsc::Receiver<Fresh> {
        self.receiver.lock().take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Reserves budget for a message of `bytes` octets; returns `None` if the budget is exhausted.
    pub(crate) fn admit(&self, bytes: u64) -> Option<HintGuard> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.memory.bytes_max);
        self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(HintGuard { memory: self.memory.clone(), bytes })
    }

    /// Sends a notification, or records that the owner must scan for the unit.
    pub(crate) fn send(&self, new_unit: Fresh) {
        let key = new_unit.unit.due_key();
        if self.sender.try_send(new_unit).is_err() {
            self.miss(key);
        }
    }

    pub(crate) fn miss(&self, key: DueKey) {
        let mut overflow = self.missed.lock();
        *overflow = Some(overflow.map_or(key, |other| other.min(key)));
        drop(overflow);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(crate) async fn missed(&self) -> DueKey {
        loop {
            if let Some(key) = self.missed.lock().take() {
                return key;
            }
            self.wake.notified().await;
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Releases the reserved octets when the message is dropped.
pub(crate) struct HintGuard {
    memory: Arc<HintMemory>,
    bytes: u64,
}

impl Drop for HintGuard {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Body in memory whose message counts against the notification budget.
pub(crate) struct CountedBody {
    body: MemoryBody,
    _guard: HintGuard,
}

impl CountedBody {
    pub(crate) fn new(bytes: Bytes, guard: HintGuard) -> Self {
        Self { body: MemoryBody::new(bytes), _guard: guard }
    }
}

#[async_trait]
impl BodyRead for CountedBody {
    fn size(&self) -> u64 {
        self.body.size()
    }

    fn in_memory(&self) -> Option<&Bytes> {
        self.body.in_memory()
    }

    async fn read(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        self.body.read(offset, length).await
    }
}
