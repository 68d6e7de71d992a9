//! Incoming bodies: kept in memory while small and within the memory budget, otherwise written to a file.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_spool::{BODY_INLINE_BYTES_MAX, BodySink, EngineBody, NewBody, Reservation, SpoolError};
use waxwing_store::crash_point;
use waxwing_types::{BodyRead, MemoryBody, QueueId};

use crate::blocking::BlockingPool;
use crate::body_files::{BodyFile, BodyFiles};
use crate::file_body::{BlockChecksums, BodyFileRef, FileBody, body_file_name};
use crate::record::RecordBody;

/// Initial buffer size in octets of a writer without a size hint.
const INITIAL_BUFFER_BYTES: usize = 8 << 10;

/// State shared by body writers and readers.
pub(crate) struct BodyStore {
    pub(crate) files: Arc<dyn BodyFiles>,
    pub(crate) blocking: BlockingPool,
    pub(crate) memory: Arc<BodyMemoryBudget>,
    pub(crate) files_created: AtomicU64,
}

/// Budget in octets for all writers together (`spool_memory_bytes_max`).
pub(crate) struct BodyMemoryBudget {
    used: AtomicU64,
    bytes_max: u64,
}

impl BodyMemoryBudget {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), bytes_max })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Part of the common memory budget taken by a single writer.
struct MemoryShare {
    memory: Arc<BodyMemoryBudget>,
    bytes: u64,
}

