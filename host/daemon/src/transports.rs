//! Builds the transports, the routing and the queue manager from the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use waxwing_accounts::Accounts;
use waxwing_config::Config;
use waxwing_delivery::{
    DeliverySettings, DiscardTransport, ErrorTransport, MaildirTransport, PluginTransport, Prober, Router, RoutingConfig,
    SmtpSettings, SmtpTransport, TlsPolicy,
};
use waxwing_mailbox::MaildirStore;
use waxwing_net::{HickoryResolver, TlsConnector, load_authorities};
use waxwing_pipeline::{Resolver, Transport};
use waxwing_smtp::ClientSettings;
use waxwing_types::TlsLevel;

use crate::services::Services;

/// Messages written into Maildirs at the same time.
const MAILDIR_WRITERS_MAX: usize = 16;
/// Addresses of a next hop tried in a single attempt (`smtp_mx_address_limit`).
const ADDRESSES_MAX: usize = 5;
/// Longest time for an address verification probe.
const PROBE_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes of a message held in memory for conversion to 7bit, for servers without 8BITMIME; larger messages are returned to the sender.
const CONVERSION_BYTES_MAX: u64 = 16 << 20;

/// Builds the routing and the transports of a configuration, and the prober that verifies addresses over the same connections.
pub(crate) fn build_routing(
    config: &Config,
    accounts: &Arc<Accounts>,
    services: &Services,
) -> anyhow::Result<(RoutingConfig, Arc<Prober>)> {
    let network = network_transports(config, services)?;
    let mut transports = local_transports(config, accounts, services);
    transports.extend(network.iter().map(|transport| Arc::clone(transport) as Arc<dyn Transport>));
    let router = || Router::new(Arc::clone(accounts) as _, config.transports.clone());
    let network = network.into_iter().map(|t| (t.name().to_owned(), t)).collect();
    let routing = RoutingConfig {
        settings: DeliverySettings::from_config(config),
        router: router(),
        transports: transports.into_iter().map(|t| (t.name().to_owned(), t)).collect::<HashMap<_, _>>(),
    };
    Ok((routing, Arc::new(Prober::new(router(), network, PROBE_TIME_MAX))))
}

/// Builds the transports without a network connection, and those of plugins.
fn local_transports(config: &Config, accounts: &Arc<Accounts>, services: &Services) -> Vec<Arc<dyn Transport>> {
    let store = Arc::new(MaildirStore::new(&config.general.myhostname, Arc::clone(&services.clock), MAILDIR_WRITERS_MAX));
    let mut all: Vec<Arc<dyn Transport>> = vec![Arc::new(DiscardTransport), Arc::new(ErrorTransport)];
    for name in ["local", "virtual"] {
        all.push(Arc::new(MaildirTransport::new(name, Arc::clone(accounts) as _, Arc::clone(&store) as _)));
    }
    for plugin in config.plugins.iter().filter(|p| p.enabled) {
        if let Some(transport) = &plugin.transport {
            let pipeline = Arc::clone(&services.pipeline);
            let calls_max = config.queue.default_destination_concurrency_limit;
            all.push(Arc::new(PluginTransport::new(transport.clone(), plugin.name.clone(), pipeline, calls_max)));
        }
    }
    all
}

/// Builds the SMTP and LMTP transports.
fn network_transports(config: &Config, services: &Services) -> anyhow::Result<Vec<Arc<SmtpTransport>>> {
    let connector = tls_connector(config)?;
    let resolver = &services.resolver;
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
        let (clock, shutdown) = (Arc::clone(&services.clock), services.shutdown.clone());
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
