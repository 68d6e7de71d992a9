//! SASL authentication: mechanisms over the users and plugins, with bounded hash work and bounded failures.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use waxwing_auth::{
    BearerCredentials, ChannelBinding, LoginMechanism, LoginStep, PlainResponse, SaslError, ScramExchange, ScramKeys,
    StoredPassword, parse_oauthbearer, parse_plain, parse_xoauth2,
};
use waxwing_config::AuthConfig;
use waxwing_pipeline::{
    AuthAnswer, AuthExchange, AuthProgress, Authenticator, Context, Hook, HookSession, Pipeline, Secret, StoredCredential,
};
use waxwing_types::{Reply, TlsSession, hex};

use crate::password_policy::{PasswordPolicy, random_bytes};
use crate::users::Users;

mod cache;
mod rehash;

pub use cache::{FAILURE_CLIENTS_MAX, HASH_WAIT, HASHES_MAX, LoginCache, VERIFIED_AGE, VERIFIED_MAX};
pub use rehash::REHASH_QUEUE_MAX;
use rehash::Rehasher;

/// Error challenge for a refused bearer token (RFC 7628 §3.2.2).
const INVALID_TOKEN_JSON: &[u8] = br#"{"status":"invalid_token"}"#;

const DENIED: Reply = Reply::fixed(535, (5, 7, 8), "Error: authentication failed");
const TEMPORARY_FAILURE: Reply = Reply::fixed(454, (4, 7, 0), "Temporary authentication failure");
const TOO_MANY_FAILURES: Reply = Reply::fixed(454, (4, 7, 0), "Too many authentication failures, try again later");
const MALFORMED: Reply = Reply::fixed(501, (5, 5, 2), "Malformed authentication response");
const NOT_OFFERED: Reply = Reply::fixed(504, (5, 5, 4), "Authentication mechanism not offered");

struct AuthenticatorShared {
    users: Arc<Users>,
    config: AuthConfig,
    cache: Arc<LoginCache>,
    /// Record verified for an unknown user, so that the time of the reply does not reveal the existence of a user.
    dummy_record: Arc<StoredPassword>,
    rehasher: Option<Arc<Rehasher>>,
}

/// SASL authenticator over [`Users`] and the hooks `on-auth` and `on-credentials`.
pub struct SaslAuthenticator {
    shared: Arc<AuthenticatorShared>,
    pipeline: Arc<Pipeline>,
}

impl SaslAuthenticator {
    /// Creates an authenticator. `memory` outlives the authenticator, so that a new configuration does not reset the failure counts. `None`
    /// if the system has no randomness, or argon2 refuses the configured cost.
    #[must_use]
    pub fn new(users: Users, config: AuthConfig, memory: &Arc<LoginCache>, pipeline: Arc<Pipeline>) -> Option<Self> {
        let users = Arc::new(users);
        let policy = PasswordPolicy::from_config(&config);
        let nobody = Arc::new(StoredPassword::dummy(&random_bytes()?, &random_bytes()?, policy.cost)?);
        let renewals = config.password_rehash.then(|| Rehasher::new(Arc::clone(&users), Arc::clone(memory), policy));
        let shared = AuthenticatorShared { users, config, cache: Arc::clone(memory), dummy_record: nobody, rehasher: renewals };
        Some(Self { shared: Arc::new(shared), pipeline })
    }
}

impl Authenticator for SaslAuthenticator {
    fn mechanisms(&self, client: IpAddr, tls: bool) -> Vec<String> {
        let shared = &self.shared;
        let plugins = self.pipeline.has_hook(Hook::OnAuth) || self.pipeline.has_hook(Hook::OnCredentials);
        let mut names = Vec::new();
        let open = tls || shared.config.smtpd_sasl_plaintext_networks.iter().any(|network| network.contains(client));
        if open && !plugins && shared.users.all_have_scram_keys() {
            names.extend(tls.then_some("SCRAM-SHA-256-PLUS"));
            names.push("SCRAM-SHA-256");
        }
        if open && (plugins || !shared.users.is_empty()) {
            names.extend(["PLAIN", "LOGIN"]);
        }
        // Only a plugin can check a bearer token.
        if open && self.pipeline.has_hook(Hook::OnAuth) {
            names.extend(["OAUTHBEARER", "XOAUTH2"]);
        }
        names.into_iter().map(str::to_owned).collect()
    }

