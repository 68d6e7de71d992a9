//! Do other servers take mail for an address? They are asked by probes, and their answers are remembered (Postfix's
//! ADDRESS_VERIFICATION_README).

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

/// Where answers are kept among the pairs of plugins; no plugin has a name with a dot.
const NAMESPACE: &str = "verify.addresses";
/// Octets of all answers that are kept, about a hundred thousand; for one more an old one goes.
const ANSWERS_BYTES_MAX: u64 = 16 << 20;
/// Neighbours among which the oldest answer is looked for when room is needed, and how many of them go.
const NEIGHBOURS: usize = 32;
const ROOM_FOR: usize = 4;
/// Probes at once for recipients, and as many for senders: whom strangers name as senders must not keep recipients waiting.
const PROBES_MAX: usize = 50;
/// An address is not asked about again so soon, whatever the answer was.
const PROBE_PAUSE: Duration = Duration::from_secs(60);

/// The keys of verification, by their names in the configuration.
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
    /// Our probes give this name: a client of that name is ourselves.
    pub smtp_helo_name: String,
}

/// What is done about an address that is not verified.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the keys are described in the configuration")]
pub struct Consequence {
    pub reject_code: u16,
    pub defer_code: u16,
    pub tempfail_action: TempfailAction,
}

impl VerifySettings {
    /// The keys of a configuration.
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

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Its server takes mail for it.
    Deliverable,
    /// Its server takes none, with these words.
    Undeliverable(String),
    /// It can't be said now, for this reason.
    Unknown(String),
}

/// As whom an address is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Recipient,
    Sender,
}

type Outcome = watch::Receiver<Option<Finding>>;

/// Asks about addresses and remembers what was said.
pub struct Verifier {
    pub(crate) settings: VerifySettings,
    probe: Arc<dyn Probe>,
    answers: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    /// One probe for each address at a time, at most `2 * PROBES_MAX`.
    under_way: Mutex<HashMap<String, Outcome>>,
    recipients: Arc<Semaphore>,
    senders: Arc<Semaphore>,
}

impl Verifier {
    /// Asks by `probe` and remembers in `answers`.
    #[must_use]
    pub fn new(settings: VerifySettings, probe: Arc<dyn Probe>, answers: Arc<dyn KvStore>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let probes = || Arc::new(Semaphore::new(PROBES_MAX));
        let (recipients, senders) = (probes(), probes());
        Arc::new(Self { settings, probe, answers, clock, under_way: Mutex::default(), recipients, senders })
    }

