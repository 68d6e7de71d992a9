//! The asynchronous half: unique names, a bounded number of writers, bodies that stream.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use waxwing_types::{BodyRead, Clock};

use crate::writer::MaildirFile;

/// Octets of a body that are read at once.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the disk.
const PIECES_WAITING_MAX: usize = 2;

/// Writes messages into Maildirs.
pub struct MaildirStore {
    hostname: String,
    clock: Arc<dyn Clock>,
    writers: Arc<Semaphore>,
    counter: AtomicU64,
}

/// A message that is safe in its Maildir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The file in new.
    pub path: PathBuf,
}

/// Why a message is not in its Maildir. Nothing of it is left there, unless the sync of new failed: then it may be.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// No space, or over a quota.
    #[error("{}: {error}", path.display())]
    Full {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Anything else that the file system said: permissions, a file in place of a directory, a failed sync.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The body can't be read from the queue.
    #[error("the message can't be read: {0}")]
    Body(io::Error),
    /// The server is shutting down.
    #[error("the writer has stopped")]
    Stopped,
}

impl DeliverError {
    pub(crate) fn of(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full { path, error }
        } else {
            Self::File { path, error }
        }
    }
}

/// What goes to a writer.
enum Piece {
    Data(Bytes),
    /// The body is whole. A channel that closes without it belongs to a delivery that was given up.
    End,
}

impl MaildirStore {
    /// `hostname` is a part of file names; at most `writers_max` messages are written at once.
    #[must_use]
    pub fn new(hostname: &str, clock: Arc<dyn Clock>, writers_max: usize) -> Self {
        let hostname = hostname.replace('/', "\\057").replace(':', "\\072");
        Self { hostname, clock, writers: Arc::new(Semaphore::new(writers_max.max(1))), counter: AtomicU64::new(0) }
    }

    /// Writes `prefix` (Return-Path, Delivered-To), `head` and `body` into tmp, syncs, moves to new, syncs new. CRLF becomes
    /// LF. A Maildir that is missing is made with mode 0700. When this returns, the message is on disk.
    pub async fn deliver(
        &self,
        maildir: &Path,
        prefix: Bytes,
        head: Bytes,
        body: &dyn BodyRead,
    ) -> Result<Delivered, DeliverError> {
        let permit = Arc::clone(&self.writers).acquire_owned().await.map_err(|_| DeliverError::Stopped)?;
        let name = self.unique_name();
        let maildir = maildir.to_owned();
        match body.in_memory() {
            Some(body) => {
                let body = body.clone();
                blocking(permit, move || {
                    let mut file = MaildirFile::create(&maildir, name)?;
                    file.write(&[&prefix, &head, &body])?;
                    file.finish()
                })
                .await
            }
            None => {
                let (pieces, received) = mpsc::channel(PIECES_WAITING_MAX);
                let write = blocking(permit, move || write_stream(&maildir, name, &[&prefix, &head], received));
                let (read, written) = tokio::join!(send_body(body, pieces), write);
                read.map_err(DeliverError::Body).and(written)
            }
        }
        .map(|path| Delivered { path })
    }

    /// `seconds.MmicrosPpidQcounter.host`: never twice on one machine.
    fn unique_name(&self) -> String {
        let now = self.clock.now();
        let (seconds, micros) = (now.as_secs(), now.as_millis() % 1000 * 1000);
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{seconds}.M{micros}P{}Q{number}.{}", std::process::id(), self.hostname)
    }
}

/// The one place where file work leaves the reactor. The permit lives as long as the work, also when nobody waits for it.
async fn blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, DeliverError> + Send + 'static,
) -> Result<T, DeliverError> {
    let work = move || {
        let result = work();
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| DeliverError::Stopped)?
}

/// Sends the body piece by piece; ends early, without [`Piece::End`], when the writer has failed or the body can't be read.
async fn send_body(body: &dyn BodyRead, pieces: mpsc::Sender<Piece>) -> io::Result<()> {
    let mut offset = 0;
    while offset < body.size() {
        let piece = body.read(offset, PIECE_BYTES).await?;
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stored body is shorter than its size"));
        }
        offset += piece.len() as u64;
        if pieces.send(Piece::Data(piece)).await.is_err() {
            return Ok(());
        }
    }
    drop(pieces.send(Piece::End).await);
    Ok(())
}

fn write_stream(
    maildir: &Path,
    name: String,
    start: &[&[u8]],
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<PathBuf, DeliverError> {
    let mut file = MaildirFile::create(maildir, name)?;
    file.write(start)?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(piece)) => file.write(&[&piece])?,
            Some(Piece::End) => return file.finish(),
            None => return Err(DeliverError::Stopped),
        }
    }
}

#[cfg(test)]
mod tests;
