//! Who a client is: the mechanisms over the users, with bounded work and bounded failures.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use waxwing_auth::{
    ARGON2_SALT_BYTES, Bearer, Binding, Login as LoginMechanism, LoginStep, PasswordCost, PlainResponse, Record, SaslError,
    Scram, ScramKeys, parse_oauthbearer, parse_plain, parse_xoauth2,
};
use waxwing_config::Network;
use waxwing_pipeline::{AuthAnswer, AuthExchange, AuthProgress, Authenticator, Chain, Context, Hook, Pipeline, Secret, Stored};
use waxwing_types::{Clock, Monotonic, Reply, TlsSession, client_of};

use crate::passwords::random;
use crate::users::Users;

/// Hashes that are computed at a time; each has 19 MiB.
pub const HASHES_MAX: usize = 4;
/// How long a login waits for one of them.
pub const HASH_WAIT: Duration = Duration::from_secs(10);
/// Verified logins that are remembered.
pub const VERIFIED_MAX: usize = 4096;
/// For how long.
pub const VERIFIED_AGE: Duration = Duration::from_secs(300);
/// What a failure costs in time.
pub const FAILURE_DELAY: Duration = Duration::from_secs(2);
/// Failures after which an address (IPv6: its /64) is refused.
pub const FAILURES_MAX: u32 = 20;
/// For how long failures count.
pub const FAILURE_AGE: Duration = Duration::from_secs(600);
/// Addresses whose failures are remembered.
pub const FAILURE_CLIENTS_MAX: usize = 65_536;

/// What a client with a bad token hears.
const BAD_TOKEN: &[u8] = br#"{"status":"invalid_token"}"#;

const DENIED: Reply = Reply::fixed(535, (5, 7, 8), "Error: authentication failed");
const LATER: Reply = Reply::fixed(454, (4, 7, 0), "Temporary authentication failure");
const TOO_MANY: Reply = Reply::fixed(454, (4, 7, 0), "Too many authentication failures, try again later");
const MALFORMED: Reply = Reply::fixed(501, (5, 5, 2), "Malformed authentication response");
const NOT_OFFERED: Reply = Reply::fixed(504, (5, 5, 4), "Authentication mechanism not offered");

struct Shared {
    users: Users,
    clock: Arc<dyn Clock>,
    pool: Arc<Semaphore>,
    /// Of this run: what is keyed with it means nothing later.
    key: [u8; 32],
    verified: Mutex<HashMap<[u8; 32], Monotonic>>,
    failures: Mutex<HashMap<IpAddr, (u32, Monotonic)>>,
    plaintext: Vec<Network>,
    /// What is computed for a user whom there is not.
    nobody: Arc<Record>,
    computed: AtomicU64,
}

/// Checks names and secrets by [`Users`] and plugins.
pub struct LoginDesk {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
}

impl LoginDesk {
    /// `plaintext`: clients that may use PLAIN and LOGIN without TLS. `None` if the system has no randomness.
    #[must_use]
    pub fn new(
        users: Users,
        plaintext: Vec<Network>,
        cost: PasswordCost,
        pipeline: Arc<Pipeline>,
        clock: Arc<dyn Clock>,
    ) -> Option<Self> {
        let key: [u8; 32] = random()?;
        let salt: [u8; ARGON2_SALT_BYTES] = random()?;
        let nobody = Arc::new(Record::make(&hex(&key), &salt, cost)?);
        let shared = Shared {
            users,
            clock,
            pool: Arc::new(Semaphore::new(HASHES_MAX)),
            key,
            verified: Mutex::default(),
            failures: Mutex::default(),
            plaintext,
            nobody,
            computed: AtomicU64::new(0),
        };
        Some(Self { shared: Arc::new(shared), pipeline })
    }

