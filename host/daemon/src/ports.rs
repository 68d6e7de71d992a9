//! What serves plugins beyond the message: their pairs, names, web servers, counters, ids of new mail.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use waxwing_config::Config;
use waxwing_net::Shutdown;
use waxwing_pipeline::{KvStore, Resolver, Web};
use waxwing_queue::Spool;
use waxwing_sandbox::{NewId, Ports};
use waxwing_state::{KvStores, MetricsRegistry};
use waxwing_store::Store;
use waxwing_types::Clock;
use waxwing_web::WebClient;

/// Between two sweeps of pairs whose time is over.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// What has been opened already.
pub(crate) struct Opened<'a> {
    pub(crate) store: &'a Store,
    pub(crate) spool: &'a Arc<dyn Spool>,
    pub(crate) resolver: &'a Arc<dyn Resolver>,
    pub(crate) metrics: &'a Arc<MetricsRegistry>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) shutdown: &'a Shutdown,
}

/// Opens the rest; the pairs also serve the server itself. HTTP is set up only where a plugin may use it: it reads the system's certificates.
pub(crate) fn open(config: &Config, opened: &Opened<'_>) -> anyhow::Result<(Arc<dyn KvStore>, Ports)> {
    let kv = KvStores::open(opened.store, Arc::clone(opened.clock))?;
    drop(waxwing_net::spawn("pairs", sweep(kv.clone(), opened.shutdown.clone())));
    let wanted = config.plugins.iter().any(|plugin| plugin.enabled && !plugin.grants.http.is_empty());
    let web = wanted.then(|| WebClient::new(opened.resolver)).transpose().context("[plugins.NAME.grants] http")?;
    let (spool, clock) = (Arc::clone(opened.spool), Arc::clone(opened.clock));
    let new_id: NewId = Arc::new(move || spool.ids().next(clock.now()));
    let kv: Arc<dyn KvStore> = Arc::new(kv);
    let ports = Ports {
        kv: Some(Arc::clone(&kv)),
        resolver: Some(Arc::clone(opened.resolver)),
        web: web.map(|web| Arc::new(web) as Arc<dyn Web>),
        metrics: Some(Arc::clone(opened.metrics) as _),
        new_id: Some(new_id),
    };
    Ok((kv, ports))
}

async fn sweep(kv: KvStores, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_PERIOD) => {}
            () = shutdown.wait() => return,
        }
        match kv.sweep().await {
            Ok(0) => {}
            Ok(pairs) => tracing::debug!(pairs, "pairs of plugins removed, their time was over"),
            Err(error) => tracing::warn!(%error, "pairs of plugins could not be removed"),
        }
    }
}
