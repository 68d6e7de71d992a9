//! Where lines wait for the thread that writes them.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a line may wait before it is written.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// Octets that are written without waiting for more.
const WRITE_BYTES: usize = 64 * 1024;
/// Octets that may wait; what comes on top is dropped and counted, since the mail does not wait for the log.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Octets of a buffer that is kept for the next lines.
const KEPT_BYTES: usize = 2 * WRITE_BYTES;

/// Takes lines from every thread.
#[derive(Default)]
pub(super) struct Sink {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    closing: bool,
}

impl Sink {
    /// Takes one line, LF included.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        let before = waiting.lines.len();
        if before + line.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.lines.extend_from_slice(line);
        // The thread is told when there is something at all, and when there is enough: twice for thousands of lines.
        let tell = before == 0 || (before < WRITE_BYTES && waiting.lines.len() >= WRITE_BYTES);
        drop(waiting);
        if tell {
            self.news.notify_one();
        }
    }

    /// Waits for lines and takes them all; `None` when the log ends and nothing waits.
    fn take(&self, spare: Vec<u8>) -> Option<(Vec<u8>, u64)> {
        let mut waiting = self.waiting.lock();
        while waiting.lines.is_empty() && !waiting.closing {
            self.news.wait(&mut waiting);
        }
        if !waiting.closing && waiting.lines.len() < WRITE_BYTES {
            self.news.wait_while_for(&mut waiting, |w| !w.closing && w.lines.len() < WRITE_BYTES, WAIT_MAX);
        }
        let dropped = std::mem::take(&mut waiting.dropped);
        let lines = std::mem::replace(&mut waiting.lines, spare);
        (!lines.is_empty() || dropped > 0).then_some((lines, dropped))
    }

    fn close(&self) {
        self.waiting.lock().closing = true;
        self.news.notify_one();
    }
}

/// The thread that writes. Dropping it writes what waits.
pub(super) struct Flusher {
    sink: Arc<Sink>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(sink: Arc<Sink>, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let taken = Arc::clone(&sink);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&taken, out))?;
        Ok(Self { sink, thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.sink.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn write_all(sink: &Sink, mut out: Box<dyn Write + Send>) {
    let mut spare = Vec::new();
    while let Some((mut lines, dropped)) = sink.take(spare) {
        // A log that cannot be written has nowhere to say so.
        let _ = out.write_all(&lines);
        if dropped > 0 {
            let _ = writeln!(out, "({dropped} lines of the log were dropped: they came faster than they could be written)");
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
        let sink = Arc::new(Sink::default());
        let flusher = Flusher::start(Arc::clone(&sink), Box::new(Slow(sender))).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let over = 2 * WAITING_BYTES_MAX / line.len() + 10;
        (0..over).for_each(|_| sink.push(&line));
        assert!(sink.waiting.lock().lines.len() <= WAITING_BYTES_MAX);
        let reader = std::thread::spawn(move || receiver.iter().flatten().collect::<Vec<u8>>());
        drop(flusher);
        let text = String::from_utf8(reader.join().unwrap()).unwrap();
        let kept = text.lines().filter(|line| line.starts_with('x')).count();
        assert!(kept < over);
        let told: usize = text.lines().filter_map(|l| l.strip_prefix('(')?.split(' ').next()?.parse::<usize>().ok()).sum();
        assert_eq!(kept + told, over);
    }

    #[test]
    fn a_line_is_written_without_more_to_come() {
        let (sender, receiver) = mpsc::sync_channel(0);
        let sink = Arc::new(Sink::default());
        let _flusher = Flusher::start(Arc::clone(&sink), Box::new(Slow(sender))).unwrap();
        for line in [&b"one\n"[..], b"two\n"] {
            sink.push(line);
            assert_eq!(receiver.recv().unwrap(), line);
        }
        drop(receiver);
    }
}
