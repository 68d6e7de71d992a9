//! Endpoints of auxiliary programs, such as milters.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Endpoint to connect to, in the notation of milter configurations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Endpoint {
    /// Host, by name or address, and TCP port.
    Inet {
        /// Host name, IPv4 address or IPv6 address without brackets.
        host: String,
        /// TCP port number.
        port: u16,
    },
    /// Absolute path of a Unix-domain socket.
    Unix(PathBuf),
}

/// Error for a text that is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as \"inet:PORT@HOST\" or \"unix:/path/of/socket\"")]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Parses `inet:PORT@HOST` and `unix:PATH`, and common variants: `inet6:PORT@HOST`, `inet:HOST:PORT`, `local:PATH`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (kind, rest) = text.split_once(':').ok_or(EndpointError)?;
        match kind {
            "inet" | "inet6" => {
                let (host, port) = match rest.split_once('@') {
                    Some((port, host)) => (host, port),
                    None => rest.rsplit_once(':').ok_or(EndpointError)?,
                };
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
                match port.parse() {
                    Ok(port) if port != 0 && !host.is_empty() && host.len() <= 255 && host.chars().all(fits) => {
                        Ok(Self::Inet { host: host.to_owned(), port })
                    }
                    Ok(_) | Err(_) => Err(EndpointError),
                }
            }
            "unix" | "local" if rest.starts_with('/') && !rest.contains('\0') => Ok(Self::Unix(PathBuf::from(rest))),
            _ => Err(EndpointError),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { host, port } => write!(f, "inet:{port}@{host}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_way_of_writing_it() {
        for (text, printed) in [
            ("inet:11332@127.0.0.1", "inet:11332@127.0.0.1"),
            ("inet:localhost:8891", "inet:8891@localhost"),
            ("inet6:11332@::1", "inet:11332@::1"),
            ("inet:[::1]:11332", "inet:11332@::1"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("local:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), printed);
            assert_eq!(printed.parse::<Endpoint>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "inet:",
            "inet:11332",
            "inet:0@h",
            "inet:x@h",
            "inet:1@",
            "inet:1@a b",
            "unix:x.sock",
            "unix:",
            "/run/x",
            "tcp:1@h",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError), "{text}");
        }
    }
}
