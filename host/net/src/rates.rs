//! Rate limits for clients and networks: connections, messages, recipients, errors, AUTH, TLS handshakes.
//!
//! Equivalent of Postfix's anvil(8). A client is an IPv4 address or an IPv6 /64. The interval of a client starts with
//! the first counted action and lasts `anvil_rate_time_unit`; then all counters restart. Counters exist for at most
//! [`RATE_CLIENTS_MAX`] clients and as many networks; the oldest are evicted first.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_types::{Monotonic, network_prefix, rate_limit_key};

use crate::expiring_map::ExpiringMap;

/// Maximum number of clients with counters, and of networks; an entry takes about 100 bytes.
pub const RATE_CLIENTS_MAX: usize = 50_000;
/// Maximum number of clients recorded after the greeting delay (`postscreen_greet_wait`).
pub const GREETED_CLIENTS_MAX: usize = 50_000;

/// A rate-limited kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateKind {
    /// Connections of a client.
    Connections,
    /// MAIL commands, independent of the reply.
    Messages,
    /// RCPT commands, independent of the reply.
    Recipients,
    /// Negative replies to commands.
    Errors,
    /// AUTH commands, independent of the reply.
    Auths,
    /// Failed AUTH commands.
    AuthFailures,
    /// TLS handshakes with a client.
    Handshakes,
}

impl RateKind {
    /// All kinds of events.
    pub const ALL: [Self; 7] =
        [Self::Connections, Self::Messages, Self::Recipients, Self::Errors, Self::Auths, Self::AuthFailures, Self::Handshakes];

    /// Returns the configuration key of the limit.
    #[must_use]
    pub fn config_key(self) -> &'static str {
        match self {
            Self::Connections => "smtpd_client_connection_rate_limit",
            Self::Messages => "smtpd_client_message_rate_limit",
            Self::Recipients => "smtpd_client_recipient_rate_limit",
            Self::Errors => "smtpd_client_error_rate_limit",
            Self::Auths => "smtpd_client_auth_rate_limit",
            Self::AuthFailures => "smtpd_client_auth_failure_rate_limit",
            Self::Handshakes => "smtpd_client_new_tls_session_rate_limit",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Rate limits of a client and its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateSettings {
    limits: [u32; RateKind::ALL.len()],
    /// Length of the interval (`anvil_rate_time_unit`).
    pub unit: Duration,
    /// Ratio of the network limit to the client limit (`smtpd_network_limit_factor`); 0: networks are not counted.
    pub network_factor: u32,
    /// Prefix length of an IPv4 network in bits.
    pub network_prefix_v4: u8,
    /// Prefix length of an IPv6 network in bits.
    pub network_prefix_v6: u8,
}

impl RateSettings {
    /// Returns settings without limits.
    #[must_use]
    pub fn new(unit: Duration) -> Self {
        Self { limits: [0; RateKind::ALL.len()], unit, network_factor: 0, network_prefix_v4: 24, network_prefix_v6: 48 }
    }

    /// Sets the limit of an event; 0: no limit.
    #[must_use]
    pub fn with_limit(mut self, rate: RateKind, limit: u32) -> Self {
        if let Some(place) = self.limits.get_mut(rate.index()) {
            *place = limit;
        }
        self
    }

    /// Returns the limit of an event; 0: no limit.
    #[must_use]
    pub fn limit(&self, rate: RateKind) -> u32 {
        self.limits.get(rate.index()).copied().unwrap_or(0)
    }

    /// Returns the network address of a client.
    #[must_use]
    pub fn client_network(&self, client: IpAddr) -> IpAddr {
        network_prefix(client.to_canonical(), self.network_prefix_v4, self.network_prefix_v6)
    }
}

/// A rate limit was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateExceeded {
    /// Kind of event over the limit.
    pub rate: RateKind,
    /// Whether the network's limit was exceeded instead of the client's.
    pub by_network: bool,
}

impl fmt::Display for RateExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rate.config_key())?;
        if self.by_network { f.write_str(" of the network") } else { Ok(()) }
    }
}

