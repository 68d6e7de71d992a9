//! Reload of the configuration while mail passes: the whole new configuration takes effect, or nothing changes and the log states the
//! reason.
//!
//! All fallible steps come first: the file, tables, sockets, plugins. The remaining steps can't fail: new sessions and deliveries use the
//! new configuration; sessions and deliveries in progress keep the old.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use waxwing_accounts::{Accounts, LoginCache, SaslAuthenticator, Users};
use waxwing_config::{Config, HostEnvironment};
use waxwing_control::{ControlError, ControlErrorKind, ReloadReport};
use waxwing_delivery::{CurrentRouting, Prober, RoutingConfig};
use waxwing_intake::{GuardState, Intake, IntakeSettings, Policy, Verifier};
use waxwing_net::Shutdown;
use waxwing_pipeline::{Authenticator, KvStore, Pipeline, Recorder, Resolver, Trace, UserStore};
use waxwing_plugins::{PluginManager, error_chain};
use waxwing_spool::Spool;
use waxwing_types::Clock;

use crate::admin::ReloadHandler;
use crate::listeners::{Generation, Listeners, is_same_socket};
use crate::privilege::RunAs;
use crate::run::BoundListener;
use crate::supervisor::Supervisor;
use crate::tls::ListenerTls;
use crate::transports::{self, TransportServices};

/// Services that survive a reload.
pub(crate) struct SharedServices {
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

impl SharedServices {
    /// Builds the generation for new sessions from a configuration, and starts watching the certificate files.
    pub(crate) fn new_generation(
        &self,
        config: &Arc<Config>,
        accounts: &Arc<Accounts>,
        handshakes: Arc<ListenerTls>,
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
        handshakes.poll_certificates();
        Ok(Generation::new(config, intake, Some(authenticator), handshakes, &self.guard_state))
    }

    /// Builds the SASL authenticator.
    fn authenticator(&self, config: &Config) -> anyhow::Result<Arc<dyn Authenticator>> {
        let users = Users::open(&config.auth.users, Some(&self.users), config.auth.users_plaintext, &self.clock)?;
        let authenticator = SaslAuthenticator::new(users, config.auth.clone(), &self.logins, Arc::clone(&self.pipeline));
        Ok(Arc::new(authenticator.context("no system randomness, or password_argon2_*: invalid cost")?))
    }

    /// Builds the routing of a configuration.
    pub(crate) fn build_routing(
        &self,
        config: &Config,
        accounts: &Arc<Accounts>,
    ) -> anyhow::Result<(RoutingConfig, Arc<Prober>)> {
        let services = TransportServices {
            accounts,
            pipeline: &self.pipeline,
            clock: &self.clock,
            resolver: &self.resolver,
            shutdown: &self.shutdown,
        };
        transports::build_routing(config, &services)
    }
}

/// Reloads the configuration (`waxwing reload`, SIGHUP).
pub(crate) struct Reloader {
    pub(crate) services: SharedServices,
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) plugin_manager: Arc<PluginManager>,
    pub(crate) routing: Arc<CurrentRouting>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// Serialises concurrent reloads.
    pub(crate) reload_lock: tokio::sync::Mutex<()>,
}

/// Copies restart-only keys from the configuration in service, and returns the names of the keys with a different new value.
macro_rules! restart_only {
    ($new:ident, $old:ident: $($($part:ident).+),+) => {{
        let mut differ = Vec::new();
        $(
            if $new.$($part).+ != $old.$($part).+ {
                let key = [$(stringify!($part)),+].last().copied().unwrap_or_default();
                differ.push(key.to_owned());
                $new.$($part).+ = $old.$($part).+.clone();
            }
        )+
        differ
    }};
}

impl Reloader {
    async fn try_reload(&self) -> anyhow::Result<ReloadReport> {
        let _turn = self.reload_lock.lock().await;
        let (file, facts) = (self.services.file.clone(), HostEnvironment::from_system());
        let mut config = tokio::task::spawn_blocking(move || Config::load(&file, &facts)).await??;
        let old = self.config.load_full();
        let next_start = restart_only!(
            config,
            old: general.queue_directory,
            general.mail_owner,
            smtpd.message_size_limit,
            queue.queue_minfree,
            control,
            dns,
            log,
            runtime,
            trace
        );
        let config = Arc::new(config);
        let (opener, clock) = (Arc::clone(&config), Arc::clone(&self.services.clock));
        let accounts = Arc::new(tokio::task::spawn_blocking(move || Accounts::open(&opener, &clock)).await??);
        let before = self.listeners.open_listeners();
        let missing = config.listen.iter().filter(|wanted| !before.iter().any(|open| is_same_socket(open, wanted)));
        let ports = missing.map(|listen| BoundListener::open(listen, &RunAs::CurrentUser)).collect::<anyhow::Result<Vec<_>>>()?;
        // Certificates are read as the unprivileged user: if only root can read a key, the reload fails and the old configuration stays.
        let opener = Arc::clone(&config);
        let handshakes = Arc::new(tokio::task::spawn_blocking(move || ListenerTls::open(&opener)).await??);
        let (routing, prober) = self.services.build_routing(&config, &accounts)?;
        let current = self.services.new_generation(&config, &accounts, handshakes, prober)?;
        let staged = self.plugin_manager.stage_reload(&config, &accounts, waxwing_bundle::standard_component).await?;
        // No step fails from here on.
        let plugins = self.plugin_manager.commit_reload(staged, Arc::clone(&accounts) as _);
        self.routing.replace(routing);
        let names = |listen: &waxwing_config::ListenerConfig| format!("{} on {}", listen.name, listen.address);
        let closed = before.iter().filter(|open| !config.listen.iter().any(|wanted| is_same_socket(open, wanted)));
        let closed = closed.map(names).collect();
        let opened = ports.iter().map(|port| names(&port.listen)).collect();
        self.listeners.install(current, ports);
        self.config.store(config);
        Ok(ReloadReport { file: self.services.file.display().to_string(), opened, closed, plugins, next_start })
    }
}

#[async_trait]
impl ReloadHandler for Reloader {
    async fn reload(&self) -> Result<ReloadReport, ControlError> {
        self.supervisor.reloading();
        let result = self.try_reload().await;
        self.supervisor.ready();
        match result {
            Ok(reloaded) => {
                let ReloadReport { file, opened, closed, next_start, .. } = &reloaded;
                let list = |words: &[String]| words.join(", ");
                tracing::info!(
                    file,
                    opened = list(opened),
                    closed = list(closed),
                    at_next_start = list(next_start),
                    "the configuration was read again and is in service"
                );
                Ok(reloaded)
            }
            Err(error) => {
                let text = error_chain(&error);
                tracing::error!(error = text, "not reloaded: the configuration before stays in service");
                Err(ControlError { kind: ControlErrorKind::Failed, text: format!("not reloaded: {text}") })
            }
        }
    }
}