    /// Hashes computed in this run.
    #[must_use]
    pub fn computed(&self) -> u64 {
        self.shared.computed.load(Ordering::Relaxed)
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Authenticator for LoginDesk {
    fn mechanisms(&self, client: IpAddr, tls: bool) -> Vec<String> {
        let shared = &self.shared;
        let plugins = self.pipeline.has(Hook::OnAuth) || self.pipeline.has(Hook::OnCredentials);
        let mut names = Vec::new();
        let open = tls || shared.plaintext.iter().any(|network| network.contains(client));
        if open && !plugins && shared.users.scram() {
            names.extend(tls.then_some("SCRAM-SHA-256-PLUS"));
            names.push("SCRAM-SHA-256");
        }
        if open && (plugins || !shared.users.is_empty()) {
            names.extend(["PLAIN", "LOGIN"]);
        }
        // Whether a token is good only a plugin knows.
        if open && self.pipeline.has(Hook::OnAuth) {
            names.extend(["OAUTHBEARER", "XOAUTH2"]);
        }
        names.into_iter().map(str::to_owned).collect()
    }

    fn begin(&self, mechanism: &str, client: IpAddr, tls: Option<&TlsSession>) -> Result<Box<dyn AuthExchange>, Reply> {
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.mechanisms(client, tls.is_some()).contains(&mechanism) {
            return Err(NOT_OFFERED);
        }
        if self.shared.banned(client) {
            return Err(TOO_MANY);
        }
        let exporter = tls.map(|tls| tls.exporter.clone()).unwrap_or_default();
        let state = match mechanism.as_str() {
            "PLAIN" => State::Plain,
            "LOGIN" => State::Login(LoginMechanism::default()),
            "OAUTHBEARER" => State::Bearer(parse_oauthbearer),
            "XOAUTH2" => State::Bearer(parse_xoauth2),
            "SCRAM-SHA-256" => State::Scram { plus: false, tls: tls.is_some(), exporter },
            "SCRAM-SHA-256-PLUS" if !exporter.is_empty() => State::Scram { plus: true, tls: true, exporter },
            _ => return Err(NOT_OFFERED),
        };
        Ok(Box::new(Exchange { shared: Arc::clone(&self.shared), client, state }))
    }
}

impl Shared {
    fn banned(&self, client: IpAddr) -> bool {
        let now = self.clock.monotonic();
        let failures = self.failures.lock();
        failures.get(&client_of(client)).is_some_and(|(count, at)| *count >= FAILURES_MAX && now.since(*at) < FAILURE_AGE)
    }

    fn failed(&self, client: IpAddr) {
        let now = self.clock.monotonic();
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURE_CLIENTS_MAX {
            failures.retain(|_, (_, at)| now.since(*at) < FAILURE_AGE);
        }
        // Still full: so many addresses fail at once that one more would not be told from them.
        if failures.len() >= FAILURE_CLIENTS_MAX && !failures.contains_key(&client_of(client)) {
            return;
        }
        let (count, at) = failures.entry(client_of(client)).or_insert((0, now));
        if now.since(*at) >= FAILURE_AGE {
            *count = 0;
        }
        (*count, *at) = (count.saturating_add(1), now);
    }

    /// Names a login without saying it; another record makes another name, so what was verified by an old one is forgotten.
    fn name_of(&self, said: &PlainResponse, record: &Record) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in [said.user.as_str(), &said.secret, &record.to_text()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().into()
    }

    fn is_verified(&self, name: &[u8; 32]) -> bool {
        let now = self.clock.monotonic();
        self.verified.lock().get(name).is_some_and(|at| now.since(*at) < VERIFIED_AGE)
    }

    fn remember(&self, name: [u8; 32]) {
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
    async fn verify(&self, record: Arc<Record>, secret: String) -> Option<bool> {
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

enum State {
    Plain,
    Login(LoginMechanism),
    Scram {
        plus: bool,
        tls: bool,
        exporter: Vec<u8>,
    },
    Bearer(fn(&[u8]) -> Option<Bearer>),
    /// The client was told that its token is bad, and says that it has heard it.
    BadToken,
    Challenged(Box<Scram>, String),
    Proved(String),
    Over,
}

struct Exchange {
    shared: Arc<Shared>,
    client: IpAddr,
    state: State,
}

/// What asks plugins.
struct Asking<'a> {
    pipeline: &'a Pipeline,
    chain: &'a mut Chain,
    context: &'a mut Context,
}

#[async_trait]
impl AuthExchange for Exchange {
    async fn step(
        &mut self,
        pipeline: &Pipeline,
        chain: &mut Chain,
        context: &mut Context,
        response: Option<Vec<u8>>,
    ) -> AuthProgress {
        let asking = Asking { pipeline, chain, context };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => AuthProgress::Failed(MALFORMED),
            State::Proved(user) => match response {
                Some(response) if response.is_empty() => AuthProgress::Done { user },
                Some(_) | None => AuthProgress::Failed(MALFORMED),
            },
            State::Challenged(mut scram, user) => match scram.finish(&response.unwrap_or_default()) {
                Ok(last) => {
                    self.state = State::Proved(user);
                    AuthProgress::Challenge(last)
                }
                Err(error) => self.refuse(error).await,
            },
            State::Login(mut login) => match login.step(response.as_deref()) {
                Ok(LoginStep::Ask(what)) => {
                    self.state = State::Login(login);
                    AuthProgress::Challenge(what.to_vec())
                }
                Ok(LoginStep::Said(said)) => self.password(asking, said).await,
                Err(error) => self.refuse(error).await,
            },
            State::BadToken => self.denied().await,
            State::Bearer(parse) => match response.as_deref().map(parse) {
                Some(Some(said)) => self.token(asking, said).await,
                Some(None) => AuthProgress::Failed(MALFORMED),
                None => {
                    self.state = State::Bearer(parse);
                    AuthProgress::Challenge(Vec::new())
                }
            },
            State::Plain => match response.as_deref().map(parse_plain) {
                Some(Ok(said)) => self.password(asking, said).await,
                Some(Err(error)) => self.refuse(error).await,
                None => {
                    self.state = State::Plain;
                    AuthProgress::Challenge(Vec::new())
                }
            },
            State::Scram { plus, tls, exporter } => match response {
                Some(response) => self.scram(&response, plus, tls, &exporter).await,
                None => {
                    self.state = State::Scram { plus, tls, exporter };
                    AuthProgress::Challenge(Vec::new())
                }
            },
        }
    }
}

impl Exchange {
    async fn refuse(&self, error: SaslError) -> AuthProgress {
        match error {
            SaslError::Malformed | SaslError::TooLong => AuthProgress::Failed(MALFORMED),
            SaslError::Denied | SaslError::Binding => self.denied().await,
        }
    }

    /// Counted, and late on purpose.
    async fn denied(&self) -> AuthProgress {
        self.shared.failed(self.client);
        tokio::time::sleep(FAILURE_DELAY).await;
        AuthProgress::Failed(DENIED)
    }

    async fn scram(&mut self, first: &[u8], plus: bool, tls: bool, exporter: &[u8]) -> AuthProgress {
        let binding = match (plus, tls) {
            (true, _) => Binding::Exporter(exporter),
            (false, true) => Binding::Offered,
            (false, false) => Binding::None,
        };
        let Some(nonce) = random::<18>() else { return AuthProgress::Failed(LATER) };
        let (mut scram, who) = match Scram::begin(first, binding, &hex(&nonce)) {
            Ok(begun) => begun,
            Err(error) => return self.refuse(error).await,
        };
        // Somebody else's name is refused at the end, as a wrong password is.
        let own = who.authzid.is_empty() || who.authzid == who.user;
        let keys = self.shared.users.scram_keys(&who.user).await.filter(|_| own);
        let challenge =
            scram.challenge(keys.unwrap_or_else(|| ScramKeys::nobody(&self.shared.key, &who.user.to_ascii_lowercase())));
        self.state = State::Challenged(Box::new(scram), who.user.to_ascii_lowercase());
        AuthProgress::Challenge(challenge)
    }

    /// A bad one is told so in JSON first (RFC 7628 §3.2.2).
    async fn token(&mut self, asking: Asking<'_>, said: Bearer) -> AuthProgress {
        let Asking { pipeline, chain, context } = asking;
        match pipeline.authenticate(chain, context, "smtp", &said.user, Secret::Token(said.token)).await {
            AuthAnswer::Allow(user) => AuthProgress::Done { user },
            AuthAnswer::Unavailable(_) => AuthProgress::Failed(LATER),
            AuthAnswer::Deny | AuthAnswer::NotMine => {
                self.state = State::BadToken;
                AuthProgress::Challenge(BAD_TOKEN.to_vec())
            }
        }
    }

    async fn password(&self, asking: Asking<'_>, said: PlainResponse) -> AuthProgress {
        let Asking { pipeline, chain, context } = asking;
        let user = said.user.to_ascii_lowercase();
        let own = said.authzid.is_empty() || said.authzid.eq_ignore_ascii_case(&user);
        if own && pipeline.has(Hook::OnAuth) {
            let secret = Secret::Password(said.secret.clone());
            match pipeline.authenticate(chain, context, "smtp", &user, secret).await {
                AuthAnswer::Allow(user) => return AuthProgress::Done { user },
                AuthAnswer::Deny => return self.denied().await,
                AuthAnswer::Unavailable(_) => return AuthProgress::Failed(LATER),
                AuthAnswer::NotMine => {}
            }
        }
        let mut records = self.shared.users.find(&user).await;
        if records.is_empty() && pipeline.has(Hook::OnCredentials) {
            match pipeline.credentials(chain, context, &user).await {
                Stored::Hash(text) => records.extend(Record::parse(&text, false)),
                Stored::Absent => {}
                Stored::Unavailable(_) => return AuthProgress::Failed(LATER),
            }
        }
        // The slow hash is the one that is checked: the keys of SCRAM are for SCRAM.
        records.sort_by_key(|record| matches!(record, Record::Scram(_)));
        let record = records.into_iter().next().filter(|_| own).map(Arc::new);
        let name = record.as_ref().map(|record| self.shared.name_of(&said, record));
        if name.is_some_and(|name| self.shared.is_verified(&name)) {
            return AuthProgress::Done { user };
        }
        let computed = Arc::clone(record.as_ref().unwrap_or(&self.shared.nobody));
        match (self.shared.verify(computed, said.secret).await, name) {
            (None, _) => AuthProgress::Failed(LATER),
            (Some(true), Some(name)) => {
                self.shared.remember(name);
                AuthProgress::Done { user }
            }
            (Some(_), _) => self.denied().await,
        }
    }
}
