//! Bodies on their way in: in memory while they are small and memory lasts, else in a file.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use waxwing_store::crash_point;
use waxwing_types::{BodyRead, MemoryBody, QueueId};

use crate::blocking::Blocking;
use crate::error::SpoolError;
use crate::file_body::{BlockSums, BodyRef, FileBody, file_name};
use crate::files::{BodyFile, BodyFiles};
use crate::room::Reservation;
use crate::spool::Spool;

/// Octets of a body that is kept inside the store; also the most that a [`BodyWriter`] holds.
pub const BODY_INLINE_BYTES_MAX: usize = 256 << 10;
/// Octets that a writer begins with when the size is not known.
const FIRST_BYTES: usize = 8 << 10;

/// What writers and readers of bodies share.
pub(crate) struct Bodies {
    pub(crate) files: Arc<dyn BodyFiles>,
    pub(crate) blocking: Blocking,
    pub(crate) memory: Arc<Memory>,
    pub(crate) files_made: AtomicU64,
}

/// Octets that all writers together may hold (`spool_memory_bytes_max`).
pub(crate) struct Memory {
    used: AtomicU64,
    bytes_max: u64,
}

impl Memory {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), bytes_max })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Memory that one writer took of the common budget.
struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Share {
    fn grow(&mut self, to: u64) -> bool {
        let more = to.saturating_sub(self.bytes);
        let fits = |used: u64| used.checked_add(more).filter(|used| *used <= self.memory.bytes_max);
        let grown = self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum Place {
    Memory,
    File(OpenFile),
    /// An error was returned: what was written is incomplete.
    Failed,
}

struct OpenFile {
    file: Box<dyn BodyFile>,
    made: Arc<MadeFile>,
    sums: BlockSums,
}

/// A file that no record names yet: removed when it is dropped, unless a commit that names it was begun.
struct MadeFile {
    files: Arc<dyn BodyFiles>,
    id: QueueId,
    suffix: u16,
    named: AtomicBool,
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if self.named.load(Ordering::Relaxed) {
            return;
        }
        let (files, name) = (self.files.clone(), file_name(self.id, self.suffix));
        let remove = move || {
            if let Err(error) = files.remove(&name) {
                tracing::warn!(%name, %error, "an unused body file stays until the next start");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_none) => remove(),
        }
    }
}

/// Takes a body piece by piece. It holds at most 256 KiB, and less when the common budget is used up.
pub struct BodyWriter {
    bodies: Arc<Bodies>,
    id: QueueId,
    reservation: Reservation,
    size: u64,
    buffer: Vec<u8>,
    share: Share,
    place: Place,
}

impl BodyWriter {
    pub(crate) fn new(bodies: Arc<Bodies>, id: QueueId, reservation: Reservation) -> Self {
        let share = Share { memory: bodies.memory.clone(), bytes: 0 };
        Self { bodies, id, reservation, size: 0, buffer: Vec::new(), share, place: Place::Memory }
    }

    /// Octets so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next piece. After an error the body cannot be finished.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), SpoolError> {
        self.reservation.cover(self.size + piece.len() as u64)?;
        self.size += piece.len() as u64;
        if self.hold(&piece) {
            return Ok(());
        }
        let file = match std::mem::replace(&mut self.place, Place::Failed) {
            Place::File(file) => file,
            Place::Memory => self.create().await?,
            Place::Failed => return Err(SpoolError::Invalid("the body failed before")),
        };
        let file = self.flush(file, piece).await?;
        self.place = Place::File(file);
        Ok(())
    }

    /// Ends the body. A file is synced, and so is its directory, when this returns.
    pub async fn finish(mut self) -> Result<NewBody, SpoolError> {
        match std::mem::replace(&mut self.place, Place::Failed) {
            Place::Failed => Err(SpoolError::Invalid("the body failed before")),
            Place::Memory => {
                let held = Held { share: Some(self.share), reservation: Some(self.reservation), file: None };
                Ok(NewBody { content: Content::Memory(Bytes::from(self.buffer)), held: Some(Arc::new(held)) })
            }
            Place::File(file) => {
                let OpenFile { mut file, made, sums } = self.flush(file, Bytes::new()).await?;
                let files = self.bodies.files.clone();
                let sync = move || -> io::Result<()> {
                    file.sync()?;
                    crash_point("queue.after_body_sync");
                    files.sync_directory()?;
                    crash_point("queue.after_body_directory_sync");
                    Ok(())
                };
                self.bodies.blocking.run(sync).await??;
                let body = BodyRef { suffix: made.suffix, size: self.size, blocks: sums.finish() };
                let bodies = self.bodies.clone();
                let held = Held { share: None, reservation: Some(self.reservation), file: Some(made) };
                Ok(NewBody { content: Content::File { bodies, id: self.id, body }, held: Some(Arc::new(held)) })
            }
        }
    }

    /// Keeps the piece in the buffer if limit and budget allow.
    fn hold(&mut self, piece: &[u8]) -> bool {
        let needed = self.buffer.len() + piece.len();
        if needed > BODY_INLINE_BYTES_MAX || matches!(self.place, Place::Failed) {
            return false;
        }
        if needed > self.buffer.capacity() {
            let hint = usize::try_from(self.reservation.size_hint()).unwrap_or(usize::MAX);
            let first = if hint == 0 { FIRST_BYTES } else { hint };
            let capacity = needed.max(2 * self.buffer.capacity()).max(first).min(BODY_INLINE_BYTES_MAX);
            if !self.share.grow(capacity as u64) {
                return false;
            }
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(piece);
        true
    }

    async fn create(&self) -> Result<OpenFile, SpoolError> {
        self.reservation.check()?;
        let (files, id) = (self.bodies.files.clone(), self.id);
        let create = move || -> io::Result<OpenFile> {
            let mut suffix = 0;
            loop {
                match files.create(&file_name(id, suffix)) {
                    Ok(file) => {
                        crash_point("queue.after_body_create");
                        let made = Arc::new(MadeFile { files, id, suffix, named: AtomicBool::new(false) });
                        return Ok(OpenFile { file, made, sums: BlockSums::default() });
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && suffix < u16::MAX => suffix += 1,
                    Err(error) => return Err(error),
                }
            }
        };
        let file = self.bodies.blocking.run(create).await??;
        self.bodies.files_made.fetch_add(1, Ordering::Relaxed);
        Ok(file)
    }

    /// Writes what is held, then the piece.
    async fn flush(&mut self, mut file: OpenFile, piece: Bytes) -> Result<OpenFile, SpoolError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = buffer.len() + piece.len();
        let append = move || -> io::Result<(OpenFile, Vec<u8>)> {
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
        self.reservation.spend(bytes as u64);
        Ok(file)
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("id", &self.id).field("size", &self.size).finish_non_exhaustive()
    }
}

/// What a body holds until its message is committed.
struct Held {
    share: Option<Share>,
    reservation: Option<Reservation>,
    file: Option<Arc<MadeFile>>,
}

#[derive(Clone)]
enum Content {
    Memory(Bytes),
    File { bodies: Arc<Bodies>, id: QueueId, body: BodyRef },
}

/// A finished body that waits for its message. A file that no message took is removed when this is dropped.
#[derive(Clone)]
pub struct NewBody {
    content: Content,
    held: Option<Arc<Held>>,
}

impl NewBody {
    /// A body that is in memory already and has at most [`BODY_INLINE_BYTES_MAX`] octets; larger ones go through a
    /// [`BodyWriter`].
    pub fn inline(bytes: Bytes) -> Result<Self, SpoolError> {
        if bytes.len() > BODY_INLINE_BYTES_MAX {
            return Err(SpoolError::Invalid("a body of more than 256 KiB goes through a body writer"));
        }
        Ok(Self { content: Content::Memory(bytes), held: None })
    }

    /// A body that is in memory, of any length: what is too large for a record goes into a file.
    pub async fn of(spool: &dyn Spool, id: QueueId, bytes: Bytes) -> Result<Self, SpoolError> {
        if bytes.len() <= BODY_INLINE_BYTES_MAX {
            return Self::inline(bytes);
        }
        let mut writer = spool.body_writer(id, spool.room(bytes.len() as u64)?);
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// Octets.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File { body, .. } => body.size,
        }
    }

    /// Reads it, before its message is committed too.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn BodyRead> {
        match &self.content {
            Content::Memory(bytes) => Arc::new(MemoryBody::new(bytes.clone())),
            Content::File { bodies, id, body } => {
                let body = FileBody::new(bodies.files.clone(), bodies.blocking.clone(), *id, body.clone());
                Arc::new(WaitingFile { body, _held: self.held.clone() })
            }
        }
    }

    pub(crate) fn in_memory(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::File { .. } => None,
        }
    }

    pub(crate) fn file(&self) -> Option<(QueueId, &BodyRef)> {
        match &self.content {
            Content::Memory(_) => None,
            Content::File { id, body, .. } => Some((*id, body)),
        }
    }

    /// Room was promised when it was written.
    pub(crate) fn has_room(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.reservation.is_some())
    }

    /// A commit that names the file begins: from now on only the sweep at start may remove it, since the commit may become
    /// durable whatever it seems to say.
    pub(crate) fn mark_named(&self) {
        if let Some(file) = self.held.as_ref().and_then(|held| held.file.as_ref()) {
            file.named.store(true, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for NewBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_memory = self.held.as_ref().is_none_or(|held| held.share.is_some());
        f.debug_struct("NewBody").field("size", &self.size()).field("in_memory", &in_memory).finish_non_exhaustive()
    }
}

/// A file that stays while someone reads it.
struct WaitingFile {
    body: FileBody,
    _held: Option<Arc<Held>>,
}

#[async_trait::async_trait]
impl BodyRead for WaitingFile {
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
