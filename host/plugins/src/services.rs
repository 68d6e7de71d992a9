//! Services for plugins: kv entries, DNS, HTTP, metrics and queue ids of submitted mail.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use waxwing_config::Config;
use waxwing_net::Shutdown;
use waxwing_pipeline::{HttpClient, KvStore, Resolver};
use waxwing_sandbox::{HostServices, NewQueueId};
use waxwing_spool::Spool;
use waxwing_state::{KvStores, MetricsRegistry};
use waxwing_store::Store;
use waxwing_types::Clock;
use waxwing_web::WebClient;

use crate::settings::enabled_plugins;

/// Interval of the sweeps of expired kv entries.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// Component in the lines of the log.
const LOG_TARGET: &str = "plugin_services";

/// Services opened before, needed to build the plugin services.
pub struct ServiceInput<'a> {
    /// Database of the kv entries.
    pub store: &'a Store,
    /// Spool, for the queue ids of submitted mail.
    pub spool: &'a Arc<dyn Spool>,
    /// Resolver for the DNS lookups of plugins.
    pub resolver: &'a Arc<dyn Resolver>,
    /// Registry of the metrics counted by plugins.
    pub metrics: &'a Arc<MetricsRegistry>,
    /// Clock of expiry and queue ids.
    pub clock: &'a Arc<dyn Clock>,
    /// Signal that ends the sweeps.
    pub shutdown: &'a Shutdown,
}

/// Opens the kv store, also used by the server, and builds the plugin services. HTTP is set up only if granted to a plugin, since setup
/// reads the certificate authorities of the system.
pub fn open_services(config: &Config, opened: &ServiceInput<'_>) -> anyhow::Result<(Arc<dyn KvStore>, HostServices)> {
    let kv = KvStores::open(opened.store, Arc::clone(opened.clock))?;
    drop(waxwing_net::spawn("kv sweep", sweep_expired(kv.clone(), opened.shutdown.clone())));
    let (spool, clock) = (Arc::clone(opened.spool), Arc::clone(opened.clock));
    let new_id: NewQueueId = Arc::new(move || spool.next_queue_id(clock.now()));
    let kv: Arc<dyn KvStore> = Arc::new(kv);
    let services = HostServices {
        kv: Some(Arc::clone(&kv)),
        resolver: Some(Arc::clone(opened.resolver)),
        http_client: http_client(config, opened.resolver)?,
        metrics: Some(Arc::clone(opened.metrics) as _),
        new_id: Some(new_id),
    };
    Ok((kv, services))
}

/// Builds the HTTP client, if HTTP is granted to a plugin.
pub(crate) fn http_client(config: &Config, resolver: &Arc<dyn Resolver>) -> anyhow::Result<Option<Arc<dyn HttpClient>>> {
    let is_granted = enabled_plugins(config).any(|plugin| !plugin.grants.http.is_empty());
    let client = is_granted.then(|| WebClient::new(resolver)).transpose().context("[plugins.NAME.grants] http")?;
    Ok(client.map(|client| Arc::new(client) as _))
}

async fn sweep_expired(kv: KvStores, mut shutdown: Shutdown) {
    while shutdown.sleep(SWEEP_PERIOD).await {
        match kv.sweep().await {
            Ok(0) => {}
            Ok(entries) => tracing::debug!(target: LOG_TARGET, entries, "expired kv entries removed"),
            Err(error) => tracing::warn!(target: LOG_TARGET, %error, "expired kv entries could not be removed"),
        }
    }
}
