//! SASL authentication: mechanisms over the users and plugins, with bounded hash work and bounded failures.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use waxwing_auth::{
    Bearer, Binding, Login, LoginStep, PlainResponse, Record, SaslError, Scram, ScramKeys, parse_oauthbearer, parse_plain,
    parse_xoauth2,
};
use waxwing_config::{Config, Network};
use waxwing_pipeline::{AuthAnswer, AuthExchange, AuthProgress, Authenticator, Chain, Context, Hook, Pipeline, Secret, Stored};
use waxwing_types::{Reply, TlsSession, hex};

use crate::passwords::{Keeping, random};
use crate::users::Users;

mod memory;
mod renewal;

pub use memory::{FAILURE_CLIENTS_MAX, HASH_WAIT, HASHES_MAX, LoginMemory, VERIFIED_AGE, VERIFIED_MAX};
pub use renewal::RENEWALS_MAX;
use renewal::Renewals;

/// Error challenge for a refused bearer token (RFC 7628 §3.2.2).
const BAD_TOKEN: &[u8] = br#"{"status":"invalid_token"}"#;

const DENIED: Reply = Reply::fixed(535, (5, 7, 8), "Error: authentication failed");
const LATER: Reply = Reply::fixed(454, (4, 7, 0), "Temporary authentication failure");
const TOO_MANY: Reply = Reply::fixed(454, (4, 7, 0), "Too many authentication failures, try again later");
const MALFORMED: Reply = Reply::fixed(501, (5, 5, 2), "Malformed authentication response");
const NOT_OFFERED: Reply = Reply::fixed(504, (5, 5, 4), "Authentication mechanism not offered");

/// Settings of the SASL authenticator.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// Networks whose clients may use PLAIN and LOGIN without TLS (`smtpd_sasl_plaintext_networks`).
    pub plaintext: Vec<Network>,
    /// Password schemes and costs for new records.
    pub keeping: Keeping,
    /// Replacement of records with outdated scheme or cost after a successful login (`password_rehash`).
    pub rehash: bool,
    /// Delay before the reply to a failed login.
    pub failure_delay: Duration,
    /// Failures after which an address (IPv6: the /64 prefix) is refused; 0: no limit.
    pub failure_limit: u32,
    /// Time after which the failures of a client expire.
    pub failure_time: Duration,
}

impl LoginSettings {
    /// Takes the settings from the configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            plaintext: config.smtpd_sasl_plaintext_networks.clone(),
            keeping: Keeping::of(config),
            rehash: config.password_rehash,
            failure_delay: config.smtpd_sasl_failure_delay,
            failure_limit: config.smtpd_sasl_failure_limit,
            failure_time: config.smtpd_sasl_failure_time,
        }
    }
}

struct Shared {
    users: Arc<Users>,
    settings: LoginSettings,
    memory: Arc<LoginMemory>,
    /// Record verified for an unknown user, so that the time of the reply does not reveal the existence of a user.
    nobody: Arc<Record>,
    renewals: Option<Arc<Renewals>>,
}

/// SASL authenticator over [`Users`] and the hooks `on-auth` and `on-credentials`.
pub struct LoginDesk {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
}

impl LoginDesk {
    /// Creates an authenticator. `memory` outlives the authenticator, so that a new configuration does not reset the failure counts. `None`
    /// if the system has no randomness, or argon2 refuses the configured cost.
    #[must_use]
    pub fn new(users: Users, settings: LoginSettings, memory: &Arc<LoginMemory>, pipeline: Arc<Pipeline>) -> Option<Self> {
        let users = Arc::new(users);
        let nobody = Arc::new(Record::nobody(&random()?, &random()?, settings.keeping.cost)?);
        let renewals = settings.rehash.then(|| Renewals::new(Arc::clone(&users), Arc::clone(memory), settings.keeping));
        let shared = Shared { users, settings, memory: Arc::clone(memory), nobody, renewals };
        Some(Self { shared: Arc::new(shared), pipeline })
    }
}

impl Authenticator for LoginDesk {
    fn mechanisms(&self, client: IpAddr, tls: bool) -> Vec<String> {
        let shared = &self.shared;
        let plugins = self.pipeline.has(Hook::OnAuth) || self.pipeline.has(Hook::OnCredentials);
        let mut names = Vec::new();
        let open = tls || shared.settings.plaintext.iter().any(|network| network.contains(client));
        if open && !plugins && shared.users.scram() {
            names.extend(tls.then_some("SCRAM-SHA-256-PLUS"));
            names.push("SCRAM-SHA-256");
        }
        if open && (plugins || !shared.users.is_empty()) {
            names.extend(["PLAIN", "LOGIN"]);
        }
        // Only a plugin can check a bearer token.
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
        let LoginSettings { failure_limit, failure_time, .. } = self.shared.settings;
        if self.shared.memory.is_banned(client, failure_limit, failure_time) {
            return Err(TOO_MANY);
        }
        let exporter = tls.map(|tls| tls.exporter.clone()).unwrap_or_default();
        let state = match mechanism.as_str() {
            "PLAIN" => State::Plain,
            "LOGIN" => State::Login(Login::default()),
            "OAUTHBEARER" => State::Bearer(parse_oauthbearer),
            "XOAUTH2" => State::Bearer(parse_xoauth2),
            "SCRAM-SHA-256" => State::Scram { plus: false, tls: tls.is_some(), exporter },
            "SCRAM-SHA-256-PLUS" if !exporter.is_empty() => State::Scram { plus: true, tls: true, exporter },
            _ => return Err(NOT_OFFERED),
        };
        Ok(Box::new(Exchange { shared: Arc::clone(&self.shared), client, state }))
    }
}

