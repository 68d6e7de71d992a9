//! The log: lines gather in memory and a thread of its own writes them, so that a line costs no system call on the mail's way.
//!
//! `2026-11-24T05:00:00.123Z info delivery: message key=value`

mod line;
mod sink;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use waxwing_config::LogLevel;
use waxwing_types::Clock;

use self::sink::{Flusher, Sink};

/// Where lines go.
pub(crate) enum Target {
    /// Standard error.
    Stderr,
    /// A file, open for appending.
    File(std::fs::File),
}

impl Target {
    /// Opens the configured file for appending, before privileges are given up.
    pub(crate) fn open(file: Option<&Path>) -> io::Result<Self> {
        match file {
            None => Ok(Self::Stderr),
            Some(path) => Ok(Self::File(OpenOptions::new().create(true).append(true).mode(0o640).open(path)?)),
        }
    }

    fn into_writer(self) -> Box<dyn Write + Send> {
        match self {
            Self::Stderr => Box::new(io::stderr()),
            Self::File(file) => Box::new(file),
        }
    }
}

/// The running log. Dropping it writes what waits.
pub(crate) struct Logging {
    _flusher: Flusher,
}

/// Starts the log for the whole process. Threads start here, so privileges must have been given up before.
pub(crate) fn start(target: Target, level: LogLevel, clock: Arc<dyn Clock>) -> io::Result<Logging> {
    let to_file = matches!(target, Target::File(_));
    let sink = Arc::new(Sink::default());
    let flusher = Flusher::start(Arc::clone(&sink), target.into_writer())?;
    tracing::subscriber::set_global_default(Collector::new(sink, level, clock)).map_err(io::Error::other)?;
    if to_file {
        std::panic::set_hook(Box::new(|info| tracing::error!(target: "panic", "{info}")));
    }
    Ok(Logging { _flusher: flusher })
}

/// Turns events into lines. It knows no spans: what a line needs to say stands in it.
struct Collector {
    sink: Arc<Sink>,
    level: LevelFilter,
    clock: Arc<dyn Clock>,
}

impl Collector {
    fn new(sink: Arc<Sink>, level: LogLevel, clock: Arc<dyn Clock>) -> Self {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        Self { sink, level, clock }
    }

    /// Ours at the configured level, libraries from warnings on.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.module_path().is_some_and(|path| path.starts_with("waxwing"));
        let level = if ours { self.level } else { self.level.min(LevelFilter::WARN) };
        metadata.is_event() && *metadata.level() <= level
    }
}

impl Subscriber for Collector {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        line::with_line(self.clock.now(), event, |line| self.sink.push(line));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
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
        let sink = Arc::new(Sink::default());
        let flusher = Flusher::start(Arc::clone(&sink), Box::new(out.clone())).unwrap();
        let collector = Collector::new(sink, level, Arc::new(ManualClock::default()));
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
             2027-01-15T08:00:00.000Z warn log: code=4\n"
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
    fn all_lines_are_written_in_order_at_the_end() {
        let text = logged(LogLevel::Trace, || (0..5000).for_each(|n| tracing::trace!(target: "t", "{n}")));
        let numbers: Vec<u32> = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    }
}
