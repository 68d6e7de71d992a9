//! Password policy: schemes and costs of new password records.

use waxwing_auth::{ARGON2_SALT_BYTES, PasswordCost, Record, SCRAM_ITERATIONS, ScramKeys};
use waxwing_config::Config;

/// Bytes of the salt in a `{SCRAM-SHA-256}` record.
const SCRAM_SALT_BYTES: usize = 16;

/// Schemes and costs of new password records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Computation cost of an `{ARGON2ID}` record.
    pub cost: PasswordCost,
    /// Creates an additional `{SCRAM-SHA-256}` record (`password_scram`).
    pub scram: bool,
}

impl Keeping {
    /// Takes the policy from the configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let memory_kib = u32::try_from(config.password_argon2_memory / 1024).unwrap_or(u32::MAX);
        let cost = PasswordCost { memory_kib, passes: config.password_argon2_passes, lanes: config.password_argon2_lanes };
        Self { cost, scram: config.password_scram }
    }

    /// Computes the records of a password: one or two hash computations of 20 ms or more. `None` if the system has no randomness, or argon2
    /// refuses the cost.
    #[must_use]
    pub fn records(self, password: &str) -> Option<Vec<Record>> {
        let mut records = vec![argon2(password, self.cost)?];
        if self.scram {
            records.push(scram(password)?);
        }
        Some(records)
    }
}

/// Computes an `{ARGON2ID}` record of a password.
pub(crate) fn argon2(password: &str, cost: PasswordCost) -> Option<Record> {
    let salt: [u8; ARGON2_SALT_BYTES] = random()?;
    Record::make(password, &salt, cost)
}

/// Computes a `{SCRAM-SHA-256}` record of a password.
pub(crate) fn scram(password: &str) -> Option<Record> {
    let salt: [u8; SCRAM_SALT_BYTES] = random()?;
    ScramKeys::of(password, &salt, SCRAM_ITERATIONS).map(Record::Scram)
}

/// Returns random bytes of the system; `None` on failure of the system call.
#[must_use]
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).ok().map(|()| octets)
}
