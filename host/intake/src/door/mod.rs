//! The door that every SMTP session comes through: what a client may do in a time, how long it may take, what it costs.
//!
//! [`GuardedSession`] stands around a server session and sees all that goes in and comes out of it. So the limits are in one place, need
//! neither a thread nor a clock, and the session's one line in the log (`notes.rs`) knows everything.

mod host;
mod notes;
mod session;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use waxwing_config::{Config, Network};
use waxwing_net::{Admission, Rate, RateSettings, Rates, SessionCounts};
use waxwing_pipeline::Metrics;
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{Clock, Reply, Via};

pub use host::GuardedHost;
pub use session::{DoorAnswer, DoorQuestion, GuardedSession};

/// Octets that a session is taken to need without a message: its task, its buffers, its hooks' conversations.
const SESSION_BYTES: u64 = 12 * 1024;
/// Octets that an accepted recipient is taken to need.
const RECIPIENT_BYTES: u64 = 512;

/// The counter of refusals, by limit.
const REFUSED: &str = "waxwing_smtpd_refused_total";

const BUSY: Reply = Reply::fixed(421, (4, 3, 2), "All server ports are busy, try again later");
const NO_MEMORY: Reply = Reply::fixed(421, (4, 3, 2), "No memory for more sessions, try again later");
const TOO_MANY: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many connections from your address");
const TOO_MANY_NETWORK: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many connections from your network");
const TOO_MUCH_MAIL: Reply = Reply::fixed(450, (4, 7, 1), "Error: too much mail from your address");
const TOO_MANY_RECIPIENTS: Reply = Reply::fixed(450, (4, 7, 1), "Error: too many recipients from your address");
const TOO_MANY_AUTHS: Reply = Reply::fixed(454, (4, 7, 0), "Error: too many AUTH commands from your address");
const TOO_MANY_HANDSHAKES: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many TLS handshakes from your address, closing");
const TOO_MANY_ERRORS: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many errors, closing");
const SPOKE_FIRST: Reply = Reply::fixed(521, (5, 5, 1), "Protocol error: wait for the greeting");
const TOO_SLOW: Reply = Reply::fixed(421, (4, 4, 2), "Timeout, closing");

/// What the limits of a listener are, by the names of the configuration.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// `smtpd_client_..._rate_limit`, `anvil_rate_time_unit`, `smtpd_network_...`.
    pub rates: RateSettings,
    /// `smtpd_client_event_limit_exceptions`.
    pub exempt: Vec<Network>,
    /// `smtpd_soft_error_limit`.
    pub soft_errors: u32,
    /// `smtpd_error_sleep_time`.
    pub error_sleep: Duration,
    /// `postscreen_greet_wait`; zero: no test.
    pub greet_wait: Duration,
    /// `postscreen_greet_ttl`.
    pub greet_ttl: Duration,
    /// `smtpd_per_request_deadline`.
    pub per_request_deadline: bool,
    /// `smtpd_min_data_rate`, octets a second.
    pub data_rate_min: u32,
    /// `smtpd_timeout`.
    pub timeout: Duration,
    /// `smtpd_stress_timeout`.
    pub stress_timeout: Duration,
    /// `smtpd_stress_percent`.
    pub stress_percent: u32,
    /// `smtpd_stress_hard_error_limit`.
    pub stress_errors_max: u32,
    /// `smtpd_sessions_memory_max`, octets.
    pub memory_max: u64,
    /// `header_size_limit`, octets: so much of a message is held in memory.
    pub header_bytes_max: u64,
}

impl DoorSettings {
    /// The keys of a configuration, for a listener of this kind. Who submits mail need not wait for the greeting: programs of users are
    /// less patient than servers.
    #[must_use]
    pub fn of(config: &Config, via: Via) -> Self {
        let prefix = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
        let mut rates = RateSettings::new(config.anvil_rate_time_unit)
            .with(Rate::Connections, config.smtpd_client_connection_rate_limit)
            .with(Rate::Messages, config.smtpd_client_message_rate_limit)
            .with(Rate::Recipients, config.smtpd_client_recipient_rate_limit)
            .with(Rate::Errors, config.smtpd_client_error_rate_limit)
            .with(Rate::Auths, config.smtpd_client_auth_rate_limit)
            .with(Rate::AuthFailures, config.smtpd_client_auth_failure_rate_limit)
            .with(Rate::Handshakes, config.smtpd_client_new_tls_session_rate_limit);
        rates.network_factor = config.smtpd_network_limit_factor;
        rates.network_prefix_v4 = prefix(config.smtpd_network_prefix_ipv4);
        rates.network_prefix_v6 = prefix(config.smtpd_network_prefix_ipv6);
        Self {
            rates,
            exempt: config.smtpd_client_event_limit_exceptions.clone(),
            soft_errors: config.smtpd_soft_error_limit,
            error_sleep: config.smtpd_error_sleep_time,
            greet_wait: if via == Via::Smtp { config.postscreen_greet_wait } else { Duration::ZERO },
            greet_ttl: config.postscreen_greet_ttl,
            per_request_deadline: config.smtpd_per_request_deadline,
            data_rate_min: config.smtpd_min_data_rate,
            timeout: config.smtpd_timeout,
            stress_timeout: config.smtpd_stress_timeout,
            stress_percent: config.smtpd_stress_percent,
            stress_errors_max: config.smtpd_stress_hard_error_limit,
            memory_max: config.smtpd_sessions_memory_max,
            header_bytes_max: config.header_size_limit,
        }
    }

