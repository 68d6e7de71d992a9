//! Who a client is: the mechanisms over the users, with bounded work and bounded failures.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use waxwing_auth::{
    Bearer, Binding, Login as LoginMechanism, LoginStep, PlainResponse, Record, SaslError, Scram, ScramKeys, parse_oauthbearer,
    parse_plain, parse_xoauth2,
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

/// What a client with a bad token hears.
const BAD_TOKEN: &[u8] = br#"{"status":"invalid_token"}"#;

const DENIED: Reply = Reply::fixed(535, (5, 7, 8), "Error: authentication failed");
const LATER: Reply = Reply::fixed(454, (4, 7, 0), "Temporary authentication failure");
const TOO_MANY: Reply = Reply::fixed(454, (4, 7, 0), "Too many authentication failures, try again later");
const MALFORMED: Reply = Reply::fixed(501, (5, 5, 2), "Malformed authentication response");
const NOT_OFFERED: Reply = Reply::fixed(504, (5, 5, 4), "Authentication mechanism not offered");

/// How logins are taken.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// Clients that may use PLAIN and LOGIN without TLS.
    pub plaintext: Vec<Network>,
    /// How passwords are kept.
    pub keeping: Keeping,
    /// Records that are not kept so are replaced at logins.
    pub rehash: bool,
    /// What a failure costs in time.
    pub failure_delay: Duration,
    /// Failures after which an address (IPv6: its /64) is refused; 0: no limit.
    pub failure_limit: u32,
    /// For how long failures count.
    pub failure_time: Duration,
}

impl LoginSettings {
    /// As the configuration says.
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
    /// What is computed for a user whom there is not.
    nobody: Arc<Record>,
    renewals: Option<Arc<Renewals>>,
}

/// Checks names and secrets by [`Users`] and plugins.
pub struct LoginDesk {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
}

impl LoginDesk {
    /// `memory` outlives the desk, so that a new configuration forgives no failures. `None` if the system has no randomness, or there is no
    /// such cost of hashes.
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
        let LoginSettings { failure_limit, failure_time, .. } = self.shared.settings;
        if self.shared.memory.is_banned(client, failure_limit, failure_time) {
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
        let (mut scram, who) = match Scram::begin(first, binding, &hex(&nonce)) {
            Ok(begun) => begun,
            Err(error) => return self.refuse(error).await,
        };
        // Somebody else's name is refused at the end, as a wrong password is.
        let own = who.authzid.is_empty() || who.authzid == who.user;
        let keys = self.shared.users.scram_keys(&who.user).await.filter(|_| own);
        // Made for everybody: the time must not tell either.
        let nobody = ScramKeys::nobody(&self.shared.memory.secret, &who.user.to_ascii_lowercase());
        let challenge = scram.challenge(keys.unwrap_or(nobody));
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
        let Shared { users, memory, nobody, renewals, .. } = &*self.shared;
        let mut found = users.find(&user).await;
        let mut ours = true;
        if found.records.is_empty() && pipeline.has(Hook::OnCredentials) {
            ours = false;
            match pipeline.credentials(chain, context, &user).await {
                Stored::Hash(text) => found.records.extend(Record::parse(&text, false)),
                Stored::Absent => {}
                Stored::Unavailable(_) => return AuthProgress::Failed(LATER),
            }
        }
        let record = found.records.first().filter(|_| own).cloned().map(Arc::new);
        let name = record.as_ref().map(|record| memory.name_of(&said, record));
        if name.is_some_and(|name| memory.is_verified(&name)) {
            return AuthProgress::Done { user };
        }
        let computed = record.unwrap_or_else(|| Arc::clone(nobody));
        match (memory.verify(computed, said.secret.clone()).await, name) {
            (None, _) => AuthProgress::Failed(LATER),
            (Some(true), Some(name)) => {
                memory.remember(name);
                if let Some(renewals) = renewals.as_ref().filter(|_| ours) {
                    renewals.after(found, said);
                }
                AuthProgress::Done { user }
            }
            (Some(_), _) => self.denied().await,
        }
    }
}
