//! Password policy: schemes and costs of new password records.

use waxwing_auth::{ARGON2_SALT_BYTES, PasswordCost, SCRAM_ITERATIONS, ScramKeys, StoredPassword};
use waxwing_config::AuthConfig;

/// Bytes of the salt in a `{SCRAM-SHA-256}` record.
const SCRAM_SALT_BYTES: usize = 16;

/// Schemes and costs of new password records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Computation cost of an `{ARGON2ID}` record.
    pub cost: PasswordCost,
    /// Creates an additional `{SCRAM-SHA-256}` record (`password_scram`).
    pub scram: bool,
}

impl PasswordPolicy {
    /// Takes the policy from the configuration.
    #[must_use]
    pub fn from_config(config: &AuthConfig) -> Self {
        let memory_kib = u32::try_from(config.password_argon2_memory / 1024).unwrap_or(u32::MAX);
        let cost = PasswordCost { memory_kib, passes: config.password_argon2_passes, lanes: config.password_argon2_lanes };
        Self { cost, scram: config.password_scram }
    }

    /// Computes the records of a password: one or two hash computations of 20 ms or more. `None` if the system has no randomness, or argon2
    /// refuses the cost.
    #[must_use]
    pub fn hash_password(self, password: &str) -> Option<Vec<StoredPassword>> {
        let mut records = vec![argon2id_record(password, self.cost)?];
        if self.scram {
            records.push(scram_record(password)?);
        }
        Some(records)
    }
}

/// Computes an `{ARGON2ID}` record of a password.
pub(crate) fn argon2id_record(password: &str, cost: PasswordCost) -> Option<StoredPassword> {
    let salt: [u8; ARGON2_SALT_BYTES] = random_bytes()?;
    StoredPassword::new_argon2id(password, &salt, cost)
}

/// Computes a `{SCRAM-SHA-256}` record of a password.
pub(crate) fn scram_record(password: &str) -> Option<StoredPassword> {
    let salt: [u8; SCRAM_SALT_BYTES] = random_bytes()?;
    ScramKeys::from_password(password, &salt, SCRAM_ITERATIONS).map(StoredPassword::Scram)
}

/// Returns random bytes of the system; `None` on failure of the system call.
#[must_use]
pub fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).ok().map(|()| octets)
}
