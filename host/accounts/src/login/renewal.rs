//! Replacement of password records with outdated scheme or cost at login, the only time at which the password is available.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use waxwing_auth::{PlainResponse, Record};

use super::memory::LoginMemory;
use crate::passwords::{self, Keeping};
use crate::users::{Found, Users};

/// Maximum number of waiting replacements; beyond the limit, a later login of the user triggers the replacement.
pub const RENEWALS_MAX: usize = 4;

/// Replaces outdated records, serially and on blocking threads.
pub(super) struct Renewals {
    users: Arc<Users>,
    memory: Arc<LoginMemory>,
    keeping: Keeping,
    places: Arc<Semaphore>,
    turn: Mutex<()>,
}

impl Renewals {
    pub(super) fn new(users: Arc<Users>, memory: Arc<LoginMemory>, keeping: Keeping) -> Arc<Self> {
        Arc::new(Self { users, memory, keeping, places: Arc::new(Semaphore::new(RENEWALS_MAX)), turn: Mutex::new(()) })
    }

    /// Schedules the replacement of outdated records after a successful login with `said`. The login does not wait for the result; failures
    /// are only logged.
    pub(super) fn after(self: &Arc<Self>, current: Found, credentials: PlainResponse) {
        if !is_outdated(self.keeping, &current.records) || !self.users.can_renew(current.place) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || {
            let _guard = this.turn.lock();
            this.renew(&current, &credentials);
            drop(permit);
        }));
    }

    fn renew(&self, current: &Found, credentials: &PlainResponse) {
        let Some(records) = renewed(self.keeping, &current.records, &credentials.secret) else { return };
        // The verified login stays in the cache under the new record. The entry precedes the write, since the next login is already checked
        // against the new record.
        if let Some(record) = records.first() {
            self.memory.remember(self.memory.name_of(credentials, record));
        }
        self.users.renew(current, &credentials.user, &records);
    }
}

/// True if the first record (used to verify logins) or the presence of SCRAM keys differs from the current password policy.
fn is_outdated(policy: Keeping, records: &[Record]) -> bool {
    let has_keys = records.iter().any(|record| matches!(record, Record::Scram(_)));
    !records.first().is_some_and(|record| record.costs(policy.cost)) || (policy.scram && !has_keys)
}

/// Returns the records required by the policy; current records are kept.
fn renewed(policy: Keeping, records: &[Record], password: &str) -> Option<Vec<Record>> {
    let is_current = |record: &&Record| record.costs(policy.cost);
    let first = records.first().filter(is_current).cloned().or_else(|| passwords::argon2(password, policy.cost))?;
    let keys = records.iter().find(|record| matches!(record, Record::Scram(_))).cloned();
    let keys = keys.or_else(|| policy.scram.then(|| passwords::scram(password)).flatten());
    Some(std::iter::once(first).chain(keys).collect())
}

#[cfg(test)]
mod tests {
    use waxwing_auth::PasswordCost;

    use super::*;

    const CHEAP: PasswordCost = PasswordCost { memory_kib: 128, passes: 1, lanes: 1 };

    #[test]
    fn what_is_up_to_date_stays() {
        let keeping = Keeping { cost: CHEAP, scram: true };
        let own = keeping.records("x").unwrap();
        assert!(!is_outdated(keeping, &own));
        assert!(is_outdated(keeping, &own[..1]), "without keys");
        assert!(!is_outdated(Keeping { scram: false, ..keeping }, &own[..1]));
        assert!(is_outdated(Keeping { cost: PasswordCost { passes: 2, ..CHEAP }, ..keeping }, &own));
        assert!(is_outdated(keeping, &own[1..]), "keys alone");
        let with_keys = renewed(keeping, &own[..1], "x").unwrap();
        assert!(with_keys[0] == own[0] && with_keys[1].verify("x") && with_keys.len() == 2);
        let of_old = renewed(keeping, &[Record::Plain("x".into()), own[1].clone()], "x").unwrap();
        assert!(of_old[0].costs(CHEAP) && of_old[0].verify("x") && of_old[1] == own[1] && of_old.len() == 2);
    }
}