    fn begin(
        &self,
        protocol: &'static str,
        mechanism: &str,
        client: IpAddr,
        tls: Option<&TlsSession>,
    ) -> Result<Box<dyn AuthExchange>, Reply> {
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.mechanisms(client, tls.is_some()).contains(&mechanism) {
            return Err(NOT_OFFERED);
        }
        let config = &self.shared.config;
        if self.shared.cache.is_banned(client, config.smtpd_sasl_failure_limit, config.smtpd_sasl_failure_time) {
            return Err(TOO_MANY_FAILURES);
        }
        let exporter = tls.map(|tls| tls.exporter.clone()).unwrap_or_default();
        let state = match mechanism.as_str() {
            "PLAIN" => ExchangeState::Plain,
            "LOGIN" => ExchangeState::Login(LoginMechanism::default()),
            "OAUTHBEARER" => ExchangeState::Bearer(parse_oauthbearer),
            "XOAUTH2" => ExchangeState::Bearer(parse_xoauth2),
            "SCRAM-SHA-256" => ExchangeState::Scram { plus: false, tls: tls.is_some(), exporter },
            "SCRAM-SHA-256-PLUS" if !exporter.is_empty() => ExchangeState::Scram { plus: true, tls: true, exporter },
            _ => return Err(NOT_OFFERED),
        };
        Ok(Box::new(SaslExchange { shared: Arc::clone(&self.shared), protocol, client, state }))
    }
}

enum ExchangeState {
    Plain,
    Login(LoginMechanism),
    Scram {
        plus: bool,
        tls: bool,
        exporter: Vec<u8>,
    },
    Bearer(fn(&[u8]) -> Option<BearerCredentials>),
    /// The error challenge for a bad token is sent; the client's acknowledgement is expected.
    TokenRejected,
    ScramChallenged(Box<ScramExchange>, String),
    ScramVerified(String),
    Finished,
}

struct SaslExchange {
    shared: Arc<AuthenticatorShared>,
    /// Protocol of the session, for plugins.
    protocol: &'static str,
    client: IpAddr,
    state: ExchangeState,
}

/// Plugin pipeline and session of an authentication step.
struct PluginQuery<'a> {
    pipeline: &'a Pipeline,
    chain: &'a mut HookSession,
    context: &'a mut Context,
}

#[async_trait]
impl AuthExchange for SaslExchange {
    async fn step(
        &mut self,
        pipeline: &Pipeline,
        chain: &mut HookSession,
        context: &mut Context,
        response: Option<Vec<u8>>,
    ) -> AuthProgress {
        let query = PluginQuery { pipeline, chain, context };
        match std::mem::replace(&mut self.state, ExchangeState::Finished) {
            ExchangeState::Finished => AuthProgress::Failed(MALFORMED),
            ExchangeState::ScramVerified(user) => match response {
                Some(response) if response.is_empty() => AuthProgress::Done { user },
                Some(_) | None => AuthProgress::Failed(MALFORMED),
            },
            ExchangeState::ScramChallenged(mut scram, user) => match scram.finish(&response.unwrap_or_default()) {
                Ok(last) => {
                    self.state = ExchangeState::ScramVerified(user);
                    AuthProgress::Challenge(last)
                }
                Err(error) => self.fail(error).await,
            },
            ExchangeState::Login(mut login) => match login.step(response.as_deref()) {
                Ok(LoginStep::Prompt(prompt)) => {
                    self.state = ExchangeState::Login(login);
                    AuthProgress::Challenge(prompt.to_vec())
                }
                Ok(LoginStep::Complete(credentials)) => self.check_password(query, credentials).await,
                Err(error) => self.fail(error).await,
            },
            ExchangeState::TokenRejected => self.deny_with_delay().await,
            ExchangeState::Bearer(parse) => match response.as_deref().map(parse) {
                Some(Some(credentials)) => self.check_token(query, credentials).await,
                Some(None) => AuthProgress::Failed(MALFORMED),
                None => {
                    self.state = ExchangeState::Bearer(parse);
                    AuthProgress::Challenge(Vec::new())
                }
            },
            ExchangeState::Plain => match response.as_deref().map(parse_plain) {
                Some(Ok(credentials)) => self.check_password(query, credentials).await,
                Some(Err(error)) => self.fail(error).await,
                None => {
                    self.state = ExchangeState::Plain;
                    AuthProgress::Challenge(Vec::new())
                }
            },
            ExchangeState::Scram { plus, tls, exporter } => match response {
                Some(response) => self.start_scram(&response, plus, tls, &exporter).await,
                None => {
                    self.state = ExchangeState::Scram { plus, tls, exporter };
                    AuthProgress::Challenge(Vec::new())
                }
            },
        }
    }
}

impl SaslExchange {
    async fn fail(&self, error: SaslError) -> AuthProgress {
        match error {
            SaslError::Malformed | SaslError::TooLong => AuthProgress::Failed(MALFORMED),
            SaslError::Denied | SaslError::ChannelBinding => self.deny_with_delay().await,
        }
    }

    /// Counts the failure and delays the reply.
    async fn deny_with_delay(&self) -> AuthProgress {
        let AuthenticatorShared { cache: memory, config, .. } = &*self.shared;
        memory.record_failure(self.client, config.smtpd_sasl_failure_time);
        tokio::time::sleep(config.smtpd_sasl_failure_delay).await;
        AuthProgress::Failed(DENIED)
    }

