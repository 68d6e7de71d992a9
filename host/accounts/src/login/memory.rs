//! What is remembered of logins from one configuration to the next: failures of clients, and what was verified.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use waxwing_auth::{PlainResponse, Record};
use waxwing_types::{Clock, Monotonic, client_of};

use crate::passwords::random;

/// Hashes that are computed at a time for logins; each has the memory of its cost.
pub const HASHES_MAX: usize = 4;
/// How long a login waits for one of them.
pub const HASH_WAIT: Duration = Duration::from_secs(10);
/// Verified logins that are remembered.
pub const VERIFIED_MAX: usize = 4096;
/// For how long.
pub const VERIFIED_AGE: Duration = Duration::from_secs(300);
/// Addresses whose failures are remembered.
pub const FAILURE_CLIENTS_MAX: usize = 65_536;

/// Failures, verified logins, and the places of hash computations.
pub struct LoginMemory {
    clock: Arc<dyn Clock>,
    pool: Arc<Semaphore>,
    /// Of this run: what is keyed with it means nothing later.
    pub(super) key: [u8; 32],
    verified: Mutex<HashMap<[u8; 32], Monotonic>>,
    failures: Mutex<HashMap<IpAddr, (u32, Monotonic)>>,
    computed: AtomicU64,
}

impl LoginMemory {
    /// An empty one. `None` if the system has no randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            clock,
            pool: Arc::new(Semaphore::new(HASHES_MAX)),
            key: random()?,
            verified: Mutex::default(),
            failures: Mutex::default(),
            computed: AtomicU64::new(0),
        }))
    }

    /// Hashes computed for logins in this run.
    #[must_use]
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// The client has failed `limit` times within `age` of the last one; 0 is no limit.
    pub(super) fn is_banned(&self, client: IpAddr, limit: u32, age: Duration) -> bool {
        let now = self.clock.monotonic();
        let failures = self.failures.lock();
        let failed = |(count, at): &(u32, Monotonic)| *count >= limit && now.since(*at) < age;
        limit != 0 && failures.get(&client_of(client)).is_some_and(failed)
    }

    pub(super) fn failed(&self, client: IpAddr, age: Duration) {
        let now = self.clock.monotonic();
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURE_CLIENTS_MAX {
            failures.retain(|_, (_, at)| now.since(*at) < age);
        }
        // Still full: so many addresses fail at once that one more would not be told from them.
        if failures.len() >= FAILURE_CLIENTS_MAX && !failures.contains_key(&client_of(client)) {
            return;
        }
        let (count, at) = failures.entry(client_of(client)).or_insert((0, now));
        if now.since(*at) >= age {
            *count = 0;
        }
        (*count, *at) = (count.saturating_add(1), now);
    }

    /// Names a login without saying it; another record makes another name, so what was verified by an old one is forgotten.
    pub(super) fn name_of(&self, said: &PlainResponse, record: &Record) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in [said.user.as_str(), &said.secret, &record.to_text()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().into()
    }

    pub(super) fn is_verified(&self, name: &[u8; 32]) -> bool {
        let now = self.clock.monotonic();
        self.verified.lock().get(name).is_some_and(|at| now.since(*at) < VERIFIED_AGE)
    }

    pub(super) fn remember(&self, name: [u8; 32]) {
        let now = self.clock.monotonic();
        let mut verified = self.verified.lock();
        if verified.len() >= VERIFIED_MAX {
            verified.retain(|_, at| now.since(*at) < VERIFIED_AGE);
        }
        if verified.len() < VERIFIED_MAX {
            verified.insert(name, now);
        }
    }

    /// One hash, whoever it is. `None`: none could be computed.
    pub(super) async fn verify(&self, record: Arc<Record>, secret: String) -> Option<bool> {
        let permit = tokio::time::timeout(HASH_WAIT, Arc::clone(&self.pool).acquire_owned()).await.ok()?.ok()?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || {
            let right = record.verify(&secret);
            drop(permit);
            right
        })
        .await
        .ok()
    }
}
