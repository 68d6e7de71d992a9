//! From a next hop to a connection (RFC 5321 §5.1).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream};
use waxwing_pipeline::DnsError;
use waxwing_types::{Disposition, EnhancedCode, NextHop, Status};

use super::Core;

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The host's name, or its address again.
    host: String,
    place: Place,
    /// The host was named by the operator, or lies in the domain that the mail is for: whoever forges DNS answers can't choose it
    /// (RFC 8689 §4.2.1; we look at no DNSSEC).
    pub(crate) is_named: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connection that was made.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Target {
    /// The name that its certificate must bear, or its address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// The addresses of a next hop in the order in which they are tried.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) list: Vec<Target>,
    /// The last name that could not be looked up now, though others could.
    doubt: Option<String>,
}

impl fmt::Display for Target {
    /// As Postfix's log has it: `host[address]:port`, `host[path]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => write!(f, "{}[{}]:{}", self.host, address.ip(), address.port()),
            Place::Unix(path) => write!(f, "{}[{}]", self.host, path.display()),
        }
    }
}

/// Finds the addresses, or says why there are none. A next hop that the operator named and that can't be found is a mistake in the
/// configuration, as Postfix sees it: mail waits for it to be mended.
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
        found => found,
    }
}

async fn look_up(core: &Core, hop: &NextHop) -> Result<Targets, Disposition> {
    let port = hop.port.unwrap_or(core.settings.port);
    let mut targets = Targets::default();
    if let Some(path) = hop.host.strip_prefix("unix:") {
        let place = Place::Unix(PathBuf::from(path));
        targets.list.push(Target { host: core.settings.myhostname.clone(), place, is_named: true });
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

/// The MX hosts of a domain, or the domain itself where it has none.
async fn mail_hosts(core: &Core, domain: &str) -> Result<Vec<String>, Disposition> {
    let mut hosts = match core.resolver.mx(domain).await {
        Ok(hosts) if !hosts.is_empty() => hosts,
        Ok(_) | Err(DnsError::NoData) => return Ok(vec![domain.to_owned()]),
        Err(error) => return Err(no_host(domain, &error)),
    };
    let ours = |name: &str| name.eq_ignore_ascii_case(&core.settings.myhostname);
    if let Some(own) = hosts.iter().find(|h| ours(&h.name)).map(|h| h.preference) {
        hosts.retain(|h| h.preference < own);
        if hosts.is_empty() {
            return Err(failed((5, 4, 6), format!("mail for {domain} loops back to myself")));
        }
    }
    Ok(hosts.into_iter().map(|h| h.name).collect())
}

/// The host is the domain, or lies in it.
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

/// Connects, or says in a status why not.
pub(crate) async fn open(core: &Core, target: &Target) -> Result<Stream, Status> {
    // Nobody has spoken: there is no remote server in this status.
    let failed = |why: String| Status::local(EnhancedCode::new(4, 4, 1), format!("connect to {target}: {why}"));
    match tokio::time::timeout(core.settings.connect_timeout, connect(&target.place)).await {
        Ok(connected) => connected.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed("Connection timed out".to_owned())),
    }
}

async fn connect(place: &Place) -> io::Result<Stream> {
    match place {
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
