//! The records that are made of a password.

use waxwing_auth::{ARGON2_SALT_BYTES, PasswordCost, Record, SCRAM_ITERATIONS, ScramKeys};

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
    /// The records of a password: a hash computation or two, 20 ms and more. `None` if the system has no random octets, or there is no such
    /// cost.
    #[must_use]
    pub fn records(self, password: &str) -> Option<Vec<Record>> {
        let salt: [u8; ARGON2_SALT_BYTES] = random()?;
        let mut records = vec![Record::make(password, &salt, self.cost)?];
        if self.scram {
            records.push(scram(password)?);
        }
        Some(records)
    }
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
