//! The records that are made of a password.

use waxwing_auth::{ARGON2_SALT_BYTES, PasswordCost, Record, SCRAM_ITERATIONS, ScramKeys};
use waxwing_config::Config;

/// Octets of the salt of a `{SCRAM-SHA-256}` record.
const SCRAM_SALT_BYTES: usize = 16;

/// How passwords are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// What an `{ARGON2ID}` record costs.
    pub cost: PasswordCost,
    /// A `{SCRAM-SHA-256}` record is made too.
    pub scram: bool,
}

impl Keeping {
    /// As the configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let memory_kib = u32::try_from(config.password_argon2_memory / 1024).unwrap_or(u32::MAX);
        let cost = PasswordCost { memory_kib, passes: config.password_argon2_passes, lanes: config.password_argon2_lanes };
        Self { cost, scram: config.password_scram }
    }

    /// The records of a password: a hash computation or two, 20 ms and more. `None` if the system has no random octets, or there is no such
    /// cost.
    #[must_use]
    pub fn records(self, password: &str) -> Option<Vec<Record>> {
        let mut records = vec![argon2(password, self.cost)?];
        if self.scram {
            records.push(scram(password)?);
        }
        Some(records)
    }
}

/// An `{ARGON2ID}` record of a password.
pub(crate) fn argon2(password: &str, cost: PasswordCost) -> Option<Record> {
    let salt: [u8; ARGON2_SALT_BYTES] = random()?;
    Record::make(password, &salt, cost)
}

/// A `{SCRAM-SHA-256}` record of a password.
pub(crate) fn scram(password: &str) -> Option<Record> {
    let salt: [u8; SCRAM_SALT_BYTES] = random()?;
    ScramKeys::of(password, &salt, SCRAM_ITERATIONS).map(Record::Scram)
}

/// Octets of the system's randomness.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).ok().map(|()| octets)
}