impl MemoryShare {
    fn try_grow(&mut self, to: u64) -> bool {
        let more = to.saturating_sub(self.bytes);
        let fits = |used: u64| used.checked_add(more).filter(|used| *used <= self.memory.bytes_max);
        let grown = self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum BodyStorage {
    Memory,
    File(OpenBodyFile),
    /// State after an error: the written data is incomplete.
    Failed,
}

struct OpenBodyFile {
    file: Box<dyn BodyFile>,
    unreferenced: Arc<UnreferencedFile>,
    sums: BlockChecksums,
}

/// Body file without a referencing record: removed on drop, unless a commit with a reference has been submitted.
struct UnreferencedFile {
    files: Arc<dyn BodyFiles>,
    id: QueueId,
    suffix: u16,
    referenced: AtomicBool,
}

impl Drop for UnreferencedFile {
    fn drop(&mut self) {
        if self.referenced.load(Ordering::Relaxed) {
            return;
        }
        let (files, name) = (self.files.clone(), body_file_name(self.id, self.suffix));
        let remove = move || {
            if let Err(error) = files.remove(&name) {
                tracing::warn!(file = %name, %error, "an unused body file stays until the next start");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_none) => remove(),
        }
    }
}

/// Receives a body in pieces. Buffers at most 256 KiB, less when the common budget is exhausted.
pub(crate) struct BodyWriter {
    bodies: Arc<BodyStore>,
    id: QueueId,
    reservation: Reservation,
    size: u64,
    buffer: Vec<u8>,
    memory_share: MemoryShare,
    storage: BodyStorage,
}

impl BodyWriter {
    pub(crate) fn new(bodies: Arc<BodyStore>, id: QueueId, reservation: Reservation) -> Self {
        let share = MemoryShare { memory: bodies.memory.clone(), bytes: 0 };
        Self { bodies, id, reservation, size: 0, buffer: Vec::new(), memory_share: share, storage: BodyStorage::Memory }
    }

    /// Buffers the piece if the inline limit and the budget allow.
    fn try_buffer(&mut self, piece: &[u8]) -> bool {
        let needed = self.buffer.len() + piece.len();
        if needed > BODY_INLINE_BYTES_MAX || matches!(self.storage, BodyStorage::Failed) {
            return false;
        }
        if needed > self.buffer.capacity() {
            let hint = usize::try_from(self.reservation.size_hint()).unwrap_or(usize::MAX);
            let first = if hint == 0 { INITIAL_BUFFER_BYTES } else { hint };
            let capacity = needed.max(2 * self.buffer.capacity()).max(first).min(BODY_INLINE_BYTES_MAX);
            if !self.memory_share.try_grow(capacity as u64) {
                return false;
            }
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(piece);
        true
    }

    async fn create_file(&self) -> Result<OpenBodyFile, SpoolError> {
        self.reservation.check_reserve()?;
        let (files, id) = (self.bodies.files.clone(), self.id);
        let create = move || -> io::Result<OpenBodyFile> {
            let mut suffix = 0;
            loop {
                match files.create(&body_file_name(id, suffix)) {
                    Ok(file) => {
                        crash_point("queue.after_body_create");
                        let unreferenced = Arc::new(UnreferencedFile { files, id, suffix, referenced: AtomicBool::new(false) });
                        return Ok(OpenBodyFile { file, unreferenced, sums: BlockChecksums::default() });
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && suffix < u16::MAX => suffix += 1,
                    Err(error) => return Err(error),
                }
            }
        };
        let file = self.bodies.blocking.run(create).await??;
        self.bodies.files_created.fetch_add(1, Ordering::Relaxed);
        Ok(file)
    }

    /// Writes the buffered octets, then the piece.
    async fn flush(&mut self, mut file: OpenBodyFile, piece: Bytes) -> Result<OpenBodyFile, SpoolError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = buffer.len() + piece.len();
        let append = move || -> io::Result<(OpenBodyFile, Vec<u8>)> {
            for part in [&buffer[..], &piece[..]] {
                file.sums.update(part);
                file.file.append(part)?;
            }
            buffer.clear();
            crash_point("queue.after_body_write");
            Ok((file, buffer))
        };
        let (file, buffer) = self.bodies.blocking.run(append).await??;
        self.buffer = buffer;
        self.reservation.consume(bytes as u64);
        Ok(file)
    }
}

#[async_trait]
impl BodySink for BodyWriter {
    fn size(&self) -> u64 {
        self.size
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), SpoolError> {
        self.reservation.extend_to(self.size + piece.len() as u64)?;
        self.size += piece.len() as u64;
        if self.try_buffer(&piece) {
            return Ok(());
        }
        let file = match std::mem::replace(&mut self.storage, BodyStorage::Failed) {
            BodyStorage::File(file) => file,
            BodyStorage::Memory => self.create_file().await?,
            BodyStorage::Failed => return Err(SpoolError::Invalid("the body failed before")),
        };
        let file = self.flush(file, piece).await?;
        self.storage = BodyStorage::File(file);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<NewBody, SpoolError> {
        match std::mem::replace(&mut self.storage, BodyStorage::Failed) {
            BodyStorage::Failed => Err(SpoolError::Invalid("the body failed before")),
            BodyStorage::Memory => {
                let Self { buffer, memory_share, reservation, .. } = *self;
                let pending = PendingResources { _memory_share: Some(memory_share), _reservation: reservation, file: None };
                Ok(EmbeddedBody::finish(BodyContent::Memory(Bytes::from(buffer)), pending))
            }
            BodyStorage::File(file) => {
                let OpenBodyFile { mut file, unreferenced, sums } = self.flush(file, Bytes::new()).await?;
                let files = self.bodies.files.clone();
                let sync = move || -> io::Result<()> {
                    file.sync()?;
                    crash_point("queue.after_body_sync");
                    files.sync_directory()?;
                    crash_point("queue.after_body_directory_sync");
                    Ok(())
                };
                self.bodies.blocking.run(sync).await??;
                let Self { bodies, id, size, reservation, .. } = *self;
                let body = BodyFileRef { suffix: unreferenced.suffix, size, block_checksums: sums.finish() };
                let pending = PendingResources { _memory_share: None, _reservation: reservation, file: Some(unreferenced) };
                Ok(EmbeddedBody::finish(BodyContent::File { bodies, id, body }, pending))
            }
        }
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("id", &self.id).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Resources of a body until the message is committed.
struct PendingResources {
    _memory_share: Option<MemoryShare>,
    _reservation: Reservation,
    file: Option<Arc<UnreferencedFile>>,
}

#[derive(Clone)]
enum BodyContent {
    Memory(Bytes),
    File { bodies: Arc<BodyStore>, id: QueueId, body: BodyFileRef },
}

/// Body finished by a [`BodyWriter`]. An unused body file is removed on drop.
pub(crate) struct EmbeddedBody {
    content: BodyContent,
    pending: PendingResources,
}

impl EmbeddedBody {
    fn finish(content: BodyContent, pending: PendingResources) -> NewBody {
        NewBody::from_engine(Arc::new(Self { content, pending }))
    }

    /// Returns the form in which a message record of message `id` names the body.
    pub(crate) fn record_body(&self, id: QueueId) -> Result<RecordBody, SpoolError> {
        match &self.content {
            BodyContent::Memory(bytes) => Ok(RecordBody::Inline(bytes.clone())),
            BodyContent::File { id: body_id, .. } if *body_id != id => Err(SpoolError::Invalid("the body of another message")),
            BodyContent::File { body, .. } => Ok(RecordBody::File(body.clone())),
        }
    }

    /// Marks the file as referenced by a submitted commit. From then on only the cleanup at start may remove the file,
    /// because the commit may become durable whatever result was reported.
    pub(crate) fn mark_referenced(&self) {
        if let Some(file) = &self.pending.file {
            file.referenced.store(true, Ordering::Relaxed);
        }
    }
}

impl EngineBody for EmbeddedBody {
    fn size(&self) -> u64 {
        match &self.content {
            BodyContent::Memory(bytes) => bytes.len() as u64,
            BodyContent::File { body, .. } => body.size,
        }
    }

    fn reader(self: Arc<Self>) -> Arc<dyn BodyRead> {
        match &self.content {
            BodyContent::Memory(bytes) => Arc::new(MemoryBody::new(bytes.clone())),
            BodyContent::File { bodies, id, body } => {
                let body = FileBody::new(bodies.files.clone(), bodies.blocking.clone(), *id, body.clone());
                Arc::new(PendingFileBody { body, _pending: self.clone() })
            }
        }
    }

    fn has_reservation(&self) -> bool {
        true
    }
}

/// Returns the form in which the record of message `id` names the body.
pub(crate) fn record_body(id: QueueId, body: &NewBody) -> Result<RecordBody, SpoolError> {
    match (body.inline_bytes(), body.engine_body::<EmbeddedBody>()) {
        (Some(bytes), _) => Ok(RecordBody::Inline(bytes.clone())),
        (None, Some(body)) => body.record_body(id),
        (None, None) => Err(SpoolError::Invalid("the body of another engine")),
    }
}

/// Body file kept on disk while a reader exists.
struct PendingFileBody {
    body: FileBody,
    _pending: Arc<EmbeddedBody>,
}

#[async_trait]
impl BodyRead for PendingFileBody {
    fn size(&self) -> u64 {
        self.body.size()
    }

    fn in_memory(&self) -> Option<&Bytes> {
        None
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.body.read(offset, length).await
    }
}
