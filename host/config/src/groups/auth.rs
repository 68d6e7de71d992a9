//! Users, password records and logins.

use std::time::Duration;

use crate::network::{Network, NetworkValue};
use crate::section::section;
use crate::user_source::{UserSourceConfig, UserSourceValue};
use crate::value::{BoolValue, ByteSize, DurationValue, IntegerValue, ListOf};

section! {
    /// Users, password records and logins.
    pub struct AuthConfig (table, reader) {
        /// Sources of users and password records; changed by `waxwing user`. Empty: AUTH is not offered.
        users: Vec<UserSourceConfig> [ListOf<UserSourceValue>] = Vec::new();
        /// Accept password records in plain text ({PLAIN}).
        users_plaintext: bool [BoolValue] = false;
        /// Memory for hashing a new password, and for each later login with the hash; at most 4GiB. At most four
        /// hashes are computed at once.
        password_argon2_memory: u64 [ByteSize<{ 128 << 10 }>] = 19 << 20;
        /// Number of argon2 passes over the memory.
        password_argon2_passes: u32 [IntegerValue<u32, 1, 1000>] = 2;
        /// Number of argon2 lanes; lanes are computed one after another.
        password_argon2_lanes: u32 [IntegerValue<u32, 1, 16>] = 1;
        /// Create a SCRAM-SHA-256 record beside the hash of each new password.
        password_scram: bool [BoolValue] = true;
        /// Replace records of other schemes and costs, and add a missing SCRAM-SHA-256 record, when a user logs in by
        /// PLAIN or LOGIN.
        password_rehash: bool [BoolValue] = true;
        /// Delay of the reply to a failed login; at most a minute.
        smtpd_sasl_failure_delay: Duration [DurationValue<0>] = Duration::from_secs(2);
        /// Number of failed logins after which an address (IPv6: a /64) is rejected; 0: no limit.
        smtpd_sasl_failure_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 20;
        /// Time for which failed logins count, starting at the last failure.
        smtpd_sasl_failure_time: Duration [DurationValue<1000>] = Duration::from_secs(600);
        /// Networks of clients that may use PLAIN and LOGIN without TLS.
        smtpd_sasl_plaintext_networks: Vec<Network> [ListOf<NetworkValue>] = Vec::new();
    }
}
