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
use waxwing_accounts::{Accounts, LoginDesk, LoginMemory, LoginSettings, Users};
use waxwing_config::{Config, Facts};
use waxwing_control::{Problem, ProblemKind, Reloaded};
use waxwing_delivery::{CurrentWays, Prober, Ways};
use waxwing_intake::{DoorShared, Intake, IntakeSettings, Policy, Verifier, VerifySettings};
use waxwing_net::Shutdown;
use waxwing_pipeline::{Authenticator, KvStore, Pipeline, Recorder, Resolver, Trace, UserStore};
use waxwing_queue::Spool;
use waxwing_types::Clock;

use crate::desk::Reloads;
use crate::listen::{Current, Doors, is_same_socket};
use crate::outbound::{self, Means};
use crate::plugins::{Keeper, in_one_line};
use crate::privilege::Owner;
use crate::serve::Bound;
use crate::supervisor::Supervisor;
use crate::tls::Handshakes;

/// Services that survive a reload.
pub(crate) struct Lasting {
    pub(crate) file: PathBuf,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) trace: Arc<dyn Trace>,
    pub(crate) recorder: Arc<dyn Recorder>,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Cache of address verification results.
    pub(crate) answers: Arc<dyn KvStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) door: Arc<DoorShared>,
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) logins: Arc<LoginMemory>,
    pub(crate) shutdown: Shutdown,
}

impl Lasting {
    /// Builds the generation for new sessions from a configuration, and starts watching the certificate files.
    pub(crate) fn current(
        &self,
        config: &Arc<Config>,
        accounts: &Arc<Accounts>,
        handshakes: Arc<Handshakes>,
        prober: Arc<Prober>,
    ) -> anyhow::Result<Current> {
        let authenticator = self.authenticator(config)?;
        let verifier = Verifier::new(VerifySettings::of(config), prober, Arc::clone(&self.answers), Arc::clone(&self.clock));
        let intake = Intake::new(waxwing_intake::Parts {
            settings: IntakeSettings::of(config),
            pipeline: Arc::clone(&self.pipeline),
            policy: Policy::of(config, Arc::clone(&self.resolver), |name| accounts.table(name)).verified_by(verifier),
            spool: Arc::clone(&self.spool),
            directory: Arc::clone(accounts) as _,
            authenticator: Some(Arc::clone(&authenticator)),
            trace: Arc::clone(&self.trace),
            recorder: config.recording.enabled.then(|| Arc::clone(&self.recorder)),
            clock: Arc::clone(&self.clock),
        });
        handshakes.watch();
        Ok(Current::new(config, intake, Some(authenticator), handshakes, &self.door))
    }

    /// Builds the SASL authenticator.
    fn authenticator(&self, config: &Config) -> anyhow::Result<Arc<dyn Authenticator>> {
        let users = Users::open(&config.users, Some(&self.users), config.users_plaintext, &self.clock)?;
        let authenticator = LoginDesk::new(users, LoginSettings::of(config), &self.logins, Arc::clone(&self.pipeline));
        Ok(Arc::new(authenticator.context("no system randomness, or password_argon2_*: invalid cost")?))
    }

    /// Builds the routing of a configuration.
    pub(crate) fn ways(&self, config: &Config, accounts: &Arc<Accounts>) -> anyhow::Result<(Ways, Arc<Prober>)> {
        let services =
            Means { accounts, pipeline: &self.pipeline, clock: &self.clock, resolver: &self.resolver, shutdown: &self.shutdown };
        outbound::ways(config, &services)
    }
}

/// Reloads the configuration (`waxwing reload`, SIGHUP).
pub(crate) struct Reloader {
    pub(crate) lasting: Lasting,
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) ways: Arc<CurrentWays>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// Serialises concurrent reloads.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// Copies restart-only keys from the configuration in service, and returns the names of the keys with a different new value.
macro_rules! fixed {
    ($new:ident, $old:ident: $($key:ident),+) => {{
        let mut differ = Vec::new();
        $(
            if format!("{:?}", $new.$key) != format!("{:?}", $old.$key) {
                differ.push(stringify!($key).to_owned());
                $new.$key = $old.$key.clone();
            }
        )+
        differ
    }};
}

impl Reloader {
    async fn try_reload(&self) -> anyhow::Result<Reloaded> {
        let _turn = self.turn.lock().await;
        let (file, facts) = (self.lasting.file.clone(), Facts::from_system());
        let mut config = tokio::task::spawn_blocking(move || Config::load(&file, &facts)).await??;
        let old = self.config.load_full();
        let next_start = fixed!(config, old: queue_directory, mail_owner, message_size_limit, queue_minfree, control, dns, log, runtime, trace);
        let config = Arc::new(config);
        let (opener, clock) = (Arc::clone(&config), Arc::clone(&self.lasting.clock));
        let accounts = Arc::new(tokio::task::spawn_blocking(move || Accounts::open(&opener, &clock)).await??);
        let before = self.doors.listeners();
        let missing = config.listen.iter().filter(|wanted| !before.iter().any(|open| is_same_socket(open, wanted)));
        let ports = missing.map(|listen| Bound::open(listen, &Owner::Myself)).collect::<anyhow::Result<Vec<_>>>()?;
        // Certificates are read as the unprivileged user: if only root can read a key, the reload fails and the old configuration stays.
        let opener = Arc::clone(&config);
        let handshakes = Arc::new(tokio::task::spawn_blocking(move || Handshakes::open(&opener)).await??);
        let (routing, prober) = self.lasting.ways(&config, &accounts)?;
        let current = self.lasting.current(&config, &accounts, handshakes, prober)?;
        let staged = self.keeper.prepare(&config, &accounts, waxwing_bundle::standard).await?;
        // No step fails from here on.
        let plugins = self.keeper.commit(staged, Arc::clone(&accounts) as _);
        self.ways.replace(routing);
        let names = |listen: &waxwing_config::Listen| format!("{} on {}", listen.name, listen.address);
        let closed = before.iter().filter(|open| !config.listen.iter().any(|wanted| is_same_socket(open, wanted)));
        let closed = closed.map(names).collect();
        let opened = ports.iter().map(|port| names(&port.listen)).collect();
        self.doors.replace(current, ports);
        self.config.store(config);
        Ok(Reloaded { file: self.lasting.file.display().to_string(), opened, closed, plugins, next_start })
    }
}

#[async_trait]
impl Reloads for Reloader {
    async fn reload(&self) -> Result<Reloaded, Problem> {
        self.supervisor.reloading();
        let result = self.try_reload().await;
        self.supervisor.ready();
        match result {
            Ok(reloaded) => {
                let Reloaded { file, opened, closed, next_start, .. } = &reloaded;
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
                let text = in_one_line(&error);
                tracing::error!(error = text, "not reloaded: the configuration before stays in service");
                Err(Problem { kind: ProblemKind::Failed, text: format!("not reloaded: {text}") })
            }
        }
    }
}
