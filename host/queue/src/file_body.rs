//! Body files: names, checksums and reading.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_types::{BodyRead, QueueId};

use crate::blocking::BlockingPool;
use crate::body_files::{BodyFile, BodyFiles};

/// Block size in octets of a body file. Each block has a CRC, so that every read is verified.
pub const BODY_BLOCK_BYTES: usize = 64 << 10;
/// Maximum octets returned by a single read.
const READ_BYTES_MAX: usize = 1 << 20;

/// Reference to a body file in a message record.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BodyFileRef {
    /// Suffix that distinguishes the files of a message; 0 for the first.
    pub(crate) suffix: u16,
    /// Size of the body in octets.
    pub(crate) size: u64,
    /// CRC of each block.
    pub(crate) block_checksums: Arc<[u32]>,
}

impl fmt::Debug for BodyFileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyRef").field("suffix", &self.suffix).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Returns the name of a body file.
pub(crate) fn body_file_name(id: QueueId, suffix: u16) -> String {
    if suffix == 0 { id.to_string() } else { format!("{id}.{suffix}") }
}

/// Parses a file name into message id and suffix.
pub(crate) fn parse_body_file_name(name: &str) -> Option<(QueueId, u16)> {
    match name.split_once('.') {
        None => Some((name.parse().ok()?, 0)),
        Some((id, suffix)) => Some((id.parse().ok()?, suffix.parse().ok().filter(|n| *n > 0)?)),
    }
}

/// Computes the CRC of each block incrementally.
#[derive(Default)]
pub(crate) struct BlockChecksums {
    done: Vec<u32>,
    hasher: crc32fast::Hasher,
    filled: usize,
}

impl BlockChecksums {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BODY_BLOCK_BYTES - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BODY_BLOCK_BYTES {
                self.end_block();
            }
        }
    }

    pub(crate) fn finish(mut self) -> Arc<[u32]> {
        if self.filled > 0 {
            self.end_block();
        }
        self.done.into()
    }

    fn end_block(&mut self) {
        self.done.push(std::mem::take(&mut self.hasher).finalize());
        self.filled = 0;
    }
}

/// Reads a body file on blocking threads in whole blocks, each verified against its CRC.
pub(crate) struct FileBody {
    files: Arc<dyn BodyFiles>,
    blocking: BlockingPool,
    id: QueueId,
    body: BodyFileRef,
    open: Arc<Mutex<Option<Arc<dyn BodyFile>>>>,
}

impl FileBody {
    pub(crate) fn new(files: Arc<dyn BodyFiles>, blocking: BlockingPool, id: QueueId, body: BodyFileRef) -> Self {
        Self { files, blocking, id, body, open: Arc::default() }
    }
}

#[async_trait]
impl BodyRead for FileBody {
    fn size(&self) -> u64 {
        self.body.size
    }

    fn in_memory(&self) -> Option<&Bytes> {
        None
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset.saturating_add(length.min(READ_BYTES_MAX) as u64).min(self.body.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let (files, open, body, id) = (self.files.clone(), self.open.clone(), self.body.clone(), self.id);
        self.blocking.run(move || read_verified(&*open_cached(&*files, &open, id, &body)?, &body, offset, end)).await?
    }
}

fn open_cached(
    files: &dyn BodyFiles,
    open: &Mutex<Option<Arc<dyn BodyFile>>>,
    id: QueueId,
    body: &BodyFileRef,
) -> io::Result<Arc<dyn BodyFile>> {
    let mut open = open.lock();
    if let Some(file) = &*open {
        return Ok(file.clone());
    }
    let file: Arc<dyn BodyFile> = files.open(&body_file_name(id, body.suffix))?.into();
    *open = Some(file.clone());
    Ok(file)
}

/// Reads the blocks that contain `offset..end` and returns the requested range.
fn read_verified(file: &dyn BodyFile, body: &BodyFileRef, offset: u64, end: u64) -> io::Result<Bytes> {
    const BLOCK: u64 = BODY_BLOCK_BYTES as u64;
    let (first, start) = (offset / BLOCK, offset / BLOCK * BLOCK);
    let stop = end.div_ceil(BLOCK).saturating_mul(BLOCK).min(body.size);
    let length = usize::try_from(stop - start).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, start)?;
    let sums = body.block_checksums.iter().skip(usize::try_from(first).map_err(io::Error::other)?);
    let mut sums = sums.copied();
    for block in buffer.chunks(BODY_BLOCK_BYTES) {
        if sums.next() != Some(crc32fast::hash(block)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block of the body file does not have its CRC"));
        }
    }
    let part =
        usize::try_from(offset - start).map_err(io::Error::other)?..usize::try_from(end - start).map_err(io::Error::other)?;
    Ok(Bytes::from(buffer).slice(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let id = QueueId::from_u64(0x1234_5678_9abc_def0);
        for suffix in [0, 1, 65535] {
            assert_eq!(parse_body_file_name(&body_file_name(id, suffix)), Some((id, suffix)));
        }
        for name in ["", "x", "0000000000000.0", "0000000000000.x", "0000000000000.1.2", "lost+found"] {
            assert_eq!(parse_body_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..3 * BODY_BLOCK_BYTES + 7).map(|n| ((n * 31) >> 3) as u8).collect();
        let whole: Vec<u32> = bytes.chunks(BODY_BLOCK_BYTES).map(crc32fast::hash).collect();
        for piece in [1000, BODY_BLOCK_BYTES, BODY_BLOCK_BYTES + 1, bytes.len()] {
            let mut sums = BlockChecksums::default();
            bytes.chunks(piece).for_each(|chunk| sums.update(chunk));
            assert_eq!(*sums.finish(), *whole, "pieces of {piece}");
        }
    }
}
