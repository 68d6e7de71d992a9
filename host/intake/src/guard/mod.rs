//! Session guard in front of every SMTP session: rate limits, deadlines and memory limits of clients (Postfix anvil(8) and
//! postscreen(8)).
//!
//! [`GuardedSession`] wraps a server session and sees all input and output of the session. All limits are therefore enforced in a single
//! place, need neither a thread nor a clock, and feed the session's log line (`session_log.rs`).

mod handler;
mod session;
mod session_log;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use waxwing_config::{Config, GuardConfig};
use waxwing_net::{Admission, RateKind, RateLimiter, RateSettings, SessionCounts};
use waxwing_pipeline::Metrics;
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{Clock, Reply, Source};

pub use handler::GuardedSessionHandler;
pub use session::{GuardAnswer, GuardQuestion, GuardedSession};

/// Estimated bytes of a session without a message: task, buffers, plugin sessions of the hooks.
const SESSION_BYTES: u64 = 12 * 1024;
/// Estimated bytes of an accepted recipient.
const RECIPIENT_BYTES: u64 = 512;

/// Prometheus counter of refusals, with label `limit`.
const REFUSED_TOTAL: &str = "waxwing_smtpd_refused_total";

const BUSY: Reply = Reply::fixed(421, (4, 3, 2), "All server ports are busy, try again later");
const NO_MEMORY: Reply = Reply::fixed(421, (4, 3, 2), "No memory for more sessions, try again later");
const TOO_MANY_CONNECTIONS: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many connections from your address");
const TOO_MANY_NETWORK_CONNECTIONS: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many connections from your network");
const TOO_MANY_MESSAGES: Reply = Reply::fixed(450, (4, 7, 1), "Error: too much mail from your address");
const TOO_MANY_RECIPIENTS: Reply = Reply::fixed(450, (4, 7, 1), "Error: too many recipients from your address");
const TOO_MANY_AUTHS: Reply = Reply::fixed(454, (4, 7, 0), "Error: too many AUTH commands from your address");
const TOO_MANY_HANDSHAKES: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many TLS handshakes from your address, closing");
const TOO_MANY_ERRORS: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many errors, closing");
const PREGREET: Reply = Reply::fixed(521, (5, 5, 1), "Protocol error: wait for the greeting");
const TIMED_OUT: Reply = Reply::fixed(421, (4, 4, 2), "Timeout, closing");

/// Session limits of a listener.
#[derive(Clone, Debug)]
pub struct GuardSettings {
    /// Keys `smtpd_client_*_rate_limit`, `anvil_rate_time_unit` and `smtpd_network_*`.
    pub rates: RateSettings,
    /// Source of the listener's mail.
    pub source: Source,
    /// Key `smtpd_timeout`: time for a command.
    pub smtpd_timeout: Duration,
    /// Key `header_size_limit`, bytes: the part of a message held in memory.
    pub header_size_limit: u64,
    /// Section of the guard.
    pub config: GuardConfig,
}

impl GuardSettings {
    /// Reads the keys of a configuration for a listener with this source of mail.
    #[must_use]
    pub fn from_config(config: &Config, source: Source) -> Self {
        let prefix = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
        let mut rates = RateSettings::new(config.guard.anvil_rate_time_unit)
            .with_limit(RateKind::Connections, config.guard.smtpd_client_connection_rate_limit)
            .with_limit(RateKind::Messages, config.guard.smtpd_client_message_rate_limit)
            .with_limit(RateKind::Recipients, config.guard.smtpd_client_recipient_rate_limit)
            .with_limit(RateKind::Errors, config.guard.smtpd_client_error_rate_limit)
            .with_limit(RateKind::Auths, config.guard.smtpd_client_auth_rate_limit)
            .with_limit(RateKind::AuthFailures, config.guard.smtpd_client_auth_failure_rate_limit)
            .with_limit(RateKind::Handshakes, config.guard.smtpd_client_new_tls_session_rate_limit);
        rates.network_factor = config.guard.smtpd_network_limit_factor;
        rates.network_prefix_v4 = prefix(config.guard.smtpd_network_prefix_ipv4);
        rates.network_prefix_v6 = prefix(config.guard.smtpd_network_prefix_ipv6);
        Self {
            rates,
            source,
            smtpd_timeout: config.smtpd.smtpd_timeout,
            header_size_limit: config.smtpd.header_size_limit,
            config: config.guard.clone(),
        }
    }

