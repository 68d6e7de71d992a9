//! Reload of the configuration while mail passes: the whole new configuration takes effect, or nothing changes and the log states the
//! reason.
//!
//! All fallible steps come first: the file, tables, sockets, plugins. The remaining steps can't fail: new sessions and deliveries use the
//! new configuration; sessions and deliveries in progress keep the old.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use waxwing_accounts::Accounts;
use waxwing_admin::ReloadHandler;
use waxwing_config::{Config, HostEnvironment};
use waxwing_control::{ControlError, ControlErrorKind, ReloadReport};
use waxwing_delivery::CurrentRouting;
use waxwing_plugins::{PluginManager, error_chain};

use crate::bound_listener::BoundListener;
use crate::listeners::{Listeners, is_same_socket};
use crate::privilege::RunAs;
use crate::services::Services;
use crate::supervisor::Supervisor;
use crate::tls::ListenerTls;
use crate::transports;

/// Reloads the configuration (`waxwing reload`, SIGHUP).
pub(crate) struct Reloader {
    pub(crate) services: Services,
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
        let bound = missing.map(|listen| BoundListener::open(listen, &RunAs::CurrentUser)).collect::<anyhow::Result<Vec<_>>>()?;
        // Certificates are read as the unprivileged user: if only root can read a key, the reload fails and the old configuration stays.
        let opener = Arc::clone(&config);
        let listener_tls = Arc::new(tokio::task::spawn_blocking(move || ListenerTls::open(&opener)).await??);
        let (routing, prober) = transports::build_routing(&config, &accounts, &self.services)?;
        let current = self.services.new_generation(&config, &accounts, listener_tls, prober)?;
        let staged = self.plugin_manager.stage_reload(&config, &accounts, waxwing_bundle::standard_component).await?;
        // No step fails from here on.
        let plugins = self.plugin_manager.commit_reload(staged, Arc::clone(&accounts) as _);
        self.routing.replace(routing);
        let names = |listen: &waxwing_config::ListenerConfig| format!("{} on {}", listen.name, listen.address);
        let closed = before.iter().filter(|open| !config.listen.iter().any(|wanted| is_same_socket(open, wanted)));
        let closed = closed.map(names).collect();
        let opened = bound.iter().map(|listener| names(&listener.listen)).collect();
        self.listeners.install(current, bound);
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
