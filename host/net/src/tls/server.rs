//! The server's side: one of these for each listener, whose configuration can be replaced while it serves.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

/// For a client to finish its handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(30);

/// What a listener shakes hands with.
pub struct TlsServer {
    config: ArcSwap<ServerConfig>,
    handshake_time_max: Duration,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Shakes hands with `config`, for at most 30 seconds.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self { config: ArcSwap::new(config), handshake_time_max: HANDSHAKE_TIME_MAX }
    }

    /// With another limit (`smtpd_starttls_timeout`).
    #[must_use]
    pub fn within(mut self, handshake_time_max: Duration) -> Self {
        self.handshake_time_max = handshake_time_max;
        self
    }

    /// From now on, handshakes are made with this. Sessions that are encrypted already go on as they are.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.config.store(config);
    }

    /// What the next handshake uses.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    pub(crate) fn handshake_time_max(&self) -> Duration {
        self.handshake_time_max
    }
}