    /// No limit holds for this client.
    #[must_use]
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(client))
    }
}

/// What the doors of all listeners share, and keep when the configuration changes.
pub struct DoorShared {
    /// What clients do in a time.
    pub rates: Rates,
    /// Open sessions.
    pub sessions: Arc<SessionCounts>,
    /// Counts refusals.
    pub metrics: Arc<dyn Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Octets that sessions hold, see [`GuardedSession`].
    memory: AtomicU64,
}

impl DoorShared {
    /// Nobody has come yet.
    #[must_use]
    pub fn new(sessions: Arc<SessionCounts>, metrics: Arc<dyn Metrics>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { rates: Rates::default(), sessions, metrics, clock, memory: AtomicU64::new(0) })
    }

    /// Octets that all sessions are taken to hold.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }
}

/// The door of one listener.
pub struct Door {
    settings: DoorSettings,
    shared: Arc<DoorShared>,
    listener: Arc<str>,
}

impl Door {
    /// Of this listener.
    #[must_use]
    pub fn new(settings: DoorSettings, shared: Arc<DoorShared>, listener: Arc<str>) -> Self {
        Self { settings, shared, listener }
    }

    /// Lets a client in: a session that says the greeting, or that says why not and ends.
    #[must_use]
    pub fn session(self: &Arc<Self>, settings: Arc<ServerSettings>, client: SocketAddr, admission: Admission) -> GuardedSession {
        let now = self.shared.clock.monotonic();
        let refusal = self.refusal(client.ip(), admission);
        GuardedSession::new(Arc::clone(self), ServerSession::new(settings), client, refusal, now)
    }

    /// Why a client is not let in: the limit's name, and the reply.
    fn refusal(&self, client: IpAddr, admission: Admission) -> Option<(String, Reply)> {
        match admission {
            Admission::Admitted => {}
            Admission::TooManySessions => return Some(("smtpd_sessions_max".to_owned(), BUSY)),
            Admission::TooManyFromClient => return Some(("smtpd_client_connection_count_limit".to_owned(), TOO_MANY)),
            Admission::TooManyFromNetwork => {
                return Some(("smtpd_client_connection_count_limit of the network".to_owned(), TOO_MANY_NETWORK));
            }
        }
        if self.is_out_of_memory(SESSION_BYTES) {
            return Some(("smtpd_sessions_memory_max".to_owned(), NO_MEMORY));
        }
        if self.settings.is_exempt(client) {
            return None;
        }
        let (rates, now) = (&self.shared.rates, self.shared.clock.monotonic());
        let counted = rates.count(&self.settings.rates, client, Rate::Connections, now);
        match counted.and_then(|()| rates.check(&self.settings.rates, client, Rate::Errors, now)) {
            Ok(()) => None,
            Err(over) if over.rate == Rate::Errors => Some((over.to_string(), TOO_MANY_ERRORS)),
            Err(over) => Some((over.to_string(), if over.by_network { TOO_MANY_NETWORK } else { TOO_MANY })),
        }
    }

    /// So many more octets would be too many.
    fn is_out_of_memory(&self, more: u64) -> bool {
        self.shared.memory().saturating_add(more) > self.settings.memory_max
    }

    /// The server has as many sessions as make it hurry.
    fn is_under_stress(&self) -> bool {
        let (open, max) = self.shared.sessions.load();
        open as u64 * 100 >= u64::from(self.settings.stress_percent) * max as u64
    }

    /// Counts a refusal by its limit.
    fn count_refusal(&self, limit: &str) {
        self.shared.metrics.count(REFUSED, &[("limit", limit)], 1);
    }
}