    /// What is known of an address, after a probe if need be. `helo` is what the client calls itself.
    pub(crate) async fn verify(self: &Arc<Self>, address: &Address, role: Role, helo: Option<&str>) -> Finding {
        let key = address.lookup_key();
        // Whoever sends us our own probe back must not hear from us that the address is good, nor wait for the end of that probe.
        let is_ourselves = helo.is_some_and(|helo| helo.eq_ignore_ascii_case(&self.settings.smtp_helo_name));
        if is_ourselves && self.under_way.lock().contains_key(&key) {
            return Finding::Unknown("the probe of this address came back to this server".to_owned());
        }
        let now = self.clock.now();
        if let Some(known) = self.known(&key, now).await {
            if known.is_stale(&self.settings, now) {
                // The old answer serves meanwhile.
                let _ = self.ask(address, &key, role);
            }
            return known.finding;
        }
        let Some(mut outcome) = self.ask(address, &key, role) else {
            return Finding::Unknown("too many addresses are being verified".to_owned());
        };
        match tokio::time::timeout(self.settings.address_verify_poll_time, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(finding)) => finding.clone().unwrap_or_else(cut_off),
            Ok(Err(_)) => cut_off(),
            Err(_) => Finding::Unknown("address verification in progress".to_owned()),
        }
    }

    /// An answer that still counts.
    async fn known(&self, key: &str, now: Timestamp) -> Option<Known> {
        let stored = self.answers.get(NAMESPACE, &known::row_key(key)).await.unwrap_or_else(|error| {
            tracing::warn!(target: "verify", "what is known of <{key}> can't be read: {error}");
            None
        });
        stored.as_deref().and_then(Known::decode).filter(|known| !known.left(&self.settings, now).is_zero())
    }

    /// Begins a probe, unless one is under way; none if there are too many.
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
        let (tell, outcome) = watch::channel(None);
        under_way.insert(key.to_owned(), outcome.clone());
        drop(under_way);
        let entry = UnderWay { verifier: Arc::clone(self), key: key.to_owned(), _permit: permit };
        let address = address.clone();
        drop(spawn("verify", async move {
            let finding = entry.probe(&address).await;
            drop(entry);
            tell.send_replace(Some(finding));
        }));
        Some(outcome)
    }

    /// Keeps an answer. One for now does not take the place of one that is good, or of one that is bad for good.
    async fn remember(&self, key: &str, finding: &Finding) {
        let now = self.clock.now();
        let known = match (finding, self.known(key, now).await) {
            (Finding::Unknown(_), Some(before)) => Known { asked: now, ..before },
            (Finding::Deliverable | Finding::Undeliverable(_) | Finding::Unknown(_), _) => {
                Known { finding: finding.clone(), answered: now, asked: now }
            }
        };
        let (row, value, left) = (known::row_key(key), known.encode(), known.left(&self.settings, now));
        let mut kept = self.answers.set(NAMESPACE, ANSWERS_BYTES_MAX, &row, &value, Some(left)).await;
        if kept == Err(KvError::Full) {
            kept = match self.make_room(&row).await {
                Ok(()) => self.answers.set(NAMESPACE, ANSWERS_BYTES_MAX, &row, &value, Some(left)).await,
                Err(error) => Err(error),
            };
        }
        if let Err(error) = kept {
            tracing::warn!(target: "verify", "what is known of <{key}> can't be kept: {error}");
        }
    }

    /// Forgets the oldest of the neighbours. Rows lie in the order of a hash, so that these are any.
    async fn make_room(&self, row: &[u8]) -> Result<(), KvError> {
        let mut neighbours = self.answers.scan(NAMESPACE, b"", Some(row), NEIGHBOURS).await?;
        if neighbours.len() < ROOM_FOR {
            neighbours = self.answers.scan(NAMESPACE, b"", None, NEIGHBOURS).await?;
        }
        neighbours.sort_by_key(|(_, value)| Known::decode(value).map(|known| known.answered));
        for (row, _) in neighbours.iter().take(ROOM_FOR) {
            self.answers.delete(NAMESPACE, row).await?;
        }
        Ok(())
    }
}

fn cut_off() -> Finding {
    Finding::Unknown("the verification was cut off".to_owned())
}

/// A probe under way; not any more when this is dropped, however the probe ended.
struct UnderWay {
    verifier: Arc<Verifier>,
    key: String,
    _permit: OwnedSemaphorePermit,
}

impl UnderWay {
    async fn probe(&self, address: &Address) -> Finding {
        let verifier = &self.verifier;
        let begun = verifier.clock.monotonic();
        let said = verifier.probe.probe(&verifier.settings.address_verify_sender, address).await;
        let status = said.status();
        let mut words = match (&status.remote, status.code) {
            (Some(remote), Some(code)) => format!("host {remote} said: {code} {}", status.text),
            (Some(_) | None, _) => status.text.clone(),
        };
        words.truncate(words.floor_char_boundary(known::WORDS_BYTES_MAX));
        let ms = verifier.clock.monotonic().since(begun).as_millis();
        let (finding, word) = match said {
            Disposition::Delivered(_) => (Finding::Deliverable, "deliverable"),
            Disposition::Failed(_) => (Finding::Undeliverable(words.clone()), "undeliverable"),
            Disposition::Deferred { .. } => (Finding::Unknown(words.clone()), "not verified"),
        };
        tracing::info!(target: "verify", "probe: <{address}> is {word}: {words} ({ms} ms)");
        verifier.remember(&self.key, &finding).await;
        finding
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.verifier.under_way.lock().remove(&self.key);
    }
}
