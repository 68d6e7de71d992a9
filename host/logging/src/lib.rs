//! Logging: lines are buffered in memory and written by a separate thread, so that logging costs no system call on the mail path.
//!
//! Format: `2026-11-24T05:00:00.123Z info delivery: message key=value`
//!
//! Owns: the form of a log line, the buffer of lines and the thread that writes them, the reopening of a rotated file.
//! Uses: config, types.
//! Used by: daemon.
//! Never: a system call on the thread of the logged event; a decision on what is logged.
//! Start reading at: [`start`], then `format.rs`.
#![forbid(unsafe_code)]

mod format;
mod writer;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use waxwing_config::LogLevel;
use waxwing_types::Clock;

use self::writer::{LineBuffer, WriterThread};

/// Output of the log.
pub enum LogOutput {
    /// Standard error stream.
    Stderr,
    /// A file opened for appending, and its absolute path.
    File(std::fs::File, PathBuf),
}

impl LogOutput {
    /// Opens the configured log file for appending, before privileges are dropped.
    pub fn open(file: Option<&Path>) -> io::Result<Self> {
        match file {
            None => Ok(Self::Stderr),
            Some(path) => Ok(Self::File(open_file(path)?, std::path::absolute(path)?)),
        }
    }

    fn into_writer(self, reopener: &LogRotation) -> Box<dyn Write + Send> {
        match self {
            Self::Stderr => Box::new(io::stderr()),
            Self::File(file, path) => Box::new(LogFile { file, path, rotation: reopener.clone() }),
        }
    }
}

fn open_file(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// Request to reopen the log file after rotation (logrotate(8)).
#[derive(Clone, Default)]
pub struct LogRotation(Arc<AtomicBool>);

impl LogRotation {
    /// Requests a reopen, carried out before the next lines are written.
    pub fn request_reopen(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take_request(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// A log file that may be rotated.
struct LogFile {
    file: std::fs::File,
    path: PathBuf,
    rotation: LogRotation,
}

impl Write for LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.rotation.take_request() {
            match open_file(&self.path) {
                Ok(file) => self.file = file,
                // The old file stays in use, and records the error.
                Err(error) => writeln!(self.file, "(the log file {} can't be reopened: {error})", self.path.display())?,
            }
        }
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Handle of the running log; writes the buffered lines when dropped.
pub struct LogHandle {
    _writer: WriterThread,
    rotation: LogRotation,
}

impl LogHandle {
    /// Returns the rotation handle, for the signal handler.
    pub fn rotation(&self) -> LogRotation {
        self.rotation.clone()
    }
}

/// Starts logging for the whole process. Starts a thread, so privileges must have been dropped before.
pub fn start(target: LogOutput, level: LogLevel, clock: Arc<dyn Clock>) -> io::Result<LogHandle> {
    let to_file = matches!(target, LogOutput::File(..));
    let sink = Arc::new(LineBuffer::default());
    let reopener = LogRotation::default();
    let flusher = WriterThread::start(Arc::clone(&sink), target.into_writer(&reopener))?;
    tracing::subscriber::set_global_default(LineSubscriber::new(sink, level, clock)).map_err(io::Error::other)?;
    if to_file {
        std::panic::set_hook(Box::new(|info| tracing::error!(target: "panic", "{info}")));
    }
    Ok(LogHandle { _writer: flusher, rotation: reopener })
}

/// `tracing` subscriber that formats events as lines. Spans are ignored: a line must carry all context in fields.
struct LineSubscriber {
    buffer: Arc<LineBuffer>,
    level: LevelFilter,
    clock: Arc<dyn Clock>,
}

impl LineSubscriber {
    fn new(sink: Arc<LineBuffer>, level: LogLevel, clock: Arc<dyn Clock>) -> Self {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        Self { buffer: sink, level, clock }
    }

    /// Filters events: the configured level for our crates, warnings and errors for libraries.
    fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.module_path().is_some_and(|path| path.starts_with("waxwing"));
        let level = if ours { self.level } else { self.level.min(LevelFilter::WARN) };
        metadata.is_event() && *metadata.level() <= level
    }
}

impl Subscriber for LineSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.is_enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        format::format_line(self.clock.now(), event, |line| self.buffer.push(line));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use waxwing_types::ManualClock;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, say: impl FnOnce()) -> String {
        let out = Shared::default();
        let sink = Arc::new(LineBuffer::default());
        let flusher = WriterThread::start(Arc::clone(&sink), Box::new(out.clone())).unwrap();
        let collector = LineSubscriber::new(sink, level, Arc::new(ManualClock::default()));
        tracing::subscriber::with_default(collector, say);
        drop(flusher);
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_time_level_target_words_and_fields() {
        let text = logged(LogLevel::Info, || {
            tracing::info!(target: "delivery", to = %"<a@b>", delay = 1.5, note = "two words", status = "sent", "queued {}", 5);
            tracing::warn!(code = 4u16);
            tracing::debug!("not at this level");
        });
        assert_eq!(
            text,
            "2027-01-15T08:00:00.000Z info delivery: queued 5 to=<a@b> delay=1.5 note=\"two words\" status=sent\n\
             2027-01-15T08:00:00.000Z warn logging: code=4\n"
        );
    }

    #[test]
    fn strangers_cannot_forge_lines() {
        let text = logged(LogLevel::Info, || {
            let evil = "x\r\n2027-01-15T08:00:00.000Z info smtp: forged\x1b[2J";
            tracing::info!(target: "smtp", helo = evil, shown = %evil, "{evil}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\x1b') && text.contains("\\r\\n"), "{text}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let reopener = LogRotation::default();
        let mut out = LogOutput::open(Some(&path)).unwrap().into_writer(&reopener);
        out.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        out.write_all(b"two\n").unwrap();
        reopener.request_reopen();
        out.write_all(b"three\n").unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&moved), read(&path)), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
    }

    #[test]
    fn all_lines_are_written_in_order_at_the_end() {
        let text = logged(LogLevel::Trace, || (0..5000).for_each(|n| tracing::trace!(target: "t", "{n}")));
        let numbers: Vec<u32> = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    }
}