/// Event counters, shared by all listeners and preserved across configuration reloads.
#[derive(Debug)]
pub struct RateLimiter {
    state: Mutex<RateState>,
}

#[derive(Debug)]
struct RateState {
    clients: ExpiringMap<RateCounts>,
    networks: ExpiringMap<RateCounts>,
    greeted: ExpiringMap<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct RateCounts([u32; RateKind::ALL.len()]);

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new(RATE_CLIENTS_MAX)
    }
}

impl RateLimiter {
    /// Creates counters for at most `clients_max` clients and as many networks.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        let state = RateState {
            clients: ExpiringMap::new(clients_max),
            networks: ExpiringMap::new(clients_max),
            greeted: ExpiringMap::new(GREETED_CLIENTS_MAX.min(clients_max)),
        };
        Self { state: Mutex::new(state) }
    }

    /// Counts an event and compares the count with the limits. Rejected events count too, so a client over the limit
    /// stays rejected until the interval ends.
    pub fn count(&self, settings: &RateSettings, client: IpAddr, rate: RateKind, now: Monotonic) -> Result<(), RateExceeded> {
        let limit = settings.limit(rate);
        if limit == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        let of_client = state.clients.entry(rate_limit_key(client), now, settings.unit).increment(rate);
        let of_network = match settings.network_factor {
            0 => 0,
            _ => state.networks.entry(settings.client_network(client), now, settings.unit).increment(rate),
        };
        compare_with_limits(settings, rate, of_client, of_network)
    }

    /// Compares the counts with the limits without counting, for events known only afterwards, such as errors.
    pub fn check(&self, settings: &RateSettings, client: IpAddr, rate: RateKind, now: Monotonic) -> Result<(), RateExceeded> {
        if settings.limit(rate) == 0 {
            return Ok(());
        }
        let state = self.state.lock();
        let of = |recent: &ExpiringMap<RateCounts>, address| {
            recent.get(address, now, settings.unit).map_or(0, |counts| counts.get(rate))
        };
        let of_client = of(&state.clients, rate_limit_key(client));
        let of_network = of(&state.networks, settings.client_network(client));
        // The next event would exceed the limit.
        compare_with_limits(settings, rate, of_client.saturating_add(1), of_network.saturating_add(1))
    }

    /// Records that a client passed the greeting delay.
    pub fn mark_greeted(&self, client: IpAddr, now: Monotonic, ttl: Duration) {
        self.state.lock().greeted.entry(rate_limit_key(client), now, ttl);
    }

    /// Returns whether the client passed the greeting delay within the last `ttl`.
    #[must_use]
    pub fn is_greeted(&self, client: IpAddr, now: Monotonic, ttl: Duration) -> bool {
        self.state.lock().greeted.get(rate_limit_key(client), now, ttl).is_some()
    }

    /// Returns the number of clients with counters, and the number of entries evicted before expiry.
    #[must_use]
    pub fn tracked_clients(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.clients.len(), state.clients.evicted())
    }
}

impl RateCounts {
    fn get(&self, rate: RateKind) -> u32 {
        self.0.get(rate.index()).copied().unwrap_or(0)
    }

    fn increment(&mut self, rate: RateKind) -> u32 {
        let Some(count) = self.0.get_mut(rate.index()) else { return 0 };
        *count = count.saturating_add(1);
        *count
    }
}

