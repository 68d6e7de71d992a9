//! From a next hop to a connection (RFC 5321 §5.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use waxwing_pipeline::DnsError;
use waxwing_types::{Disposition, EnhancedCode, NextHop, Status};

use super::Core;

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The host's name, or its address again.
    host: String,
    address: SocketAddr,
}

/// The addresses of a next hop in the order in which they are tried.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) list: Vec<Target>,
    /// The last name that could not be looked up now, though others could.
    doubt: Option<String>,
}

impl fmt::Display for Target {
    /// As Postfix's log has it: `host[address]:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]:{}", self.host, self.address.ip(), self.address.port())
    }
}

/// Finds the addresses, or says why there are none.
pub(crate) async fn targets(core: &Core, hop: &NextHop) -> Result<Targets, Disposition> {
    let port = hop.port.unwrap_or(core.settings.port);
    let mut targets = Targets::default();
    let literal = hop.host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Some(host) = literal {
        add(core, &mut targets, host, port).await.map_err(|e| no_host(host, &e))?;
    } else {
        for host in mail_hosts(core, &hop.host).await? {
            match add(core, &mut targets, &host, port).await {
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

async fn add(core: &Core, targets: &mut Targets, host: &str, port: u16) -> Result<(), DnsError> {
    let addresses = match host.strip_prefix("ipv6:").unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => core.resolver.addresses(host).await?,
    };
    let target = |ip| Target { host: host.to_owned(), address: SocketAddr::new(ip, port) };
    targets.list.extend(addresses.into_iter().map(target));
    Ok(())
}

/// Connects, or says in a status why not.
pub(crate) async fn open(core: &Core, target: &Target) -> Result<TcpStream, Status> {
    // Nobody has spoken: there is no remote server in this status.
    let failed = |why: String| Status::local(EnhancedCode::new(4, 4, 1), format!("connect to {target}: {why}"));
    match tokio::time::timeout(core.settings.connect_timeout, TcpStream::connect(target.address)).await {
        Ok(Ok(stream)) => match stream.set_nodelay(true) {
            Ok(()) => Ok(stream),
            Err(error) => Err(failed(error.to_string())),
        },
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("Connection timed out".to_owned())),
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
