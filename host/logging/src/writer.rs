//! Buffer of log lines, and the thread that writes the lines out.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Longest time for a line to wait in the buffer.
const WRITE_DELAY_MAX: Duration = Duration::from_millis(200);
/// Bytes in the buffer that trigger a write at once.
const WRITE_BYTES: usize = 64 * 1024;
/// Bytes the buffer may hold; further lines are dropped and counted, since mail does not wait for the log.
const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Capacity in bytes kept in a reused buffer.
const KEPT_BYTES: usize = 2 * WRITE_BYTES;

/// Buffer filled by all threads, emptied by the writer thread.
#[derive(Default)]
pub(super) struct LineBuffer {
    pending: Mutex<PendingLines>,
    lines_added: Condvar,
}

#[derive(Default)]
struct PendingLines {
    lines: Vec<u8>,
    dropped: u64,
    closing: bool,
}

impl LineBuffer {
    /// Appends a line, LF included.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.pending.lock();
        let before = waiting.lines.len();
        if before + line.len() > PENDING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.lines.extend_from_slice(line);
        // The writer thread wakes for the first line and for a full write: two notifications for thousands of lines.
        let wake = before == 0 || (before < WRITE_BYTES && waiting.lines.len() >= WRITE_BYTES);
        drop(waiting);
        if wake {
            self.lines_added.notify_one();
        }
    }

    /// Waits for lines and takes all of them; `None` once the log is closed and empty.
    fn take_lines(&self, spare: Vec<u8>) -> Option<(Vec<u8>, u64)> {
        let mut waiting = self.pending.lock();
        while waiting.lines.is_empty() && !waiting.closing {
            self.lines_added.wait(&mut waiting);
        }
        if !waiting.closing && waiting.lines.len() < WRITE_BYTES {
            self.lines_added.wait_while_for(&mut waiting, |w| !w.closing && w.lines.len() < WRITE_BYTES, WRITE_DELAY_MAX);
        }
        let dropped = std::mem::take(&mut waiting.dropped);
        let lines = std::mem::replace(&mut waiting.lines, spare);
        (!lines.is_empty() || dropped > 0).then_some((lines, dropped))
    }

    fn close(&self) {
        self.pending.lock().closing = true;
        self.lines_added.notify_one();
    }
}

/// Writer thread; writes the buffered lines when dropped.
pub(super) struct WriterThread {
    buffer: Arc<LineBuffer>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    pub(super) fn start(sink: Arc<LineBuffer>, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let taken = Arc::clone(&sink);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || run_writer(&taken, out))?;
        Ok(Self { buffer: sink, thread: Some(thread) })
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.buffer.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run_writer(sink: &LineBuffer, mut out: Box<dyn Write + Send>) {
    let mut spare = Vec::new();
    while let Some((mut lines, dropped)) = sink.take_lines(spare) {
        // A write error of the log cannot be logged.
        let _ = out.write_all(&lines);
        if dropped > 0 {
            let _ = writeln!(out, "({dropped} log lines dropped: the log is written too slowly)");
        }
        let _ = out.flush();
        lines.clear();
        lines.shrink_to(KEPT_BYTES);
        spare = lines;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Gives each write to the test and waits until the test has taken it.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.send(buf.to_vec()).map(|()| buf.len()).map_err(io::Error::other)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn memory_is_bounded_and_drops_are_told() {
        let (sender, receiver) = mpsc::sync_channel(0);
        let sink = Arc::new(LineBuffer::default());
        let flusher = WriterThread::start(Arc::clone(&sink), Box::new(Slow(sender))).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let over = 2 * PENDING_BYTES_MAX / line.len() + 10;
        (0..over).for_each(|_| sink.push(&line));
        assert!(sink.pending.lock().lines.len() <= PENDING_BYTES_MAX);
        let reader = std::thread::spawn(move || receiver.iter().flatten().collect::<Vec<u8>>());
        drop(flusher);
        let text = String::from_utf8(reader.join().unwrap()).unwrap();
        let kept = text.lines().filter(|line| line.starts_with('x')).count();
        assert!(kept < over);
        let reported: usize = text.lines().filter_map(|l| l.strip_prefix('(')?.split(' ').next()?.parse::<usize>().ok()).sum();
        assert_eq!(kept + reported, over);
    }

    #[test]
    fn a_line_is_written_without_more_to_come() {
        let (sender, receiver) = mpsc::sync_channel(0);
        let sink = Arc::new(LineBuffer::default());
        let _flusher = WriterThread::start(Arc::clone(&sink), Box::new(Slow(sender))).unwrap();
        for line in [&b"one\n"[..], b"two\n"] {
            sink.push(line);
            assert_eq!(receiver.recv().unwrap(), line);
        }
        drop(receiver);
    }
}
