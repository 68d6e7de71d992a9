//! Login state kept across configuration reloads: failure counts of clients and verified logins.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use waxwing_auth::{PlainResponse, StoredPassword};
use waxwing_types::{Clock, Monotonic, rate_limit_key};

use crate::password_policy::random_bytes;

/// Maximum number of password hashes computed at a time for logins; each uses `password_argon2_memory`.
pub const HASHES_MAX: usize = 4;
/// Maximum wait of a login for a free hash computation.
pub const HASH_WAIT: Duration = Duration::from_secs(10);
/// Maximum number of verified logins in the cache.
pub const VERIFIED_MAX: usize = 4096;
/// Lifetime of a verified login in the cache.
pub const VERIFIED_AGE: Duration = Duration::from_secs(300);
/// Maximum number of client addresses with failure counts.
pub const FAILURE_CLIENTS_MAX: usize = 65_536;

/// Failure counts, verified logins, and the permits of hash computations.
pub struct LoginCache {
    clock: Arc<dyn Clock>,
    hash_permits: Arc<Semaphore>,
    /// Random key of the process for login fingerprints; fingerprints are worthless after a restart.
    fingerprint_key: [u8; 32],
    /// Persistent secret of the server: the SCRAM salt of an unknown user stays the same across restarts, like the salt of an existing
    /// user.
    pub(super) server_secret: [u8; 32],
    verified: Mutex<HashMap<[u8; 32], Monotonic>>,
    failures: Mutex<HashMap<IpAddr, (u32, Monotonic)>>,
    hashes_computed: AtomicU64,
}

impl LoginCache {
    /// Creates an empty cache. `secret` must be the same at each start of the server. `None` if the system has no randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, secret: [u8; 32]) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            clock,
            hash_permits: Arc::new(Semaphore::new(HASHES_MAX)),
            fingerprint_key: random_bytes()?,
            server_secret: secret,
            verified: Mutex::default(),
            failures: Mutex::default(),
            hashes_computed: AtomicU64::new(0),
        }))
    }

    /// Number of password hashes computed for logins since the start.
    #[must_use]
    pub fn hashes_computed(&self) -> u64 {
        self.hashes_computed.load(Ordering::Relaxed)
    }

    /// True if the client failed `limit` times, the last time less than `age` ago; 0 means no limit.
    pub(super) fn is_banned(&self, client: IpAddr, limit: u32, age: Duration) -> bool {
        let now = self.clock.monotonic();
        let failures = self.failures.lock();
        let failed = |(count, at): &(u32, Monotonic)| *count >= limit && now.since(*at) < age;
        limit != 0 && failures.get(&rate_limit_key(client)).is_some_and(failed)
    }

    pub(super) fn record_failure(&self, client: IpAddr, age: Duration) {
        let now = self.clock.monotonic();
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURE_CLIENTS_MAX {
            failures.retain(|_, (_, at)| now.since(*at) < age);
        }
        // The map is full of unexpired entries: with so many failing addresses, a further address is not counted.
        if failures.len() >= FAILURE_CLIENTS_MAX && !failures.contains_key(&rate_limit_key(client)) {
            return;
        }
        let (count, at) = failures.entry(rate_limit_key(client)).or_insert((0, now));
        if now.since(*at) >= age {
            *count = 0;
        }
        (*count, *at) = (count.saturating_add(1), now);
    }

    /// Computes a keyed fingerprint of user, password and record. A changed record changes the fingerprint, so that logins verified by the
    /// old record expire.
    pub(super) fn fingerprint(&self, credentials: &PlainResponse, record: &StoredPassword) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.fingerprint_key);
        for part in [credentials.user.as_str(), &credentials.secret, &record.to_text()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().into()
    }

    pub(super) fn is_verified(&self, fingerprint: &[u8; 32]) -> bool {
        let now = self.clock.monotonic();
        self.verified.lock().get(fingerprint).is_some_and(|at| now.since(*at) < VERIFIED_AGE)
    }

    pub(super) fn mark_verified(&self, fingerprint: [u8; 32]) {
        let now = self.clock.monotonic();
        let mut verified = self.verified.lock();
        if verified.len() >= VERIFIED_MAX {
            verified.retain(|_, at| now.since(*at) < VERIFIED_AGE);
        }
        if verified.len() < VERIFIED_MAX {
            verified.insert(fingerprint, now);
        }
    }

    /// Verifies a password by a single hash computation, for known and unknown users alike. `None` if no computation was possible within
    /// [`HASH_WAIT`].
    pub(super) async fn verify(&self, record: Arc<StoredPassword>, secret: String) -> Option<bool> {
        let permit = tokio::time::timeout(HASH_WAIT, Arc::clone(&self.hash_permits).acquire_owned()).await.ok()?.ok()?;
        self.hashes_computed.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || {
            let right = record.verify(&secret);
            drop(permit);
            right
        })
        .await
        .ok()
    }
}