    /// Returns whether the client is exempt from all limits.
    #[must_use]
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.config.smtpd_client_event_limit_exceptions.iter().any(|network| network.contains(client))
    }

    /// Delay before the greeting (`postscreen_greet_wait`). Submission listeners have none: mail programs of users wait less patiently
    /// than mail servers.
    #[must_use]
    pub fn greet_wait(&self) -> Duration {
        if self.source == Source::Smtp { self.config.postscreen_greet_wait } else { Duration::ZERO }
    }
}

/// Guard state shared by the guards of all listeners and kept across configuration reloads.
pub struct GuardState {
    /// Event rates of clients and networks.
    pub rates: RateLimiter,
    /// Counts of open sessions.
    pub sessions: Arc<SessionCounts>,
    /// Sink of the refusal counter.
    pub metrics: Arc<dyn Metrics>,
    /// Clock for rates and deadlines.
    pub clock: Arc<dyn Clock>,
    /// Bytes held by all sessions, see [`GuardedSession`].
    memory_bytes: AtomicU64,
}

impl GuardState {
    /// Creates the state of a server without clients.
    #[must_use]
    pub fn new(sessions: Arc<SessionCounts>, metrics: Arc<dyn Metrics>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { rates: RateLimiter::default(), sessions, metrics, clock, memory_bytes: AtomicU64::new(0) })
    }

    /// Estimated bytes held by all sessions.
    #[must_use]
    pub fn memory_held(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }
}

/// Session guard of a listener.
pub struct Guard {
    settings: GuardSettings,
    state: Arc<GuardState>,
    listener: Arc<str>,
}

impl Guard {
    /// Creates the guard of a listener with its settings and the shared state.
    #[must_use]
    pub fn new(settings: GuardSettings, shared: Arc<GuardState>, listener: Arc<str>) -> Self {
        Self { settings, state: shared, listener }
    }

    /// Starts the session of a client. A refused client gets the refusal in place of the greeting, and the session ends.
    #[must_use]
    pub fn new_session(
        self: &Arc<Self>,
        settings: Arc<ServerSettings>,
        client: SocketAddr,
        admission: Admission,
    ) -> GuardedSession {
        let now = self.state.clock.monotonic();
        let refusal = self.admission_refusal(client.ip(), admission);
        GuardedSession::new(Arc::clone(self), ServerSession::new(settings), client, refusal, now)
    }

    /// Refusal of a client at connect: name of the limit, and reply.
    fn admission_refusal(&self, client: IpAddr, admission: Admission) -> Option<(String, Reply)> {
        match admission {
            Admission::Admitted => {}
            Admission::TooManySessions => return Some(("smtpd_sessions_max".to_owned(), BUSY)),
            Admission::TooManyFromClient => {
                return Some(("smtpd_client_connection_count_limit".to_owned(), TOO_MANY_CONNECTIONS));
            }
            Admission::TooManyFromNetwork => {
                return Some(("smtpd_client_connection_count_limit of the network".to_owned(), TOO_MANY_NETWORK_CONNECTIONS));
            }
        }
        if self.exceeds_memory_limit(SESSION_BYTES) {
            return Some(("smtpd_sessions_memory_max".to_owned(), NO_MEMORY));
        }
        if self.settings.is_exempt(client) {
            return None;
        }
        let (rates, now) = (&self.state.rates, self.state.clock.monotonic());
        let counted = rates.count(&self.settings.rates, client, RateKind::Connections, now);
        match counted.and_then(|()| rates.check(&self.settings.rates, client, RateKind::Errors, now)) {
            Ok(()) => None,
            Err(exceeded) if exceeded.rate == RateKind::Errors => Some((exceeded.to_string(), TOO_MANY_ERRORS)),
            Err(exceeded) => Some((
                exceeded.to_string(),
                if exceeded.by_network { TOO_MANY_NETWORK_CONNECTIONS } else { TOO_MANY_CONNECTIONS },
            )),
        }
    }

    /// Returns whether `more` additional bytes would exceed `smtpd_sessions_memory_max`.
    fn exceeds_memory_limit(&self, more: u64) -> bool {
        self.state.memory_held().saturating_add(more) > self.settings.config.smtpd_sessions_memory_max
    }

    /// Returns whether the number of open sessions has reached `smtpd_stress_percent`.
    fn is_under_stress(&self) -> bool {
        let (open, max) = self.state.sessions.admitted_and_max();
        open as u64 * 100 >= u64::from(self.settings.config.smtpd_stress_percent) * max as u64
    }

    /// Counts a refusal under the name of the limit.
    fn count_refusal(&self, limit: &str) {
        self.state.metrics.count(REFUSED_TOTAL, &[("limit", limit)], 1);
    }
}