    async fn start_scram(&mut self, first: &[u8], plus: bool, tls: bool, exporter: &[u8]) -> AuthProgress {
        let binding = match (plus, tls) {
            (true, _) => ChannelBinding::TlsExporter(exporter),
            (false, true) => ChannelBinding::PlusOffered,
            (false, false) => ChannelBinding::NotOffered,
        };
        let Some(nonce) = random_bytes::<18>() else { return AuthProgress::Failed(TEMPORARY_FAILURE) };
        let (mut scram, identity) = match ScramExchange::begin(first, binding, &hex(&nonce)) {
            Ok(started) => started,
            Err(error) => return self.fail(error).await,
        };
        // A login on behalf of another user fails at the end of the exchange, like a wrong password.
        let acts_for_self = identity.authzid.is_empty() || identity.authzid == identity.user;
        let keys = self.shared.users.scram_keys(&identity.user).await.filter(|_| acts_for_self);
        // Computed for every user, so that the time of the challenge does not reveal the existence of a user.
        let dummy = ScramKeys::dummy(&self.shared.cache.server_secret, &identity.user.to_ascii_lowercase());
        let challenge = scram.challenge(keys.unwrap_or(dummy));
        self.state = ExchangeState::ScramChallenged(Box::new(scram), identity.user.to_ascii_lowercase());
        AuthProgress::Challenge(challenge)
    }

    /// Checks a bearer token by plugins. A bad token first gets an error challenge in JSON (RFC 7628 §3.2.2).
    async fn check_token(&mut self, query: PluginQuery<'_>, credentials: BearerCredentials) -> AuthProgress {
        let PluginQuery { pipeline, chain, context } = query;
        match pipeline.authenticate(chain, context, self.protocol, &credentials.user, Secret::Token(credentials.token)).await {
            AuthAnswer::Allow(user) => AuthProgress::Done { user },
            AuthAnswer::Unavailable(_) => AuthProgress::Failed(TEMPORARY_FAILURE),
            AuthAnswer::Deny | AuthAnswer::NotMine => {
                self.state = ExchangeState::TokenRejected;
                AuthProgress::Challenge(INVALID_TOKEN_JSON.to_vec())
            }
        }
    }

    async fn check_password(&self, query: PluginQuery<'_>, credentials: PlainResponse) -> AuthProgress {
        let PluginQuery { pipeline, chain, context } = query;
        let user = credentials.user.to_ascii_lowercase();
        let acts_for_self = credentials.authzid.is_empty() || credentials.authzid.eq_ignore_ascii_case(&user);
        if acts_for_self && pipeline.has_hook(Hook::OnAuth) {
            let secret = Secret::Password(credentials.secret.clone());
            match pipeline.authenticate(chain, context, self.protocol, &user, secret).await {
                AuthAnswer::Allow(user) => return AuthProgress::Done { user },
                AuthAnswer::Deny => return self.deny_with_delay().await,
                AuthAnswer::Unavailable(_) => return AuthProgress::Failed(TEMPORARY_FAILURE),
                AuthAnswer::NotMine => {}
            }
        }
        let AuthenticatorShared { users, cache: memory, dummy_record: nobody, rehasher: renewals, .. } = &*self.shared;
        let mut stored = users.find(&user).await;
        let mut is_local_user = true;
        if stored.records.is_empty() && pipeline.has_hook(Hook::OnCredentials) {
            is_local_user = false;
            match pipeline.stored_credential(chain, context, &user).await {
                StoredCredential::Hash(text) => stored.records.extend(StoredPassword::parse(&text, false)),
                StoredCredential::Absent => {}
                StoredCredential::Unavailable(_) => return AuthProgress::Failed(TEMPORARY_FAILURE),
            }
        }
        let record = stored.records.first().filter(|_| acts_for_self).cloned().map(Arc::new);
        let fingerprint = record.as_ref().map(|record| memory.fingerprint(&credentials, record));
        if fingerprint.is_some_and(|fingerprint| memory.is_verified(&fingerprint)) {
            return AuthProgress::Done { user };
        }
        let computed = record.unwrap_or_else(|| Arc::clone(nobody));
        match (memory.verify(computed, credentials.secret.clone()).await, fingerprint) {
            (None, _) => AuthProgress::Failed(TEMPORARY_FAILURE),
            (Some(true), Some(fingerprint)) => {
                memory.mark_verified(fingerprint);
                if let Some(renewals) = renewals.as_ref().filter(|_| is_local_user) {
                    renewals.schedule(stored, credentials);
                }
                AuthProgress::Done { user }
            }
            (Some(_), _) => self.deny_with_delay().await,
        }
    }
}
