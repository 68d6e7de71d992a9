//! Replacement of password records with outdated scheme or cost at login, the only time at which the password is available.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use waxwing_auth::{PlainResponse, StoredPassword};

use super::cache::LoginCache;
use crate::password_policy::{self, PasswordPolicy};
use crate::users::{UserRecords, Users};

/// Maximum number of waiting replacements; beyond the limit, a later login of the user triggers the replacement.
pub const REHASH_QUEUE_MAX: usize = 4;

/// Replaces outdated records, serially and on blocking threads.
pub(super) struct Rehasher {
    users: Arc<Users>,
    cache: Arc<LoginCache>,
    policy: PasswordPolicy,
    queue_permits: Arc<Semaphore>,
    rehash_lock: Mutex<()>,
}

impl Rehasher {
    pub(super) fn new(users: Arc<Users>, memory: Arc<LoginCache>, keeping: PasswordPolicy) -> Arc<Self> {
        Arc::new(Self {
            users,
            cache: memory,
            policy: keeping,
            queue_permits: Arc::new(Semaphore::new(REHASH_QUEUE_MAX)),
            rehash_lock: Mutex::new(()),
        })
    }

    /// Schedules the replacement of outdated records after a successful login with `said`. The login does not wait for the result; failures
    /// are only logged.
    pub(super) fn schedule(self: &Arc<Self>, current: UserRecords, credentials: PlainResponse) {
        if !is_outdated(self.policy, &current.records) || !self.users.can_rehash(current.source_index) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.queue_permits).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || {
            let _guard = this.rehash_lock.lock();
            this.rehash(&current, &credentials);
            drop(permit);
        }));
    }

    fn rehash(&self, current: &UserRecords, credentials: &PlainResponse) {
        let Some(records) = rehashed_records(self.policy, &current.records, &credentials.secret) else { return };
        // The verified login stays in the cache under the new record. The entry precedes the write, since the next login is already checked
        // against the new record.
        if let Some(record) = records.first() {
            self.cache.mark_verified(self.cache.fingerprint(credentials, record));
        }
        self.users.rehash(current, &credentials.user, &records);
    }
}

/// True if the first record (used to verify logins) or the presence of SCRAM keys differs from the current password policy.
fn is_outdated(policy: PasswordPolicy, records: &[StoredPassword]) -> bool {
    let has_keys = records.iter().any(|record| matches!(record, StoredPassword::Scram(_)));
    !records.first().is_some_and(|record| record.has_cost(policy.cost)) || (policy.scram && !has_keys)
}

/// Returns the records required by the policy; current records are kept.
fn rehashed_records(policy: PasswordPolicy, records: &[StoredPassword], password: &str) -> Option<Vec<StoredPassword>> {
    let is_current = |record: &&StoredPassword| record.has_cost(policy.cost);
    let first =
        records.first().filter(is_current).cloned().or_else(|| password_policy::argon2id_record(password, policy.cost))?;
    let keys = records.iter().find(|record| matches!(record, StoredPassword::Scram(_))).cloned();
    let keys = keys.or_else(|| policy.scram.then(|| password_policy::scram_record(password)).flatten());
    Some(std::iter::once(first).chain(keys).collect())
}

#[cfg(test)]
mod tests {
    use waxwing_auth::PasswordCost;

    use super::*;

    const CHEAP: PasswordCost = PasswordCost { memory_kib: 128, passes: 1, lanes: 1 };

    #[test]
    fn what_is_up_to_date_stays() {
        let keeping = PasswordPolicy { cost: CHEAP, scram: true };
        let own = keeping.hash_password("x").unwrap();
        assert!(!is_outdated(keeping, &own));
        assert!(is_outdated(keeping, &own[..1]), "without keys");
        assert!(!is_outdated(PasswordPolicy { scram: false, ..keeping }, &own[..1]));
        assert!(is_outdated(PasswordPolicy { cost: PasswordCost { passes: 2, ..CHEAP }, ..keeping }, &own));
        assert!(is_outdated(keeping, &own[1..]), "keys alone");
        let with_keys = rehashed_records(keeping, &own[..1], "x").unwrap();
        assert!(with_keys[0] == own[0] && with_keys[1].verify("x") && with_keys.len() == 2);
        let of_old = rehashed_records(keeping, &[StoredPassword::Plain("x".into()), own[1].clone()], "x").unwrap();
        assert!(of_old[0].has_cost(CHEAP) && of_old[0].verify("x") && of_old[1] == own[1] && of_old.len() == 2);
    }
}
