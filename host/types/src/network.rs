//! Whom addresses belong to, as far as they say so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whom a client's address stands for in limits: itself, or its /64, since an IPv6 client has a whole one to come from. An IPv4 address in an
/// IPv6 one is the IPv4 address.
#[must_use]
pub fn client_of(address: IpAddr) -> IpAddr {
    prefix_of(address.to_canonical(), 32, 64)
}

/// The address with all bits behind the prefix cleared: so many bits of an IPv4 or of an IPv6 address.
#[must_use]
pub fn prefix_of(address: IpAddr, v4: u8, v6: u8) -> IpAddr {
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
            assert_eq!(client_of(address.parse().unwrap()), client.parse::<IpAddr>().unwrap());
        }
        assert_eq!(prefix_of("192.0.2.7".parse().unwrap(), 24, 48).to_string(), "192.0.2.0");
        assert_eq!(prefix_of("192.0.2.7".parse().unwrap(), 0, 48).to_string(), "0.0.0.0");
    }
}
