//! Notification of the spool's owner about new units, with their messages as far as channel and memory limits allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use waxwing_spool::{DueKey, NewUnit, NewUnitSource, NewUnits};
use waxwing_types::{BodyRead, MemoryBody};

pub(crate) struct NewUnitChannel {
    sender: mpsc::Sender<NewUnit>,
    receiver: Mutex<Option<mpsc::Receiver<NewUnit>>>,
    memory: Arc<NewUnitMemory>,
    /// Least key of the dropped notifications.
    overflow: Mutex<Option<DueKey>>,
    wake: Notify,
    dropped: AtomicU64,
}

/// Receiving end of the notifications.
struct NewUnitReceiver(mpsc::Receiver<NewUnit>);

impl NewUnitSource for NewUnitReceiver {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<NewUnit>> {
        self.0.poll_recv(context)
    }
}

/// Memory budget for messages passed to the owner with notifications.
struct NewUnitMemory {
    used: AtomicU64,
    bytes_max: u64,
}

impl NewUnitChannel {
    pub(crate) fn new(hints_max: usize, bytes_max: u64) -> Self {
        let (sender, receiver) = mpsc::channel(hints_max);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            memory: Arc::new(NewUnitMemory { used: AtomicU64::new(0), bytes_max }),
            overflow: Mutex::default(),
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn receiver(&self) -> NewUnits {
        NewUnits::new(NewUnitReceiver(self.receiver.lock().take().unwrap_or_else(|| mpsc::channel(1).1)))
    }

    /// Reserves budget for a message of `bytes` octets; returns `None` if the budget is exhausted.
    pub(crate) fn reserve_memory(&self, bytes: u64) -> Option<NewUnitMemoryGuard> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.memory.bytes_max);
        self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(NewUnitMemoryGuard { memory: self.memory.clone(), bytes })
    }

    /// Sends a notification, or records that the owner must scan for the unit.
    pub(crate) fn send(&self, new_unit: NewUnit) {
        let key = new_unit.unit.due_key();
        if self.sender.try_send(new_unit).is_err() {
            self.note_overflow(key);
        }
    }

    pub(crate) fn note_overflow(&self, key: DueKey) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.request_rescan(key);
    }

    /// Asks the owner to scan from the key on.
    pub(crate) fn request_rescan(&self, key: DueKey) {
        let mut overflow = self.overflow.lock();
        *overflow = Some(overflow.map_or(key, |other| other.min(key)));
        drop(overflow);
        self.wake.notify_one();
    }

    pub(crate) async fn take_overflow(&self) -> DueKey {
        loop {
            if let Some(key) = self.overflow.lock().take() {
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
pub(crate) struct NewUnitMemoryGuard {
    memory: Arc<NewUnitMemory>,
    bytes: u64,
}

impl Drop for NewUnitMemoryGuard {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Body in memory whose message counts against the notification budget.
pub(crate) struct CountedBody {
    body: MemoryBody,
    _guard: NewUnitMemoryGuard,
}

impl CountedBody {
    pub(crate) fn new(bytes: Bytes, guard: NewUnitMemoryGuard) -> Self {
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
