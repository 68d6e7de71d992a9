//! Routes: a transport and a next hop.

use std::fmt;
use std::str::FromStr;

use toml::Value;

use crate::reader::{ConfigReader, ValueNode, last_key};
use crate::value::{ValueType, expect_string};

/// Names of the transports built into the server.
pub const BUILTIN_TRANSPORTS: &[&str] = &["local", "virtual", "smtp", "relay", "lmtp", "discard", "error"];

/// A host and port. A host in brackets is used without MX lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Domain or host name, or `[name]`, `[127.0.0.1]`, `[::1]`; in lower case.
    pub host: String,
    /// TCP port, if given.
    pub port: Option<u16>,
}

impl HostPort {
    /// Returns the name or address in brackets, without the brackets; `None` for a domain.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        self.host.strip_prefix('[')?.strip_suffix(']')
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']').ok_or(())?;
                let (inner, port) = rest.split_at_checked(end).ok_or(())?;
                if inner.is_empty() || inner.contains(|c: char| c.is_whitespace() || c == '[') {
                    return Err(());
                }
                (format!("[{}]", inner.to_ascii_lowercase()), port.strip_prefix(']').unwrap_or(""))
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let host = waxwing_types::Address::new("x", host).map_err(|_| ())?;
                if host.has_no_domain() {
                    return Err(());
                }
                (host.domain().to_owned(), port)
            }
        };
        match port.strip_prefix(':') {
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port != 0 => Ok(Self { host, port: Some(port) }),
                _ => Err(()),
            },
            None if port.is_empty() => Ok(Self { host, port: None }),
            None => Err(()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// A host and port written as a string.
pub(crate) struct HostPortValue;

impl ValueType for HostPortValue {
    type Value = HostPort;
    const FORM: &'static str = "next hop, \"[host]:port\" without or \"domain:port\" with MX lookup";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<HostPort> {
        let text = expect_string(node, reader, "a host in quotes, such as \"[mail.example.com]:25\"")?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let advice = "write \"[host]:port\", or \"domain:port\" to look up its MX".to_owned();
            reader.error(node.span.clone(), format!("{} \"{text}\" is not a next hop", last_key(&node.path)), advice);
        }
        parsed
    }

    fn show(value: &HostPort) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// A route, `transport:nexthop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name of the transport: an entry of [`BUILTIN_TRANSPORTS`] or the transport of a plugin.
    pub transport: String,
    /// Next hop: for `smtp` and `relay` a [`HostPort`]; for `lmtp` `inet:host:port` or `unix:/path`; for `error` the
    /// error text; for a plugin any text. Empty: the recipient's domain.
    pub nexthop: String,
}

impl Route {
    /// Returns a route without next hop.
    #[must_use]
    pub fn for_transport(transport: &str) -> Self {
        Self { transport: transport.to_owned(), nexthop: String::new() }
    }

    /// Parses the next hop as host and port; `None` if empty or invalid.
    #[must_use]
    pub fn host_port(&self) -> Option<HostPort> {
        self.nexthop.parse().ok()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nexthop.is_empty() { f.write_str(&self.transport) } else { write!(f, "{}:{}", self.transport, self.nexthop) }
    }
}

/// A route written as a string. The existence of the transport is checked after all plugins are read.
pub(crate) struct RouteValue;

impl ValueType for RouteValue {
    type Value = Route;
    const FORM: &'static str = "route, \"transport\" or \"transport:nexthop\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Route> {
        let text = expect_string(node, reader, "a route in quotes, such as \"smtp:[mail.example.com]:25\"")?;
        let (transport, nexthop) = text.split_once(':').unwrap_or((text, ""));
        let bad = if transport.is_empty() || transport.contains(['[', ']', '.', ' ']) {
            Some("a route begins with the name of a transport: \"smtp:[host]:port\"")
        } else if matches!(transport, "smtp" | "relay") && !nexthop.is_empty() && nexthop.parse::<HostPort>().is_err() {
            Some("the next hop is written \"[host]:port\", or \"domain:port\" to look up its MX")
        } else if transport == "lmtp" && !is_lmtp_server(nexthop) {
            Some("an LMTP server is written \"lmtp:inet:host:port\" or \"lmtp:unix:/path\"")
        } else {
            None
        };
        match bad {
            Some(advice) => {
                reader.error(node.span.clone(), format!("\"{text}\" is not a route"), advice.to_owned());
                None
            }
            None => Some(Route { transport: transport.to_owned(), nexthop: nexthop.to_owned() }),
        }
    }

    fn show(value: &Route) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// Returns whether the text is `inet:host:port` or `unix:/path`.
fn is_lmtp_server(nexthop: &str) -> bool {
    match nexthop.split_once(':') {
        Some(("inet", rest)) => rest.parse::<HostPort>().is_ok_and(|server| server.port.is_some()),
        Some(("unix", path)) => path.starts_with('/'),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_next_hops() {
        for (text, host, port) in [
            ("mx.Example.com", "mx.example.com", None),
            ("example.com:2525", "example.com", Some(2525)),
            ("[127.0.0.1]:2525", "[127.0.0.1]", Some(2525)),
            ("[::1]:25", "[::1]", Some(25)),
            ("[Mail.example]", "[mail.example]", None),
        ] {
            let hop: HostPort = text.parse().unwrap();
            assert_eq!((hop.host.as_str(), hop.port), (host, port), "{text}");
            assert_eq!(hop.to_string().parse::<HostPort>().unwrap(), hop);
        }
        for text in ["", "[", "[]", "[a]x", "a:0", "a:70000", "a:", "a b", ":25", "[a]:"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
        assert_eq!("[::1]:25".parse::<HostPort>().unwrap().literal(), Some("::1"));
    }

    #[test]
    fn reads_lmtp_servers() {
        for (text, good) in [
            ("inet:127.0.0.1:24", true),
            ("inet:[::1]:24", true),
            ("inet:store.example:24", true),
            ("unix:/run/lmtp", true),
            ("inet:store.example", false),
            ("unix:lmtp", false),
            ("[127.0.0.1]:24", false),
            ("", false),
        ] {
            assert_eq!(is_lmtp_server(text), good, "{text}");
        }
    }
}
