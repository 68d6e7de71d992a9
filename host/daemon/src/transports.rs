//! Builds the transports, the routing and the queue manager from the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use waxwing_accounts::Accounts;
use waxwing_config::Config;
use waxwing_delivery::{
    CurrentRouting, DeliveryServices, DeliverySettings, DiscardTransport, ErrorTransport, MaildirTransport, PluginTransport,
    Prober, QueueManager, Router, RoutingConfig, SmtpSettings, SmtpTransport, TlsPolicy,
};
use waxwing_mailbox::MaildirStore;
use waxwing_net::{HickoryResolver, Shutdown, TlsConnector, load_authorities};
use waxwing_pipeline::{EventSink, Pipeline, Resolver, Submit, Trace, Transport};
use waxwing_smtp::ClientSettings;
use waxwing_spool::Spool;
use waxwing_types::{Clock, TlsLevel};

/// Messages written into Maildirs at the same time.
const MAILDIR_WRITERS_MAX: usize = 16;
/// Addresses of a next hop tried in a single attempt (`smtp_mx_address_limit`).
const ADDRESSES_MAX: usize = 5;
/// Longest time for an address verification probe.
const PROBE_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes of a message held in memory for conversion to 7bit, for servers without 8BITMIME; larger messages are returned to the sender.
const CONVERSION_BYTES_MAX: u64 = 16 << 20;

/// Services needed to build transports.
pub(crate) struct TransportServices<'a> {
    pub(crate) accounts: &'a Arc<Accounts>,
    pub(crate) pipeline: &'a Arc<Pipeline>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) resolver: &'a Arc<dyn Resolver>,
    pub(crate) shutdown: &'a Shutdown,
}

/// Services needed by the queue manager.
pub(crate) struct QueueManagerServices {
    pub(crate) routing: Arc<CurrentRouting>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) submit: Arc<dyn Submit>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) trace: Arc<dyn Trace>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Builds the routing and the transports of a configuration, and the prober that verifies addresses over the same connections.
pub(crate) fn build_routing(config: &Config, services: &TransportServices<'_>) -> anyhow::Result<(RoutingConfig, Arc<Prober>)> {
    let network = network_transports(config, services)?;
    let mut transports = local_transports(config, services);
    transports.extend(network.iter().map(|transport| Arc::clone(transport) as Arc<dyn Transport>));
    let router = || Router::new(Arc::clone(services.accounts) as _, config.transports.clone());
    let network = network.into_iter().map(|t| (t.name().to_owned(), t)).collect();
    let routing = RoutingConfig {
        settings: DeliverySettings::from_config(config),
        router: router(),
        transports: transports.into_iter().map(|t| (t.name().to_owned(), t)).collect::<HashMap<_, _>>(),
    };
    Ok((routing, Arc::new(Prober::new(router(), network, PROBE_TIME_MAX))))
}

/// Creates the queue manager, the owner of the queue's units; delivery starts with its `run`.
pub(crate) async fn build_queue_manager(services: QueueManagerServices) -> anyhow::Result<QueueManager> {
    let parts = DeliveryServices {
        routing: services.routing,
        spool: services.spool,
        pipeline: services.pipeline,
        submit: services.submit,
        events: services.events,
        trace: services.trace,
        clock: services.clock,
    };
    Ok(QueueManager::new(parts).await?)
}

/// Builds the transports without a network connection, and those of plugins.
fn local_transports(config: &Config, services: &TransportServices<'_>) -> Vec<Arc<dyn Transport>> {
    let store = Arc::new(MaildirStore::new(&config.general.myhostname, Arc::clone(services.clock), MAILDIR_WRITERS_MAX));
    let mut all: Vec<Arc<dyn Transport>> = vec![Arc::new(DiscardTransport), Arc::new(ErrorTransport)];
    for name in ["local", "virtual"] {
        all.push(Arc::new(MaildirTransport::new(name, Arc::clone(services.accounts) as _, Arc::clone(&store) as _)));
    }
    for plugin in config.plugins.iter().filter(|p| p.enabled) {
        if let Some(transport) = &plugin.transport {
            let pipeline = Arc::clone(services.pipeline);
            let calls_max = config.queue.default_destination_concurrency_limit;
            all.push(Arc::new(PluginTransport::new(transport.clone(), plugin.name.clone(), pipeline, calls_max)));
        }
    }
    all
}

/// Builds the SMTP and LMTP transports.
fn network_transports(config: &Config, services: &TransportServices<'_>) -> anyhow::Result<Vec<Arc<SmtpTransport>>> {
    let connector = tls_connector(config)?;
    let resolver = services.resolver;
    let client = Arc::new(ClientSettings::new(Arc::new(config.smtp.clone())));
    let mut all = Vec::new();
    for name in ["smtp", "relay", "lmtp"] {
        let client = match name {
            "lmtp" => Arc::new(ClientSettings { lmtp: true, ..client.as_ref().clone() }),
            _ => Arc::clone(&client),
        };
        let settings = SmtpSettings {
            name: name.to_owned(),
            myhostname: config.general.myhostname.clone(),
            relayhost: config.transports.relayhost.as_ref().map(|relayhost| relayhost.host.clone()),
            client,
            tls: tls_policy(config, name),
            connector: Some(connector.clone()),
            smtp_mx_address_limit: ADDRESSES_MAX,
            default_destination_concurrency_limit: config.queue.default_destination_concurrency_limit,
            conversion_bytes_max: CONVERSION_BYTES_MAX,
        };
        let (clock, shutdown) = (Arc::clone(services.clock), services.shutdown.clone());
        all.push(Arc::new(SmtpTransport::new(settings, Arc::clone(resolver), clock, shutdown)));
    }
    Ok(all)
}

/// Builds the TLS connector with the trusted certificate authorities.
fn tls_connector(config: &Config) -> anyhow::Result<TlsConnector> {
    let connector = match &config.smtp.smtp_tls_CAfile {
        Some(path) => {
            TlsConnector::with_authorities(load_authorities(path).context("smtp_tls_CAfile")?).context("smtp_tls_CAfile")?
        }
        None => TlsConnector::new()?,
    };
    Ok(connector.with_handshake_timeout(config.smtp.smtp_starttls_timeout))
}

/// Returns the TLS policy of a transport. LMTP servers mostly run on the same machine: TLS only where the operator configures a
/// destination.
fn tls_policy(config: &Config, transport: &str) -> TlsPolicy {
    let default = if transport == "lmtp" { TlsLevel::None } else { config.smtp.smtp_tls_security_level };
    TlsPolicy { default, by_destination: config.smtp.smtp_tls_policy_maps.clone() }
}

/// Creates the DNS resolver. A machine without resolv.conf still runs the server: name lookups then fail as temporary errors.
pub(crate) fn resolver(config: &Config) -> Arc<dyn Resolver> {
    match HickoryResolver::new(&config.dns) {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            tracing::warn!(target: "dns", "{error}; mail to other domains is deferred");
            Arc::new(waxwing_net::UnavailableResolver)
        }
    }
}
