//! Address verification by probes to other mail servers, with a cache of results (Postfix ADDRESS_VERIFICATION_README).

mod cache;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use waxwing_config::{AddressVerifyConfig, TempfailAction};
use waxwing_net::spawn;
use waxwing_pipeline::{AddressProbe, KvError, KvStore};
use waxwing_types::{Address, Clock, Disposition, Timestamp};

use cache::CachedProbe;
pub(crate) use cache::ProbeResult;

/// Namespace of the cache in the plugin key-value store; plugin names contain no dot.
const NAMESPACE: &str = "verify.addresses";
/// Maximum bytes of the cache, about 100,000 results. A full cache evicts old entries.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// Number of adjacent entries examined for eviction, and number of entries evicted.
const EVICTION_CANDIDATES: usize = 32;
const EVICTIONS: usize = 4;
/// Maximum number of concurrent recipient probes, and of sender probes. Separate limits: forged sender addresses must not delay recipient
/// verification.
const PROBES_MAX: usize = 50;

/// Reply codes and action for addresses without successful verification.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the keys are described in the configuration")]
pub(crate) struct UnverifiedAction {
    pub reject_code: u16,
    pub defer_code: u16,
    pub tempfail_action: TempfailAction,
}

impl UnverifiedAction {
    /// Takes the keys `unverified_recipient_...` or `unverified_sender_...`.
    fn for_role(config: &AddressVerifyConfig, role: VerifyRole) -> Self {
        match role {
            VerifyRole::Recipient => Self {
                reject_code: config.unverified_recipient_reject_code,
                defer_code: config.unverified_recipient_defer_code,
                tempfail_action: config.unverified_recipient_tempfail_action,
            },
            VerifyRole::Sender => Self {
                reject_code: config.unverified_sender_reject_code,
                defer_code: config.unverified_sender_defer_code,
                tempfail_action: config.unverified_sender_tempfail_action,
            },
        }
    }
}

/// Role of the verified address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerifyRole {
    Recipient,
    Sender,
}

type ProbeReceiver = watch::Receiver<Option<ProbeResult>>;

/// Verifies addresses by probes and caches the results.
pub struct Verifier {
    pub(crate) config: AddressVerifyConfig,
    /// HELO name of probes: a client with this name is the server itself.
    smtp_helo_name: String,
    prober: Arc<dyn AddressProbe>,
    cache: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    /// Results of running probes by lookup key: a single probe per address, at most `2 * PROBES_MAX` in total.
    running: Mutex<HashMap<String, ProbeReceiver>>,
    recipient_permits: Arc<Semaphore>,
    sender_permits: Arc<Semaphore>,
}

impl Verifier {
    /// Returns the reply codes and the action for an unverified address of this role.
    pub(crate) fn unverified_action(&self, role: VerifyRole) -> UnverifiedAction {
        UnverifiedAction::for_role(&self.config, role)
    }

    /// Creates a verifier that sends probes through `probe` and stores results in `answers`.
    #[must_use]
    pub fn new(
        config: AddressVerifyConfig,
        smtp_helo_name: String,
        probe: Arc<dyn AddressProbe>,
        answers: Arc<dyn KvStore>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let probes = || Arc::new(Semaphore::new(PROBES_MAX));
        let (recipients, senders) = (probes(), probes());
        Arc::new(Self {
            config,
            smtp_helo_name,
            prober: probe,
            cache: answers,
            clock,
            running: Mutex::default(),
            recipient_permits: recipients,
            sender_permits: senders,
        })
    }

    /// Cached result for an address, or the result of a new probe. `helo` is the client's HELO name.
    pub(crate) async fn verify(self: &Arc<Self>, address: &Address, role: VerifyRole, helo: Option<&str>) -> ProbeResult {
        let key = address.lookup_key();
        // A probe returning to this server through a mail loop must neither succeed nor wait for the original probe.
        let is_ourselves = helo.is_some_and(|helo| helo.eq_ignore_ascii_case(&self.smtp_helo_name));
        if is_ourselves && self.running.lock().contains_key(&key) {
            return ProbeResult::Unknown("the probe of this address came back to this server".to_owned());
        }
        let now = self.clock.now();
        if let Some(entry) = self.cached(&key, now).await {
            if entry.is_stale(&self.config, now) {
                // Refresh in the background; the cached result is used meanwhile.
                let _ = self.start_probe(address, &key, role);
            }
            return entry.result;
        }
        let Some(mut outcome) = self.start_probe(address, &key, role) else {
            return ProbeResult::Unknown("too many addresses are being verified".to_owned());
        };
        match tokio::time::timeout(self.config.address_verify_poll_time, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone().unwrap_or_else(aborted),
            Ok(Err(_)) => aborted(),
            Err(_) => ProbeResult::Unknown("address verification in progress".to_owned()),
        }
    }

