//! Classification of IP addresses as public, private or forbidden.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Scope of an IP address, in ascending order of reachability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddressScope {
    /// Forbidden for requests: link-local with the metadata services of clouds, multicast, reserved.
    Forbidden,
    /// Loopback and private networks: RFC 1918, RFC 4193, RFC 6598.
    Private,
    /// Public Internet, reachable by every plugin with a URL grant.
    Public,
}

/// Returns the scope of an address. IPv6 addresses with an embedded IPv4 address have the scope of the embedded address.
pub(crate) fn address_scope(address: IpAddr) -> AddressScope {
    match address {
        IpAddr::V4(address) => ipv4_scope(address),
        IpAddr::V6(address) => ipv6_scope(address),
    }
}

fn ipv4_scope(address: Ipv4Addr) -> AddressScope {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127 | 10, _, _) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => AddressScope::Private,
        // `0.0.0.0/8`, link-local, protocol assignments, documentation, 6to4 relays, benchmarks, multicast and reserved ranges.
        (0 | 224..=255, _, _)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => AddressScope::Forbidden,
        _ => AddressScope::Public,
    }
}

fn ipv6_scope(address: Ipv6Addr) -> AddressScope {
    if address == Ipv6Addr::LOCALHOST {
        return AddressScope::Private;
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| ipv4_scope(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        // IPv4-mapped, IPv4-compatible (with the unspecified address), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        // 6to4 (RFC 3056) and Teredo hide the embedded address: the destination is unknown.
        (0x2002, ..) | (0x2001, 0..=0x01ff | 0xdb8, ..) | (0x3fff, 0..=0x0fff, ..) => AddressScope::Forbidden,
        (0xfc00..=0xfdff, ..) => AddressScope::Private,
        (0x2000..=0x3fff, ..) => AddressScope::Public,
        _ => AddressScope::Forbidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_far_an_address_reaches() {
        for (reach_of, addresses) in [
            (
                AddressScope::Public,
                "8.8.8.8 172.32.0.1 100.128.0.1 192.1.2.3 2001:4860:4860::8888 2a00::1 ::ffff:8.8.8.8 64:ff9b::808:808",
            ),
            (
                AddressScope::Private,
                "127.0.0.1 127.9.9.9 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 ::1 fd00::1 fc00::1 ::ffff:127.0.0.1 \
                 ::ffff:10.0.0.1 ::7f00:1 64:ff9b::7f00:1",
            ),
            (
                AddressScope::Forbidden,
                "0.0.0.0 169.254.169.254 224.0.0.1 255.255.255.255 240.0.0.1 192.0.2.1 198.18.0.1 :: fe80::1 fec0::1 ff02::1 \
                 2001:db8::1 2001::1 2002:7f00:1::1 2002:808:808::1 ::ffff:169.254.169.254 100::1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(address_scope(address.parse().unwrap()), reach_of, "{address}");
            }
        }
    }
}
