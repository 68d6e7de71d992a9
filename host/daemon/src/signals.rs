//! Signals: SIGINT and SIGTERM stop the server, SIGHUP reloads, SIGUSR1 reopens the log.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Streams of the handled signals.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    user1: Signal,
}

/// Action requested by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalEvent {
    /// Orderly shutdown, with the name of the signal.
    Stop(&'static str),
    /// Reload of the configuration (SIGHUP).
    Reload,
    /// Reopening of the log file after rotation (SIGUSR1).
    Reopen,
}

impl Signals {
    /// Installs the handlers; the handled signals no longer end the process directly.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. Cancel-safe: dropping the future loses no signal.
    pub(crate) async fn next(&mut self) -> SignalEvent {
        tokio::select! {
            _ = self.interrupt.recv() => SignalEvent::Stop("SIGINT"),
            _ = self.terminate.recv() => SignalEvent::Stop("SIGTERM"),
            _ = self.hangup.recv() => SignalEvent::Reload,
            _ = self.user1.recv() => SignalEvent::Reopen,
        }
    }

    /// Waits for the next stop signal and returns its name.
    pub(crate) async fn next_stop(&mut self) -> &'static str {
        loop {
            if let SignalEvent::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}