    /// Cached result that has not expired.
    async fn cached(&self, key: &str, now: Timestamp) -> Option<CachedProbe> {
        let stored = self.cache.get(NAMESPACE, &cache::row_key(key)).await.unwrap_or_else(|error| {
            tracing::warn!(target: "verify", "cached result for <{key}> can't be read: {error}");
            None
        });
        stored.as_deref().and_then(CachedProbe::decode).filter(|entry| !entry.remaining_ttl(&self.config, now).is_zero())
    }

    /// Starts a probe or joins a running probe for the address; `None` if too many probes are running.
    fn start_probe(self: &Arc<Self>, address: &Address, key: &str, role: VerifyRole) -> Option<ProbeReceiver> {
        let mut under_way = self.running.lock();
        if let Some(outcome) = under_way.get(key) {
            return Some(outcome.clone());
        }
        let probes = match role {
            VerifyRole::Recipient => &self.recipient_permits,
            VerifyRole::Sender => &self.sender_permits,
        };
        let permit = Arc::clone(probes).try_acquire_owned().ok()?;
        let (sender, outcome) = watch::channel(None);
        under_way.insert(key.to_owned(), outcome.clone());
        drop(under_way);
        let entry = RunningProbe { verifier: Arc::clone(self), key: key.to_owned(), _permit: permit };
        let address = address.clone();
        drop(spawn("verify", async move {
            let result = entry.run(&address).await;
            drop(entry);
            sender.send_replace(Some(result));
        }));
        Some(outcome)
    }

    /// Stores a result. A temporary failure does not replace a definite result.
    async fn store(&self, key: &str, result: &ProbeResult) {
        let now = self.clock.now();
        let entry = match (result, self.cached(key, now).await) {
            (ProbeResult::Unknown(_), Some(before)) => CachedProbe { probed_at: now, ..before },
            (ProbeResult::Deliverable | ProbeResult::Undeliverable(_) | ProbeResult::Unknown(_), _) => {
                CachedProbe { result: result.clone(), answered_at: now, probed_at: now }
            }
        };
        let (row, value, ttl) = (cache::row_key(key), entry.encode(), entry.remaining_ttl(&self.config, now));
        let mut stored = self.cache.set(NAMESPACE, CACHE_BYTES_MAX, &row, &value, Some(ttl)).await;
        if stored == Err(KvError::Full) {
            stored = match self.evict_oldest(&row).await {
                Ok(()) => self.cache.set(NAMESPACE, CACHE_BYTES_MAX, &row, &value, Some(ttl)).await,
                Err(error) => Err(error),
            };
        }
        if let Err(error) = stored {
            tracing::warn!(target: "verify", "cached result for <{key}> can't be stored: {error}");
        }
    }

    /// Evicts the oldest among adjacent entries. Entries are ordered by hash, so that the choice is effectively random.
    async fn evict_oldest(&self, row: &[u8]) -> Result<(), KvError> {
        let mut neighbours = self.cache.scan(NAMESPACE, b"", Some(row), EVICTION_CANDIDATES).await?;
        if neighbours.len() < EVICTIONS {
            neighbours = self.cache.scan(NAMESPACE, b"", None, EVICTION_CANDIDATES).await?;
        }
        neighbours.sort_by_key(|(_, value)| CachedProbe::decode(value).map(|entry| entry.answered_at));
        for (row, _) in neighbours.iter().take(EVICTIONS) {
            self.cache.delete(NAMESPACE, row).await?;
        }
        Ok(())
    }
}

fn aborted() -> ProbeResult {
    ProbeResult::Unknown("the verification was cut off".to_owned())
}

/// Running probe; drop removes the entry from the map of running probes.
struct RunningProbe {
    verifier: Arc<Verifier>,
    key: String,
    _permit: OwnedSemaphorePermit,
}

impl RunningProbe {
    async fn run(&self, address: &Address) -> ProbeResult {
        let verifier = &self.verifier;
        let started_at = verifier.clock.monotonic();
        let disposition = verifier.prober.probe(&verifier.config.address_verify_sender, address).await;
        let status = disposition.status();
        let mut text = match (&status.remote, status.code) {
            (Some(remote), Some(code)) => format!("host {remote} said: {code} {}", status.text),
            (Some(_) | None, _) => status.text.clone(),
        };
        text.truncate(text.floor_char_boundary(cache::REPLY_TEXT_BYTES_MAX));
        let ms = verifier.clock.monotonic().since(started_at).as_millis();
        let (result, label) = match disposition {
            Disposition::Delivered(_) => (ProbeResult::Deliverable, "deliverable"),
            Disposition::Failed(_) => (ProbeResult::Undeliverable(text.clone()), "undeliverable"),
            Disposition::Deferred { .. } => (ProbeResult::Unknown(text.clone()), "not verified"),
        };
        tracing::info!(target: "verify", "probe: <{address}> is {label}: {text} ({ms} ms)");
        verifier.store(&self.key, &result).await;
        result
    }
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        self.verifier.running.lock().remove(&self.key);
    }
}
