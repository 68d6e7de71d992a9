//! Address verification by probes to other mail servers, with a cache of results (Postfix ADDRESS_VERIFICATION_README).

mod known;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use waxwing_config::{Config, TempfailAction};
use waxwing_net::spawn;
use waxwing_pipeline::{KvError, KvStore, Probe};
use waxwing_types::{Address, Clock, Disposition, ReversePath, Timestamp};

use known::Known;

/// Namespace of the cache in the plugin key-value store; plugin names contain no dot.
const NAMESPACE: &str = "verify.addresses";
/// Maximum bytes of the cache, about 100,000 results. A full cache evicts old entries.
const ANSWERS_BYTES_MAX: u64 = 16 << 20;
/// Number of adjacent entries examined for eviction, and number of entries evicted.
const NEIGHBOURS: usize = 32;
const ROOM_FOR: usize = 4;
/// Maximum number of concurrent recipient probes, and of sender probes. Separate limits: forged sender addresses must not delay recipient
/// verification.
const PROBES_MAX: usize = 50;
/// Minimum time between probes of an address, whatever the result.
const PROBE_PAUSE: Duration = Duration::from_secs(60);

/// Settings of address verification, by configuration key.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the keys are described in the configuration")]
pub struct VerifySettings {
    pub address_verify_sender: ReversePath,
    pub address_verify_poll_time: Duration,
    pub address_verify_positive_expire_time: Duration,
    pub address_verify_positive_refresh_time: Duration,
    pub address_verify_negative_expire_time: Duration,
    pub address_verify_negative_refresh_time: Duration,
    pub recipient: Consequence,
    pub sender: Consequence,
    /// HELO name of probes: a client with this name is the server itself.
    pub smtp_helo_name: String,
}

/// Reply codes and action for addresses without successful verification.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the keys are described in the configuration")]
pub struct Consequence {
    pub reject_code: u16,
    pub defer_code: u16,
    pub tempfail_action: TempfailAction,
}

impl VerifySettings {
    /// Reads the keys of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            address_verify_sender: config.address_verify_sender.clone(),
            address_verify_poll_time: config.address_verify_poll_time,
            address_verify_positive_expire_time: config.address_verify_positive_expire_time,
            address_verify_positive_refresh_time: config.address_verify_positive_refresh_time,
            address_verify_negative_expire_time: config.address_verify_negative_expire_time,
            address_verify_negative_refresh_time: config.address_verify_negative_refresh_time,
            recipient: Consequence {
                reject_code: config.unverified_recipient_reject_code,
                defer_code: config.unverified_recipient_defer_code,
                tempfail_action: config.unverified_recipient_tempfail_action,
            },
            sender: Consequence {
                reject_code: config.unverified_sender_reject_code,
                defer_code: config.unverified_sender_defer_code,
                tempfail_action: config.unverified_sender_tempfail_action,
            },
            smtp_helo_name: config.smtp_helo_name.clone(),
        }
    }
}

/// Result of an address probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Mail server accepts mail for the address.
    Deliverable,
    /// Mail server refuses mail for the address, with reply text.
    Undeliverable(String),
    /// No result at present, with reason.
    Unknown(String),
}

/// Role of the verified address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Recipient,
    Sender,
}

type Outcome = watch::Receiver<Option<Finding>>;

/// Verifies addresses by probes and caches the results.
pub struct Verifier {
    pub(crate) settings: VerifySettings,
    probe: Arc<dyn Probe>,
    answers: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    /// Results of running probes by lookup key: a single probe per address, at most `2 * PROBES_MAX` in total.
    under_way: Mutex<HashMap<String, Outcome>>,
    recipients: Arc<Semaphore>,
    senders: Arc<Semaphore>,
}

impl Verifier {
    /// Creates a verifier that sends probes through `probe` and stores results in `answers`.
    #[must_use]
    pub fn new(settings: VerifySettings, probe: Arc<dyn Probe>, answers: Arc<dyn KvStore>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let probes = || Arc::new(Semaphore::new(PROBES_MAX));
        let (recipients, senders) = (probes(), probes());
        Arc::new(Self { settings, probe, answers, clock, under_way: Mutex::default(), recipients, senders })
    }

    /// Cached result for an address, or the result of a new probe. `helo` is the client's HELO name.
    pub(crate) async fn verify(self: &Arc<Self>, address: &Address, role: Role, helo: Option<&str>) -> Finding {
        let key = address.lookup_key();
        // A probe returning to this server through a mail loop must neither succeed nor wait for the original probe.
        let is_ourselves = helo.is_some_and(|helo| helo.eq_ignore_ascii_case(&self.settings.smtp_helo_name));
        if is_ourselves && self.under_way.lock().contains_key(&key) {
            return Finding::Unknown("the probe of this address came back to this server".to_owned());
        }
        let now = self.clock.now();
        if let Some(entry) = self.known(&key, now).await {
            if entry.is_stale(&self.settings, now) {
                // Refresh in the background; the cached result is used meanwhile.
                let _ = self.ask(address, &key, role);
            }
            return entry.finding;
        }
        let Some(mut outcome) = self.ask(address, &key, role) else {
            return Finding::Unknown("too many addresses are being verified".to_owned());
        };
        match tokio::time::timeout(self.settings.address_verify_poll_time, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone().unwrap_or_else(cut_off),
            Ok(Err(_)) => cut_off(),
            Err(_) => Finding::Unknown("address verification in progress".to_owned()),
        }
    }

