//! Implementation of the trait [`Resolver`] with hickory-resolver.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as HickoryDnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::proto::serialize::binary::BinEncodable;
use waxwing_config::DnsConfig;
use waxwing_pipeline::{DnsError, DnsRecords, MxHost, Resolver};

/// Maximum number of MX hosts of an answer, and of addresses of a host.
const RECORDS_MAX: usize = 50;

/// Substitute when no resolver can be set up: every query fails temporarily, so that mail is deferred instead of
/// returned.
pub struct UnavailableResolver;

#[async_trait]
impl Resolver for UnavailableResolver {
    async fn mx(&self, _: &str) -> Result<Vec<MxHost>, DnsError> {
        Err(DnsError::Temporary("no name server is configured".to_owned()))
    }

    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsError> {
        Err(DnsError::Temporary("no name server is configured".to_owned()))
    }

    async fn records(&self, _: &str, _: u16) -> Result<DnsRecords, DnsError> {
        Err(DnsError::Temporary("no name server is configured".to_owned()))
    }
}

/// Failure to set up the resolver.
#[derive(Debug, thiserror::Error)]
#[error("can't set up DNS: {0}")]
pub struct ResolverError(String);

/// A caching stub resolver. Names are absolute: no search list, and no `/etc/hosts`, like Postfix's SMTP client.
#[derive(Clone)]
pub struct HickoryResolver {
    inner: TokioResolver,
}

impl HickoryResolver {
    /// Creates the resolver without sending queries: the name servers of `dns.servers`, asked by UDP and by TCP for large
    /// answers; those of `/etc/resolv.conf` if the key is empty.
    pub fn new(config: &DnsConfig) -> Result<Self, ResolverError> {
        let failed = |error: NetError| ResolverError(error.to_string());
        let mut builder = if config.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(failed)?
        } else {
            let servers = config.servers.iter().copied().map(nameserver).collect();
            let parts = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(parts, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = config.timeout;
        options.attempts = config.attempts;
        Ok(Self { inner: builder.build().map_err(failed)? })
    }
}

fn nameserver(address: SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())])
}

#[async_trait]
impl Resolver for HickoryResolver {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, DnsError> {
        let lookup = self.inner.mx_lookup(absolute_name(domain)?).await.map_err(to_dns_error)?;
        let mut hosts = Vec::new();
        let mut null = false;
        for record in lookup.answers() {
            let RData::MX(mx) = &record.data else { continue };
            match host_name(&mx.exchange) {
                name if name.is_empty() => null = true,
                name => hosts.push(MxHost { preference: mx.preference, name }),
            }
        }
        match (hosts.is_empty(), null) {
            (true, true) => return Err(DnsError::NullMx),
            (true, false) => return Err(DnsError::NoData),
            (false, _) => {}
        }
        // Hashing with a random key shuffles hosts of equal preference (RFC 5321 §5.1).
        let shuffle = RandomState::new();
        hosts.sort_by_cached_key(|host| (host.preference, shuffle.hash_one(&host.name)));
        hosts.truncate(RECORDS_MAX);
        Ok(hosts)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let name = absolute_name(host)?;
        let (v6, v4) = tokio::join!(self.inner.ipv6_lookup(name.clone()), self.inner.ipv4_lookup(name));
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut errors = Vec::new();
        for answer in [v6, v4] {
            match answer {
                Ok(lookup) => {
                    let fresh = lookup.answers().iter().filter_map(|r| r.data.ip_addr()).filter(|ip| seen.insert(*ip));
                    found.extend(fresh);
                }
                Err(error) => errors.push(to_dns_error(error)),
            }
        }
        found.truncate(RECORDS_MAX);
        if found.is_empty() { Err(combine_errors(errors)) } else { Ok(found) }
    }

    async fn records(&self, name: &str, rrtype: u16) -> Result<DnsRecords, DnsError> {
        let rrtype = RecordType::from(rrtype);
        let lookup = self.inner.lookup(absolute_name(name)?, rrtype).await.map_err(to_dns_error)?;
        let mut records = DnsRecords::default();
        for record in lookup.answers().iter().filter(|r| r.record_type() == rrtype).take(RECORDS_MAX) {
            let octets = record.data.to_bytes().map_err(|error| DnsError::Temporary(error.to_string()))?;
            records.ttl = if records.rdata.is_empty() { record.ttl } else { records.ttl.min(record.ttl) };
            records.rdata.push(octets.into());
        }
        if records.rdata.is_empty() { Err(DnsError::NoData) } else { Ok(records) }
    }
}

/// Selects the error when no address was found: a temporary failure takes precedence, since an unanswered query
/// leaves the result open.
fn combine_errors(errors: Vec<DnsError>) -> DnsError {
    let rank = |error: &DnsError| match error {
        DnsError::Temporary(_) => 0,
        DnsError::NoSuchName => 1,
        DnsError::NoData | DnsError::NullMx => 2,
    };
    errors.into_iter().min_by_key(rank).unwrap_or(DnsError::NoData)
}

fn absolute_name(text: &str) -> Result<Name, DnsError> {
    let mut name = if text.is_ascii() { Name::from_ascii(text) } else { Name::from_utf8(text) }
        // An invalid name has no records.
        .map_err(|_| DnsError::NoSuchName)?;
    name.set_fqdn(true);
    Ok(name)
}

/// Returns the name in lower case without the final dot; empty for the root.
fn host_name(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn to_dns_error(error: NetError) -> DnsError {
    let code = if let NetError::Dns(HickoryDnsError::NoRecordsFound(none)) = &error { Some(none.response_code) } else { None };
    if code == Some(ResponseCode::NXDomain) {
        DnsError::NoSuchName
    } else if code == Some(ResponseCode::NoError) {
        DnsError::NoData
    } else {
        DnsError::Temporary(error.to_string())
    }
}
