//! Records of old schemes and costs are replaced when their users log in: only then is the password at hand.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use waxwing_auth::{PlainResponse, Record};

use super::memory::LoginMemory;
use crate::passwords::{self, Keeping};
use crate::users::{Found, Users};

/// Renewals that wait for their turn; who finds no place there is renewed after another login.
pub const RENEWALS_MAX: usize = 4;

/// Replaces records, one at a time and off the reactor.
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

    /// The user has said the password that `found` was checked with: what is out of date is replaced, after the login. Nobody waits for it,
    /// and it may fail.
    pub(super) fn after(self: &Arc<Self>, found: Found, said: PlainResponse) {
        if !is_outdated(self.keeping, &found.records) || !self.users.can_renew(found.place) {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || {
            let _turn = this.turn.lock();
            this.renew(&found, &said);
            drop(place);
        }));
    }

    fn renew(&self, found: &Found, said: &PlainResponse) {
        let Some(records) = renewed(self.keeping, &found.records, &said.secret) else { return };
        // The login that was verified a moment ago stays so; before the write, since whoever comes right after it is checked with the new one.
        if let Some(record) = records.first() {
            self.memory.remember(self.memory.name_of(said, record));
        }
        self.users.renew(found, &said.user, &records);
    }
}

/// Whether the first record, which logins are checked with, or what there is beside it is not as it would be made today.
fn is_outdated(keeping: Keeping, records: &[Record]) -> bool {
    let has_keys = records.iter().any(|record| matches!(record, Record::Scram(_)));
    !records.first().is_some_and(|record| record.costs(keeping.cost)) || (keeping.scram && !has_keys)
}

/// What a user should have; what is up to date already stays.
fn renewed(keeping: Keeping, records: &[Record], password: &str) -> Option<Vec<Record>> {
    let fresh = |record: &&Record| record.costs(keeping.cost);
    let first = records.first().filter(fresh).cloned().or_else(|| passwords::argon2(password, keeping.cost))?;
    let keys = records.iter().find(|record| matches!(record, Record::Scram(_))).cloned();
    let keys = keys.or_else(|| keeping.scram.then(|| passwords::scram(password)).flatten());
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
