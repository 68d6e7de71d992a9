//! Services of the process, which a reload keeps, and what each configuration builds on them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use waxwing_accounts::{Accounts, LoginCache, SaslAuthenticator, Users};
use waxwing_config::Config;
use waxwing_delivery::Prober;
use waxwing_intake::{GuardState, Intake, IntakeSettings, Policy, Verifier};
use waxwing_net::Shutdown;
use waxwing_pipeline::{Authenticator, KvStore, Pipeline, Recorder, Resolver, Trace, UserStore};
use waxwing_spool::Spool;
use waxwing_types::Clock;

use crate::generation::Generation;
use crate::tls::ListenerTls;

/// Services that survive a reload.
pub(crate) struct Services {
    pub(crate) file: PathBuf,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) trace: Arc<dyn Trace>,
    pub(crate) recorder: Arc<dyn Recorder>,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Cache of address verification results.
    pub(crate) verify_cache: Arc<dyn KvStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) guard_state: Arc<GuardState>,
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) logins: Arc<LoginCache>,
    pub(crate) shutdown: Shutdown,
}

impl Services {
    /// Builds the generation for new sessions from a configuration, and starts watching the certificate files.
    pub(crate) fn new_generation(
        &self,
        config: &Arc<Config>,
        accounts: &Arc<Accounts>,
        listener_tls: Arc<ListenerTls>,
        prober: Arc<Prober>,
    ) -> anyhow::Result<Generation> {
        let authenticator = self.authenticator(config)?;
        let verifier = Verifier::new(
            config.verify.clone(),
            config.smtp.smtp_helo_name.clone(),
            prober,
            Arc::clone(&self.verify_cache),
            Arc::clone(&self.clock),
        );
        let intake = Intake::new(waxwing_intake::IntakeServices {
            settings: IntakeSettings::from_config(config),
            pipeline: Arc::clone(&self.pipeline),
            policy: Policy::from_config(config, Arc::clone(&self.resolver), |name| accounts.table(name)).with_verifier(verifier),
            spool: Arc::clone(&self.spool),
            directory: Arc::clone(accounts) as _,
            authenticator: Some(Arc::clone(&authenticator)),
            trace: Arc::clone(&self.trace),
            recorder: config.recording.enabled.then(|| Arc::clone(&self.recorder)),
            clock: Arc::clone(&self.clock),
        });
        listener_tls.poll_certificates();
        Ok(Generation::new(config, intake, Some(authenticator), listener_tls, &self.guard_state))
    }

    /// Builds the SASL authenticator.
    fn authenticator(&self, config: &Config) -> anyhow::Result<Arc<dyn Authenticator>> {
        let users = Users::open(&config.auth.users, Some(&self.users), config.auth.users_plaintext, &self.clock)?;
        let authenticator = SaslAuthenticator::new(users, config.auth.clone(), &self.logins, Arc::clone(&self.pipeline));
        Ok(Arc::new(authenticator.context("no system randomness, or password_argon2_*: invalid cost")?))
    }
}
