//! Limits per client: rates, slow clients and memory.

use std::time::Duration;

use crate::groups::GeneralConfig;
use crate::network::{Network, NetworkValue};
use crate::section::section;
use crate::value::{BoolValue, ByteSize, DurationValue, IntegerValue, ListOf};

section! {
    /// Limits per client: rates, slow clients and memory.
    pub struct GuardConfig (table, reader, general: &GeneralConfig) {
        /// Maximum number of simultaneous sessions from the same address; 0: no limit.
        smtpd_client_connection_count_limit: usize [IntegerValue<usize, 0, 100_000>] = 50;
        /// Maximum number of simultaneous sessions in total; further sessions get 421.
        smtpd_sessions_max: usize [IntegerValue<usize, 1, 100_000>] = 1000;
        /// Interval of the smtpd_client_..._rate_limit keys; starts with the first action of a client.
        anvil_rate_time_unit: Duration [DurationValue<1000>] = Duration::from_secs(60);
        /// Networks of clients exempt from rate limits, session limits and the greeting delay.
        smtpd_client_event_limit_exceptions: Vec<Network> [ListOf<NetworkValue>] = general.mynetworks.clone(), derived "mynetworks";
        /// Connections from the same client (an IPv4 address, an IPv6 /64) in anvil_rate_time_unit; 0: no limit.
        smtpd_client_connection_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// MAIL commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_message_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// RCPT commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_recipient_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// Negative replies to the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_error_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// AUTH commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_auth_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// Failed AUTH commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_auth_failure_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// TLS handshakes with the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_new_tls_session_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// Factor between the limits of a client and the limits of a network, for simultaneous sessions and for
        /// rates; 0: networks are not counted.
        smtpd_network_limit_factor: u32 [IntegerValue<u32, 0, 1_000>] = 10;
        /// Prefix length of an IPv4 network for network limits.
        smtpd_network_prefix_ipv4: u32 [IntegerValue<u32, 8, 32>] = 24;
        /// Prefix length of an IPv6 network for network limits.
        smtpd_network_prefix_ipv6: u32 [IntegerValue<u32, 16, 64>] = 48;
        /// Number of negative replies since the last accepted message after which replies are delayed by
        /// smtpd_error_sleep_time.
        smtpd_soft_error_limit: u32 [IntegerValue<u32, 0, 10_000>] = 10;
        /// Delay of each reply after smtpd_soft_error_limit.
        smtpd_error_sleep_time: Duration [DurationValue<0>] = Duration::from_secs(1);
        /// Delay of the greeting for clients of an smtp listener; a client that sends data before the greeting is
        /// rejected. 0: no test.
        postscreen_greet_wait: Duration [DurationValue<0>] = Duration::ZERO;
        /// Time for which a client that passed the greeting delay is exempt from the delay.
        postscreen_greet_ttl: Duration [DurationValue<0>] = Duration::from_secs(86_400);
        /// Apply smtpd_timeout to a complete command instead of each read, and require smtpd_min_data_rate during a
        /// message.
        smtpd_per_request_deadline: bool [BoolValue] = true;
        /// Data rate in bytes per second: each such number of received bytes adds a second to smtpd_timeout while a
        /// command or message arrives.
        smtpd_min_data_rate: u32 [IntegerValue<u32, 1, 1_000_000>] = 500;
        /// Percentage of smtpd_sessions_max from which the server is under stress; 100: only when all sessions are in
        /// use.
        smtpd_stress_percent: u32 [IntegerValue<u32, 1, 100>] = 80;
        /// Value of smtpd_timeout under stress.
        smtpd_stress_timeout: Duration [DurationValue<100>] = Duration::from_secs(10);
        /// Value of smtpd_hard_error_limit under stress.
        smtpd_stress_hard_error_limit: u32 [IntegerValue<u32, 1, 10_000>] = 1;
        /// Memory of all sessions together, by the data held; above the limit, new sessions and sessions that need
        /// more memory get 421.
        smtpd_sessions_memory_max: u64 [ByteSize<{ 1 << 20 }>] = 256 << 20;
    }
}