enum State {
    Plain,
    Login(Login),
    Scram {
        plus: bool,
        tls: bool,
        exporter: Vec<u8>,
    },
    Bearer(fn(&[u8]) -> Option<Bearer>),
    /// The error challenge for a bad token is sent; the client's acknowledgement is expected.
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

/// Plugin pipeline and session of an authentication step.
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
        let query = Asking { pipeline, chain, context };
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
                Ok(LoginStep::Ask(prompt)) => {
                    self.state = State::Login(login);
                    AuthProgress::Challenge(prompt.to_vec())
                }
                Ok(LoginStep::Said(credentials)) => self.password(query, credentials).await,
                Err(error) => self.refuse(error).await,
            },
            State::BadToken => self.denied().await,
            State::Bearer(parse) => match response.as_deref().map(parse) {
                Some(Some(credentials)) => self.token(query, credentials).await,
                Some(None) => AuthProgress::Failed(MALFORMED),
                None => {
                    self.state = State::Bearer(parse);
                    AuthProgress::Challenge(Vec::new())
                }
            },
            State::Plain => match response.as_deref().map(parse_plain) {
                Some(Ok(credentials)) => self.password(query, credentials).await,
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

    /// Counts the failure and delays the reply.
    async fn denied(&self) -> AuthProgress {
        let Shared { memory, settings, .. } = &*self.shared;
        memory.failed(self.client, settings.failure_time);
        tokio::time::sleep(settings.failure_delay).await;
        AuthProgress::Failed(DENIED)
    }

    async fn scram(&mut self, first: &[u8], plus: bool, tls: bool, exporter: &[u8]) -> AuthProgress {
        let binding = match (plus, tls) {
            (true, _) => Binding::Exporter(exporter),
            (false, true) => Binding::Offered,
            (false, false) => Binding::None,
        };
        let Some(nonce) = random::<18>() else { return AuthProgress::Failed(LATER) };
        let (mut scram, identity) = match Scram::begin(first, binding, &hex(&nonce)) {
            Ok(started) => started,
            Err(error) => return self.refuse(error).await,
        };
        // A login on behalf of another user fails at the end of the exchange, like a wrong password.
        let acts_for_self = identity.authzid.is_empty() || identity.authzid == identity.user;
        let keys = self.shared.users.scram_keys(&identity.user).await.filter(|_| acts_for_self);
        // Computed for every user, so that the time of the challenge does not reveal the existence of a user.
        let dummy = ScramKeys::nobody(&self.shared.memory.secret, &identity.user.to_ascii_lowercase());
        let challenge = scram.challenge(keys.unwrap_or(dummy));
        self.state = State::Challenged(Box::new(scram), identity.user.to_ascii_lowercase());
        AuthProgress::Challenge(challenge)
    }

    /// Checks a bearer token by plugins. A bad token first gets an error challenge in JSON (RFC 7628 §3.2.2).
    async fn token(&mut self, query: Asking<'_>, credentials: Bearer) -> AuthProgress {
        let Asking { pipeline, chain, context } = query;
        match pipeline.authenticate(chain, context, "smtp", &credentials.user, Secret::Token(credentials.token)).await {
            AuthAnswer::Allow(user) => AuthProgress::Done { user },
            AuthAnswer::Unavailable(_) => AuthProgress::Failed(LATER),
            AuthAnswer::Deny | AuthAnswer::NotMine => {
                self.state = State::BadToken;
                AuthProgress::Challenge(BAD_TOKEN.to_vec())
            }
        }
    }

    async fn password(&self, query: Asking<'_>, credentials: PlainResponse) -> AuthProgress {
        let Asking { pipeline, chain, context } = query;
        let user = credentials.user.to_ascii_lowercase();
        let acts_for_self = credentials.authzid.is_empty() || credentials.authzid.eq_ignore_ascii_case(&user);
        if acts_for_self && pipeline.has(Hook::OnAuth) {
            let secret = Secret::Password(credentials.secret.clone());
            match pipeline.authenticate(chain, context, "smtp", &user, secret).await {
                AuthAnswer::Allow(user) => return AuthProgress::Done { user },
                AuthAnswer::Deny => return self.denied().await,
                AuthAnswer::Unavailable(_) => return AuthProgress::Failed(LATER),
                AuthAnswer::NotMine => {}
            }
        }
        let Shared { users, memory, nobody, renewals, .. } = &*self.shared;
        let mut stored = users.find(&user).await;
        let mut is_local_user = true;
        if stored.records.is_empty() && pipeline.has(Hook::OnCredentials) {
            is_local_user = false;
            match pipeline.credentials(chain, context, &user).await {
                Stored::Hash(text) => stored.records.extend(Record::parse(&text, false)),
                Stored::Absent => {}
                Stored::Unavailable(_) => return AuthProgress::Failed(LATER),
            }
        }
        let record = stored.records.first().filter(|_| acts_for_self).cloned().map(Arc::new);
        let fingerprint = record.as_ref().map(|record| memory.name_of(&credentials, record));
        if fingerprint.is_some_and(|fingerprint| memory.is_verified(&fingerprint)) {
            return AuthProgress::Done { user };
        }
        let computed = record.unwrap_or_else(|| Arc::clone(nobody));
        match (memory.verify(computed, credentials.secret.clone()).await, fingerprint) {
            (None, _) => AuthProgress::Failed(LATER),
            (Some(true), Some(fingerprint)) => {
                memory.remember(fingerprint);
                if let Some(renewals) = renewals.as_ref().filter(|_| is_local_user) {
                    renewals.after(stored, credentials);
                }
                AuthProgress::Done { user }
            }
            (Some(_), _) => self.denied().await,
        }
    }
}
