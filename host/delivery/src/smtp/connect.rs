//! Connection setup: from a next hop to an open connection (RFC 5321 §5.1).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream};
use waxwing_pipeline::DnsError;
use waxwing_types::{Disposition, EnhancedCode, NextHop, Status};

use super::SmtpContext;

/// Candidate address of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectTarget {
    /// Host name, or the text of the address.
    host: String,
    address: TargetAddress,
    /// True if the operator named the host, or the host lies in the recipient domain: forged DNS answers cannot choose such a
    /// name (RFC 8689 §4.2.1; no DNSSEC validation here).
    pub(crate) has_trusted_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TargetAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Open connection to a server.
pub(crate) enum ClientStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ConnectTarget {
    /// Returns the name for certificate verification, or the address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// Addresses of a next hop in the order of attempts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectTargets {
    pub(crate) list: Vec<ConnectTarget>,
    /// Last name with a temporary lookup failure while other names resolved.
    lookup_failure: Option<String>,
}

impl fmt::Display for ConnectTarget {
    /// Formats like Postfix's log: `host[address]:port`, `host[path]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            TargetAddress::Tcp(address) => write!(f, "{}[{}]:{}", self.host, address.ip(), address.port()),
            TargetAddress::Unix(path) => write!(f, "{}[{}]", self.host, path.display()),
        }
    }
}

/// Resolves the addresses of a next hop, or returns the disposition without one. An unresolvable next hop of the configuration is
/// a configuration error, as in Postfix: mail is deferred until its repair.
pub(crate) async fn resolve_targets(core: &SmtpContext, hop: &NextHop) -> Result<ConnectTargets, Disposition> {
    let configured = core.settings.client.lmtp
        || hop.host.starts_with('[')
        || hop.port.is_some()
        || core.settings.relayhost.as_deref() == Some(hop.host.as_str());
    match look_up_targets(core, hop).await {
        Err(Disposition::Failed(status)) if configured => {
            let text = format!("configuration problem: {}", status.text);
            Err(Disposition::Deferred { status: Status::local(EnhancedCode::new(4, 3, 5), text), not_before: None })
        }
        result => result,
    }
}

async fn look_up_targets(core: &SmtpContext, hop: &NextHop) -> Result<ConnectTargets, Disposition> {
    let port = hop.port.unwrap_or(core.settings.client.config.smtp_tcp_port);
    let mut targets = ConnectTargets::default();
    if let Some(path) = hop.host.strip_prefix("unix:") {
        let address = TargetAddress::Unix(PathBuf::from(path));
        targets.list.push(ConnectTarget { host: core.settings.myhostname.clone(), address, has_trusted_name: true });
        return Ok(targets);
    }
    if let Some(rest) = hop.host.strip_prefix("inet:") {
        let (host, port) = rest.rsplit_once(':').and_then(|(h, p)| Some((h, p.parse().ok()?))).unwrap_or((rest, port));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        add_addresses(core, &mut targets, (host, true), port).await.map_err(|e| dns_failure(host, &e))?;
        return Ok(targets);
    }
    let literal = hop.host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Some(host) = literal {
        add_addresses(core, &mut targets, (host, true), port).await.map_err(|e| dns_failure(host, &e))?;
    } else {
        for host in mx_hosts(core, &hop.host).await? {
            match add_addresses(core, &mut targets, (&host, is_in_domain(&host, &hop.host)), port).await {
                Ok(()) => {}
                Err(DnsError::Temporary(why)) => targets.lookup_failure = Some(format!("{host}: {why}")),
                Err(DnsError::NoSuchName | DnsError::NoData | DnsError::NullMx) => {}
            }
        }
    }
    match (&targets.lookup_failure, targets.list.is_empty()) {
        (Some(why), true) => Err(lookup_deferred(why)),
        (None, true) => Err(failed((5, 4, 4), format!("no mail host of {} has an address", hop.host))),
        (_, false) => Ok(targets),
    }
}

/// Returns the MX hosts of a domain, or the domain itself in the absence of MX records.
async fn mx_hosts(core: &SmtpContext, domain: &str) -> Result<Vec<String>, Disposition> {
    let mut hosts = match core.resolver.mx(domain).await {
        Ok(hosts) if !hosts.is_empty() => hosts,
        Ok(_) | Err(DnsError::NoData) => return Ok(vec![domain.to_owned()]),
        Err(error) => return Err(dns_failure(domain, &error)),
    };
    let is_myself = |name: &str| name.eq_ignore_ascii_case(&core.settings.myhostname);
    if let Some(own_preference) = hosts.iter().find(|h| is_myself(&h.name)).map(|h| h.preference) {
        hosts.retain(|h| h.preference < own_preference);
        if hosts.is_empty() {
            return Err(failed((5, 4, 6), format!("mail for {domain} loops back to myself")));
        }
    }
    Ok(hosts.into_iter().map(|h| h.name).collect())
}

/// Returns true if the host is the domain or a subdomain.
fn is_in_domain(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

async fn add_addresses(
    core: &SmtpContext,
    targets: &mut ConnectTargets,
    (host, is_named): (&str, bool),
    port: u16,
) -> Result<(), DnsError> {
    // `[IPv6:...]` is the address literal of RFC 5321 §4.1.3, in any case.
    let address = match host.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("ipv6:") => address,
        Some(_) | None => host,
    };
    let addresses = match address.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => core.resolver.addresses(host).await?,
    };
    let target = |ip| ConnectTarget {
        host: host.to_owned(),
        address: TargetAddress::Tcp(SocketAddr::new(ip, port)),
        has_trusted_name: is_named,
    };
    targets.list.extend(addresses.into_iter().map(target));
    Ok(())
}

/// Connects; errors carry the status of a deferral.
pub(crate) async fn open_connection(core: &SmtpContext, target: &ConnectTarget) -> Result<ClientStream, Status> {
    // No server has replied: the status names no remote server.
    let failed = |why: String| Status::local(EnhancedCode::new(4, 4, 1), format!("connect to {target}: {why}"));
    match tokio::time::timeout(core.settings.client.config.smtp_connect_timeout, connect_address(&target.address)).await {
        Ok(connected) => connected.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed("Connection timed out".to_owned())),
    }
}

async fn connect_address(address: &TargetAddress) -> io::Result<ClientStream> {
    match address {
        TargetAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(ClientStream::Tcp(stream))
        }
        TargetAddress::Unix(path) => Ok(ClientStream::Unix(UnixStream::connect(path).await?)),
    }
}

fn dns_failure(name: &str, error: &DnsError) -> Disposition {
    match error {
        DnsError::NoSuchName => failed((5, 4, 4), format!("Host or domain name not found: {name}")),
        DnsError::NoData => failed((5, 4, 4), format!("{name} has no address")),
        DnsError::NullMx => failed((5, 1, 10), format!("{name} accepts no mail (null MX)")),
        DnsError::Temporary(why) => lookup_deferred(&format!("{name}: {why}")),
    }
}

fn failed((class, subject, detail): (u8, u16, u16), text: String) -> Disposition {
    Disposition::Failed(Status::local(EnhancedCode::new(class, subject, detail), text))
}

fn lookup_deferred(why: &str) -> Disposition {
    let status = Status::local(EnhancedCode::new(4, 4, 3), format!("name lookup failed: {why}"));
    Disposition::Deferred { status, not_before: None }
}