    /// Cached result that has not expired.
    async fn known(&self, key: &str, now: Timestamp) -> Option<Known> {
        let stored = self.answers.get(NAMESPACE, &known::row_key(key)).await.unwrap_or_else(|error| {
            tracing::warn!(target: "verify", "cached result for <{key}> can't be read: {error}");
            None
        });
        stored.as_deref().and_then(Known::decode).filter(|entry| !entry.left(&self.settings, now).is_zero())
    }

    /// Starts a probe or joins a running probe for the address; `None` if too many probes are running.
    fn ask(self: &Arc<Self>, address: &Address, key: &str, role: Role) -> Option<Outcome> {
        let mut under_way = self.under_way.lock();
        if let Some(outcome) = under_way.get(key) {
            return Some(outcome.clone());
        }
        let probes = match role {
            Role::Recipient => &self.recipients,
            Role::Sender => &self.senders,
        };
        let permit = Arc::clone(probes).try_acquire_owned().ok()?;
        let (sender, outcome) = watch::channel(None);
        under_way.insert(key.to_owned(), outcome.clone());
        drop(under_way);
        let entry = UnderWay { verifier: Arc::clone(self), key: key.to_owned(), _permit: permit };
        let address = address.clone();
        drop(spawn("verify", async move {
            let result = entry.probe(&address).await;
            drop(entry);
            sender.send_replace(Some(result));
        }));
        Some(outcome)
    }

    /// Stores a result. A temporary failure does not replace a definite result.
    async fn remember(&self, key: &str, result: &Finding) {
        let now = self.clock.now();
        let entry = match (result, self.known(key, now).await) {
            (Finding::Unknown(_), Some(before)) => Known { asked: now, ..before },
            (Finding::Deliverable | Finding::Undeliverable(_) | Finding::Unknown(_), _) => {
                Known { finding: result.clone(), answered: now, asked: now }
            }
        };
        let (row, value, ttl) = (known::row_key(key), entry.encode(), entry.left(&self.settings, now));
        let mut stored = self.answers.set(NAMESPACE, ANSWERS_BYTES_MAX, &row, &value, Some(ttl)).await;
        if stored == Err(KvError::Full) {
            stored = match self.make_room(&row).await {
                Ok(()) => self.answers.set(NAMESPACE, ANSWERS_BYTES_MAX, &row, &value, Some(ttl)).await,
                Err(error) => Err(error),
            };
        }
        if let Err(error) = stored {
            tracing::warn!(target: "verify", "cached result for <{key}> can't be stored: {error}");
        }
    }

    /// Evicts the oldest among adjacent entries. Entries are ordered by hash, so that the choice is effectively random.
    async fn make_room(&self, row: &[u8]) -> Result<(), KvError> {
        let mut neighbours = self.answers.scan(NAMESPACE, b"", Some(row), NEIGHBOURS).await?;
        if neighbours.len() < ROOM_FOR {
            neighbours = self.answers.scan(NAMESPACE, b"", None, NEIGHBOURS).await?;
        }
        neighbours.sort_by_key(|(_, value)| Known::decode(value).map(|entry| entry.answered));
        for (row, _) in neighbours.iter().take(ROOM_FOR) {
            self.answers.delete(NAMESPACE, row).await?;
        }
        Ok(())
    }
}

fn cut_off() -> Finding {
    Finding::Unknown("the verification was cut off".to_owned())
}

/// Running probe; drop removes the entry from the map of running probes.
struct UnderWay {
    verifier: Arc<Verifier>,
    key: String,
    _permit: OwnedSemaphorePermit,
}

impl UnderWay {
    async fn probe(&self, address: &Address) -> Finding {
        let verifier = &self.verifier;
        let started_at = verifier.clock.monotonic();
        let disposition = verifier.probe.probe(&verifier.settings.address_verify_sender, address).await;
        let status = disposition.status();
        let mut text = match (&status.remote, status.code) {
            (Some(remote), Some(code)) => format!("host {remote} said: {code} {}", status.text),
            (Some(_) | None, _) => status.text.clone(),
        };
        text.truncate(text.floor_char_boundary(known::WORDS_BYTES_MAX));
        let ms = verifier.clock.monotonic().since(started_at).as_millis();
        let (result, label) = match disposition {
            Disposition::Delivered(_) => (Finding::Deliverable, "deliverable"),
            Disposition::Failed(_) => (Finding::Undeliverable(text.clone()), "undeliverable"),
            Disposition::Deferred { .. } => (Finding::Unknown(text.clone()), "not verified"),
        };
        tracing::info!(target: "verify", "probe: <{address}> is {label}: {text} ({ms} ms)");
        verifier.remember(&self.key, &result).await;
        result
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.verifier.under_way.lock().remove(&self.key);
    }
}
