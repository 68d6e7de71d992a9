//! Output buffer of a connection: collects pieces and writes many pieces at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

/// Maximum number of pieces in a system call.
const SLICES_MAX: usize = 64;

/// Bytes to be written to the peer.
#[derive(Debug, Default)]
pub(crate) struct OutputBuffer {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Whether written bytes are not yet flushed.
    unflushed: bool,
    written: u64,
}

impl OutputBuffer {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Number of buffered bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Returns whether no bytes are buffered and all writes are flushed.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && !self.unflushed
    }

    /// Number of bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
        self.unflushed = false;
    }

    /// Writes all buffered bytes, then flushes.
    pub(crate) fn poll_write_all<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, mut io: Pin<&mut W>) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(first) = self.pieces.front() {
            let written = if self.pieces.len() == 1 {
                ready!(io.as_mut().poll_write(cx, first))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let mut used = 0;
                for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
                    *slot = IoSlice::new(piece);
                    used += 1;
                }
                ready!(io.as_mut().poll_write_vectored(cx, slices.get(..used).unwrap_or_default()))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        ready!(io.poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        self.written += written as u64;
        self.unflushed = true;
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
    }
}
