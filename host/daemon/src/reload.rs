//! The whole configuration read again while mail passes: all of it serves from then on, or nothing of it and the log says why.
//!
//! Everything that can fail is done first: the file, tables, ports, plugins. What follows can't fail: new sessions and deliveries get what
//! is new; those that have begun keep what they began with.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use waxwing_accounts::Accounts;
use waxwing_config::{Config, Facts};
use waxwing_control::{Problem, ProblemKind, Reloaded};
use waxwing_delivery::CurrentWays;
use waxwing_intake::{DoorShared, Intake, IntakeSettings};
use waxwing_net::Shutdown;
use waxwing_pipeline::{Pipeline, Recorder, Resolver, Trace};
use waxwing_queue::Spool;
use waxwing_types::Clock;

use crate::desk::Reloads;
use crate::listen::{Current, Doors, is_same_socket};
use crate::outbound::{self, Means};
use crate::plugins::{Keeper, in_one_line};
use crate::serve::Bound;
use crate::supervisor::Supervisor;

/// What stays from configuration to configuration.
pub(crate) struct Lasting {
    pub(crate) file: PathBuf,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) trace: Arc<dyn Trace>,
    pub(crate) recorder: Arc<dyn Recorder>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) door: Arc<DoorShared>,
    pub(crate) shutdown: Shutdown,
}

impl Lasting {
    /// Intake by this configuration.
    pub(crate) fn intake(&self, config: &Config, accounts: &Arc<Accounts>) -> Arc<Intake> {
        Intake::new(waxwing_intake::Parts {
            settings: IntakeSettings::of(config),
            pipeline: Arc::clone(&self.pipeline),
            spool: Arc::clone(&self.spool),
            directory: Arc::clone(accounts) as _,
            authenticator: None,
            trace: Arc::clone(&self.trace),
            recorder: config.recording.enabled.then(|| Arc::clone(&self.recorder)),
            clock: Arc::clone(&self.clock),
        })
    }

    /// Delivery by this configuration.
    pub(crate) fn ways(&self, config: &Config, accounts: &Arc<Accounts>) -> waxwing_delivery::Ways {
        let means =
            Means { accounts, pipeline: &self.pipeline, clock: &self.clock, resolver: &self.resolver, shutdown: &self.shutdown };
        outbound::ways(config, &means)
    }
}

/// Replaces the configuration.
pub(crate) struct Reloader {
    pub(crate) lasting: Lasting,
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) ways: Arc<CurrentWays>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// One at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// Takes the keys that can't change while the server runs from the configuration in service, and names those that differ.
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
        let ports = missing.map(Bound::open).collect::<anyhow::Result<Vec<_>>>()?;
        let renewal = self.keeper.prepare(&config, &accounts, waxwing_bundle::standard).await?;
        // Nothing fails from here on.
        let plugins = self.keeper.commit(renewal, Arc::clone(&accounts) as _);
        self.ways.replace(self.lasting.ways(&config, &accounts));
        let names = |listen: &waxwing_config::Listen| format!("{} on {}", listen.name, listen.address);
        let closed = before.iter().filter(|open| !config.listen.iter().any(|wanted| is_same_socket(open, wanted)));
        let closed = closed.map(names).collect();
        let opened = ports.iter().map(|port| names(&port.listen)).collect();
        let intake = self.lasting.intake(&config, &accounts);
        self.doors.replace(Current::new(&config, intake, &self.lasting.door), ports);
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
