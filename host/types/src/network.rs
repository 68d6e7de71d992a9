//! Network prefixes of client addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the key of a client in rate limits: the IPv4 address, or the /64 prefix of an IPv6 address, since an IPv6 client
/// usually controls a whole /64. IPv4-mapped addresses count as IPv4.
#[must_use]
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    network_prefix(address.to_canonical(), 32, 64)
}

/// Clears all bits behind the prefix of `v4` bits (IPv4) or `v6` bits (IPv6).
#[must_use]
pub fn network_prefix(address: IpAddr, v4: u8, v6: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0)))
        }
        IpAddr::V6(a) => {
            IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_64() {
        for (address, client) in
            [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")]
        {
            assert_eq!(rate_limit_key(address.parse().unwrap()), client.parse::<IpAddr>().unwrap());
        }
        assert_eq!(network_prefix("192.0.2.7".parse().unwrap(), 24, 48).to_string(), "192.0.2.0");
        assert_eq!(network_prefix("192.0.2.7".parse().unwrap(), 0, 48).to_string(), "0.0.0.0");
    }
}
