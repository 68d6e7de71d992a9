//! Connection setup: from a next hop to an open connection (RFC 5321 §5.1).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream};
use waxwing_pipeline::DnsError;
use waxwing_types::{Disposition, EnhancedCode, NextHop, Status};

use super::Core;

/// Candidate address of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host name, or the text of the address.
    host: String,
    place: Place,
    /// True if the operator named the host, or the host lies in the recipient domain: forged DNS answers cannot choose such a
    /// name (RFC 8689 §4.2.1; no DNSSEC validation here).
    pub(crate) is_named: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Open connection to a server.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Target {
    /// Returns the name for certificate verification, or the address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// Addresses of a next hop in the order of attempts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) list: Vec<Target>,
    /// Last name with a temporary lookup failure while other names resolved.
    doubt: Option<String>,
}

impl fmt::Display for Target {
    /// Formats like Postfix's log: `host[address]:port`, `host[path]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => write!(f, "{}[{}]:{}", self.host, address.ip(), address.port()),
            Place::Unix(path) => write!(f, "{}[{}]", self.host, path.display()),
        }
    }
}

/// Resolves the addresses of a next hop, or returns the disposition without one. An unresolvable next hop of the configuration is
/// a configuration error, as in Postfix: mail is deferred until its repair.
pub(crate) async fn targets(core: &Core, hop: &NextHop) -> Result<Targets, Disposition> {
    let configured = core.settings.client.lmtp
        || hop.host.starts_with('[')
        || hop.port.is_some()
        || core.settings.relayhost.as_deref() == Some(hop.host.as_str());
    match look_up(core, hop).await {
        Err(Disposition::Failed(status)) if configured => {
            let text = format!("configuration problem: {}", status.text);
            Err(Disposition::Deferred { status: Status::local(EnhancedCode::new(4, 3, 5), text), not_before: None })
        }
        result => result,
    }
}

async fn look_up(core: &Core, hop: &NextHop) -> Result<Targets, Disposition> {
    let port = hop.port.unwrap_or(core.settings.port);
    let mut targets = Targets::default();
    if let Some(path) = hop.host.strip_prefix("unix:") {
        let address = Place::Unix(PathBuf::from(path));
        targets.list.push(Target { host: core.settings.myhostname.clone(), place: address, is_named: true });
        return Ok(targets);
    }
    if let Some(rest) = hop.host.strip_prefix("inet:") {
        let (host, port) = rest.rsplit_once(':').and_then(|(h, p)| Some((h, p.parse().ok()?))).unwrap_or((rest, port));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        add(core, &mut targets, (host, true), port).await.map_err(|e| no_host(host, &e))?;
        return Ok(targets);
    }
    let literal = hop.host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Some(host) = literal {
        add(core, &mut targets, (host, true), port).await.map_err(|e| no_host(host, &e))?;
    } else {
        for host in mail_hosts(core, &hop.host).await? {
            match add(core, &mut targets, (&host, is_within(&host, &hop.host)), port).await {
                Ok(()) => {}
                Err(DnsError::Temporary(why)) => targets.doubt = Some(format!("{host}: {why}")),
                Err(DnsError::NoSuchName | DnsError::NoData | DnsError::NullMx) => {}
            }
        }
    }
    match (&targets.doubt, targets.list.is_empty()) {
        (Some(why), true) => Err(temporary(why)),
        (None, true) => Err(failed((5, 4, 4), format!("no mail host of {} has an address", hop.host))),
        (_, false) => Ok(targets),
    }
}

/// Returns the MX hosts of a domain, or the domain itself in the absence of MX records.
async fn mail_hosts(core: &Core, domain: &str) -> Result<Vec<String>, Disposition> {
    let mut hosts = match core.resolver.mx(domain).await {
        Ok(hosts) if !hosts.is_empty() => hosts,
        Ok(_) | Err(DnsError::NoData) => return Ok(vec![domain.to_owned()]),
        Err(error) => return Err(no_host(domain, &error)),
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
fn is_within(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

async fn add(core: &Core, targets: &mut Targets, (host, is_named): (&str, bool), port: u16) -> Result<(), DnsError> {
    // `[IPv6:...]` is the address literal of RFC 5321 §4.1.3, in any case.
    let address = match host.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("ipv6:") => address,
        Some(_) | None => host,
    };
    let addresses = match address.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => core.resolver.addresses(host).await?,
    };
    let target = |ip| Target { host: host.to_owned(), place: Place::Tcp(SocketAddr::new(ip, port)), is_named };
    targets.list.extend(addresses.into_iter().map(target));
    Ok(())
}

/// Connects; errors carry the status of a deferral.
pub(crate) async fn open(core: &Core, target: &Target) -> Result<Stream, Status> {
    // No server has replied: the status names no remote server.
    let failed = |why: String| Status::local(EnhancedCode::new(4, 4, 1), format!("connect to {target}: {why}"));
    match tokio::time::timeout(core.settings.connect_timeout, connect(&target.place)).await {
        Ok(connected) => connected.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed("Connection timed out".to_owned())),
    }
}

async fn connect(address: &Place) -> io::Result<Stream> {
    match address {
        Place::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Place::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}

fn no_host(name: &str, error: &DnsError) -> Disposition {
    match error {
        DnsError::NoSuchName => failed((5, 4, 4), format!("Host or domain name not found: {name}")),
        DnsError::NoData => failed((5, 4, 4), format!("{name} has no address")),
        DnsError::NullMx => failed((5, 1, 10), format!("{name} accepts no mail (null MX)")),
        DnsError::Temporary(why) => temporary(&format!("{name}: {why}")),
    }
}

fn failed((class, subject, detail): (u8, u16, u16), text: String) -> Disposition {
    Disposition::Failed(Status::local(EnhancedCode::new(class, subject, detail), text))
}

fn temporary(why: &str) -> Disposition {
    let status = Status::local(EnhancedCode::new(4, 4, 3), format!("name lookup failed: {why}"));
    Disposition::Deferred { status, not_before: None }
}
