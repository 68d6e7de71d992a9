//! Asynchronous part: unique file names, a limit on concurrent writers, streaming of bodies.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use waxwing_types::{BodyRead, Clock};

use crate::error::MaildirError;
use crate::maildir_file::MaildirFile;

/// Bytes of a body per read.
const CHUNK_BYTES: usize = 256 << 10;
/// Maximum number of chunks queued for the disk.
const CHUNKS_QUEUED_MAX: usize = 2;

/// Writes messages to Maildirs.
pub struct MaildirStore {
    hostname: String,
    clock: Arc<dyn Clock>,
    writers: Arc<Semaphore>,
    counter: AtomicU64,
}

/// Message synced to a Maildir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredFile {
    /// Path of the file in `new`.
    pub path: PathBuf,
}

/// Input of a writer thread.
enum BodyChunk {
    Data(Bytes),
    /// Complete body. A channel closed without this marker belongs to an aborted delivery.
    End,
}

impl MaildirStore {
    /// Creates a store. `hostname` becomes part of file names; at most `writers_max` messages are written concurrently.
    #[must_use]
    pub fn new(hostname: &str, clock: Arc<dyn Clock>, writers_max: usize) -> Self {
        let hostname = hostname.replace('/', "\\057").replace(':', "\\072");
        Self { hostname, clock, writers: Arc::new(Semaphore::new(writers_max.max(1))), counter: AtomicU64::new(0) }
    }

    /// Writes `prefix` (Return-Path, Delivered-To), `head` and `body` to a file in `tmp`, syncs the file, renames into `new`, and syncs
    /// `new`. CRLF becomes LF. A missing Maildir is created with mode 0700. On return without error the message is on disk.
    ///
    /// Errors: [`MaildirError`] for file system errors, read errors of the queue, and shutdown.
    pub async fn deliver(
        &self,
        maildir: &Path,
        prefix: Bytes,
        head: Bytes,
        body: &dyn BodyRead,
    ) -> Result<DeliveredFile, MaildirError> {
        let permit = Arc::clone(&self.writers).acquire_owned().await.map_err(|_| MaildirError::Stopped)?;
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
                let (pieces, received) = mpsc::channel(CHUNKS_QUEUED_MAX);
                let write = blocking(permit, move || write_stream(&maildir, name, &[&prefix, &head], received));
                let (read, written) = tokio::join!(send_body(body, pieces), write);
                read.map_err(MaildirError::Body).and(written)
            }
        }
        .map(|path| DeliveredFile { path })
    }

    /// File name `seconds.MmicrosPpidQcounter.host`, unique on a machine.
    fn unique_name(&self) -> String {
        let now = self.clock.now();
        let (seconds, micros) = (now.as_secs(), now.as_millis() % 1000 * 1000);
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{seconds}.M{micros}P{}Q{number}.{}", std::process::id(), self.hostname)
    }
}

/// Runs file work on a blocking thread. The permit lives until the work is finished, even after cancellation of the caller.
async fn blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, MaildirError> + Send + 'static,
) -> Result<T, MaildirError> {
    let work = move || {
        let result = work();
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| MaildirError::Stopped)?
}

/// Sends the body in chunks. Ends early, without [`BodyChunk::End`], after a failure of the writer or a read error.
async fn send_body(body: &dyn BodyRead, pieces: mpsc::Sender<BodyChunk>) -> io::Result<()> {
    let mut offset = 0;
    while offset < body.size() {
        let piece = body.read(offset, CHUNK_BYTES).await?;
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stored body is shorter than its size"));
        }
        offset += piece.len() as u64;
        if pieces.send(BodyChunk::Data(piece)).await.is_err() {
            return Ok(());
        }
    }
    drop(pieces.send(BodyChunk::End).await);
    Ok(())
}

fn write_stream(
    maildir: &Path,
    name: String,
    start: &[&[u8]],
    mut pieces: mpsc::Receiver<BodyChunk>,
) -> Result<PathBuf, MaildirError> {
    let mut file = MaildirFile::create(maildir, name)?;
    file.write(start)?;
    loop {
        match pieces.blocking_recv() {
            Some(BodyChunk::Data(piece)) => file.write(&[&piece])?,
            Some(BodyChunk::End) => return file.finish(),
            None => return Err(MaildirError::Stopped),
        }
    }
}

#[cfg(test)]
mod tests;
