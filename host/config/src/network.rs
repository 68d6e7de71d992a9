//! An IP network: an address and a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use toml::Value;

use crate::reader::{ConfigReader, ValueNode};
use crate::value::{ValueType, expect_string};

/// An IPv4 or IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Failure to parse a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The text is no address, or the prefix is too long.
    #[error("it is not a network")]
    Syntax,
    /// The address has bits set to the right of the prefix.
    #[error("the address has bits right of the prefix; the network is {0}")]
    HostBits(Network),
}

impl Network {
    /// Returns the network with `address` as the only member.
    #[must_use]
    pub fn single_address(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns the prefix length in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Returns whether `address` is in the network; an IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && network_address(address, self.prefix) == self.address
    }
}

fn network_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Parses `10.0.0.0/8`, `[::1]/128`, `::1/128`, or an address without prefix.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.rsplit_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = inner.parse().map_err(|_| NetworkError::Syntax)?;
        let whole = Self::single_address(address);
        let prefix = match prefix {
            None => whole.prefix,
            Some(digits) => digits.parse().ok().filter(|p| *p <= whole.prefix).ok_or(NetworkError::Syntax)?,
        };
        let network = Self { address: network_address(address, prefix), prefix };
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(v4) => write!(f, "{v4}/{}", self.prefix),
            IpAddr::V6(v6) => write!(f, "[{v6}]/{}", self.prefix),
        }
    }
}

/// A network written as a string.
pub(crate) struct NetworkValue;

impl ValueType for NetworkValue {
    type Value = Network;
    const FORM: &'static str = "networks, \"10.0.0.0/8\" or \"[fd00::]/8\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Network> {
        let text = expect_string(node, reader, "a network in quotes, such as \"10.0.0.0/8\"")?;
        match text.parse::<Network>() {
            Ok(network) => Some(network),
            Err(error) => {
                let advice = match &error {
                    NetworkError::HostBits(network) => format!("write \"{network}\""),
                    NetworkError::Syntax => "write an address and a prefix, such as \"10.0.0.0/8\" or \"[::1]/128\"".to_owned(),
                };
                let message = match &error {
                    NetworkError::HostBits(_) => format!("the network \"{text}\" has bits right of its prefix"),
                    NetworkError::Syntax => format!("\"{text}\" is not a network"),
                };
                reader.error(node.span.clone(), message, advice);
                None
            }
        }
    }

    fn show(value: &Network) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_addresses() {
        let loopback: Network = "127.0.0.0/8".parse().unwrap();
        assert!(loopback.contains("127.1.2.3".parse().unwrap()));
        assert!(loopback.contains("::ffff:127.0.0.1".parse().unwrap()), "a mapped address is the IPv4 address");
        assert!(!loopback.contains("128.0.0.1".parse().unwrap()));
        assert!(!loopback.contains("::1".parse().unwrap()));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()) && !all.contains("10.0.0.1".parse().unwrap()));
        assert_eq!("[::1]/128".parse::<Network>().unwrap().to_string(), "[::1]/128");
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().prefix(), 32);
    }

    #[test]
    fn refuses() {
        let inner: Network = "10.0.0.0/8".parse().unwrap();
        assert_eq!("10.0.0.1/8".parse::<Network>(), Err(NetworkError::HostBits(inner)));
        for text in ["", "10.0.0.0/33", "10/8", "[::1/128", "a/8", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Syntax), "{text}");
        }
    }
}