fn compare_with_limits(settings: &RateSettings, rate: RateKind, of_client: u32, of_network: u32) -> Result<(), RateExceeded> {
    let limit = settings.limit(rate);
    if of_client > limit {
        return Err(RateExceeded { rate, by_network: false });
    }
    match settings.network_factor {
        0 => Ok(()),
        factor if of_network > limit.saturating_mul(factor) => Err(RateExceeded { rate, by_network: true }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::{Clock, ManualClock};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_cut_and_comes_back_with_the_next_unit() {
        let (rates, clock) = (RateLimiter::default(), ManualClock::default());
        let settings = RateSettings::new(MINUTE).with_limit(RateKind::Messages, 2);
        let count = |client| rates.count(&settings, ip(client), RateKind::Messages, clock.monotonic());
        assert!(count("192.0.2.1").is_ok() && count("192.0.2.1").is_ok());
        let over = count("192.0.2.1").unwrap_err();
        assert_eq!(over.to_string(), "smtpd_client_message_rate_limit");
        assert!(count("192.0.2.2").is_ok(), "another client");
        assert!(rates.count(&settings, ip("192.0.2.1"), RateKind::Recipients, clock.monotonic()).is_ok(), "no limit for those");
        clock.advance(Duration::from_secs(59));
        assert!(count("192.0.2.1").is_err(), "its time is not over");
        clock.advance(Duration::from_secs(1));
        assert!(count("192.0.2.1").is_ok());
    }

    #[test]
    fn an_ipv6_client_is_a_64_and_a_mapped_one_is_ipv4() {
        assert_eq!(rate_limit_key(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(rate_limit_key(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        let settings = RateSettings::new(MINUTE);
        assert_eq!(settings.client_network(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1::"));
        assert_eq!(settings.client_network(ip("192.0.2.77")), ip("192.0.2.0"));
        assert_eq!(network_prefix(ip("192.0.2.77"), 0, 0), ip("0.0.0.0"));
    }

    #[test]
    fn a_network_has_a_limit_of_its_own() {
        let (rates, now) = (RateLimiter::default(), Monotonic::default());
        let mut settings = RateSettings::new(MINUTE).with_limit(RateKind::Connections, 2);
        settings.network_factor = 3;
        let count = |last: u8| rates.count(&settings, ip(&format!("192.0.2.{last}")), RateKind::Connections, now);
        assert!((0..6).all(|last| count(last).is_ok()));
        let over = count(6).unwrap_err();
        assert_eq!((over.by_network, over.to_string().as_str()), (true, "smtpd_client_connection_rate_limit of the network"));
        assert!(rates.count(&settings, ip("198.51.100.1"), RateKind::Connections, now).is_ok());
    }

    #[test]
    fn a_check_does_not_count() {
        let (rates, now) = (RateLimiter::default(), Monotonic::default());
        let settings = RateSettings::new(MINUTE).with_limit(RateKind::Errors, 1);
        let client = ip("192.0.2.1");
        assert!(rates.check(&settings, client, RateKind::Errors, now).is_ok());
        assert!(rates.check(&settings, client, RateKind::Errors, now).is_ok());
        assert!(rates.count(&settings, client, RateKind::Errors, now).is_ok());
        assert!(rates.check(&settings, client, RateKind::Errors, now).is_err(), "it has made as many as it may");
    }

    #[test]
    fn a_flood_of_addresses_costs_no_more_memory() {
        let (rates, clock) = (RateLimiter::new(1000), ManualClock::default());
        let settings = RateSettings::new(MINUTE).with_limit(RateKind::Connections, 5);
        for n in 0..50_000_u32 {
            clock.advance(Duration::from_millis(1));
            assert!(rates.count(&settings, IpAddr::V4(n.into()), RateKind::Connections, clock.monotonic()).is_ok());
        }
        assert_eq!(rates.tracked_clients(), (1000, 49_000));
    }

    #[test]
    fn who_waited_for_the_greeting_is_known_for_a_day() {
        let (rates, clock, day) = (RateLimiter::default(), ManualClock::default(), Duration::from_secs(86_400));
        assert!(!rates.is_greeted(ip("192.0.2.1"), clock.monotonic(), day));
        rates.mark_greeted(ip("192.0.2.1"), clock.monotonic(), day);
        clock.advance(day / 2);
        assert!(rates.is_greeted(ip("192.0.2.1"), clock.monotonic(), day));
        clock.advance(day / 2);
        assert!(!rates.is_greeted(ip("192.0.2.1"), clock.monotonic(), day));
    }
}
