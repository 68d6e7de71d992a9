//! The PROXY protocol, versions 1 and 2, by which a proxy reports the address of the client.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// Maximum length of a version 1 header in bytes, including CR LF (§2.1).
pub const V1_BYTES_MAX: usize = 107;
/// Maximum length of the variable part of a version 2 header in bytes: addresses and TLVs. TLVs are skipped.
pub const V2_VARIABLE_BYTES_MAX: usize = 2048;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
/// Length of `PROXY UNKNOWN` with CR LF: the minimum of both versions.
const SHORTEST_BYTES: usize = 15;

/// A parsed PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Length of the header in bytes; later bytes belong to the client.
    pub length: usize,
    /// Addresses of client and server as seen by the proxy. `None`: a connection of the proxy for its own purposes
    /// (LOCAL, such as a health check), or unknown addresses.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Result of parsing a prefix of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyParseResult {
    /// The header is incomplete and lacks at least this number of bytes, which is never zero.
    NeedMore(usize),
    /// The header is complete.
    Complete(ProxyHeader),
}

/// Failure to read a PROXY header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The bytes are not the start of a PROXY header.
    #[error("no PROXY header: {0}")]
    Syntax(&'static str),
    /// The header did not arrive within the time.
    #[error("no PROXY header in time")]
    Timeout,
    /// The connection ended or failed before the header was complete.
    #[error("PROXY header: {0}")]
    Read(#[from] io::Error),
}

/// Parses the first bytes of a connection.
pub fn parse(octets: &[u8]) -> Result<ProxyParseResult, ProxyError> {
    let start = octets.get(..V2_START.len()).unwrap_or(octets);
    if V2_START.starts_with(start) && !octets.is_empty() {
        return parse_v2(octets);
    }
    let start = octets.get(..V1_START.len()).unwrap_or(octets);
    match V1_START.starts_with(start) {
        true => parse_v1(octets),
        false => Err(ProxyError::Syntax("unknown signature")),
    }
}

fn parse_v1(octets: &[u8]) -> Result<ProxyParseResult, ProxyError> {
    let seen = octets.get(..V1_BYTES_MAX).unwrap_or(octets);
    let Some(end) = seen.iter().position(|octet| *octet == b'\n') else {
        return match octets.len() {
            V1_BYTES_MAX.. => Err(ProxyError::Syntax("line too long")),
            short @ ..SHORTEST_BYTES => Ok(ProxyParseResult::NeedMore(SHORTEST_BYTES - short)),
            _ if octets.ends_with(b"\r") => Ok(ProxyParseResult::NeedMore(1)),
            // At least the line end is missing; the request must not exceed the maximum line length.
            length => Ok(ProxyParseResult::NeedMore(2.min(V1_BYTES_MAX - length))),
        };
    };
    let line = octets.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.ok_or(ProxyError::Syntax("line without CR LF, or not text"))?.split(' ').collect();
    let addresses = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", client, server, client_port, server_port] => {
            let ip = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            Some(address_pair(ip(client), client_port, ip(server), server_port)?)
        }
        ["PROXY", "TCP6", client, server, client_port, server_port] => {
            let ip = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
            Some(address_pair(ip(client), client_port, ip(server), server_port)?)
        }
        _ => return Err(ProxyError::Syntax("expected UNKNOWN, or TCP4 or TCP6 with two addresses and two ports")),
    };
    Ok(ProxyParseResult::Complete(ProxyHeader { length: end + 1, addresses }))
}

fn address_pair(
    client: Option<IpAddr>,
    client_port: &str,
    server: Option<IpAddr>,
    server_port: &str,
) -> Result<(SocketAddr, SocketAddr), ProxyError> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    match (client, port(client_port), server, port(server_port)) {
        (Some(client), Some(client_port), Some(server), Some(server_port)) => {
            Ok((SocketAddr::new(client.to_canonical(), client_port), SocketAddr::new(server.to_canonical(), server_port)))
        }
        _ => Err(ProxyError::Syntax("invalid address or port")),
    }
}

fn parse_v2(octets: &[u8]) -> Result<ProxyParseResult, ProxyError> {
    let Some((fixed, rest)) = octets.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(ProxyParseResult::NeedMore(V2_FIXED_BYTES.saturating_sub(octets.len()).max(1)));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_VARIABLE_BYTES_MAX {
        return Err(ProxyError::Syntax("header too long"));
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(ProxyParseResult::NeedMore(length.saturating_sub(rest.len()).max(1)));
    };
    let addresses = match (command, family) {
        // LOCAL: the addresses have no meaning.
        (0x20, _) => None,
        // Unspecified family, or Unix sockets: without an IP address.
        (0x21, 0x00 | 0x31) => None,
        (0x21, 0x11) => Some(v4_pair(rest).ok_or(ProxyError::Syntax("truncated addresses"))?),
        (0x21, 0x21) => Some(v6_pair(rest).ok_or(ProxyError::Syntax("truncated addresses"))?),
        (0x21, _) => return Err(ProxyError::Syntax("not a TCP connection")),
        _ => return Err(ProxyError::Syntax("unknown version or command")),
    };
    Ok(ProxyParseResult::Complete(ProxyHeader { length: V2_FIXED_BYTES + length, addresses }))
}

fn v4_pair(rest: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (client, rest) = rest.split_first_chunk::<4>()?;
    let (server, rest) = rest.split_first_chunk::<4>()?;
    let (client_port, server_port) = ports(rest)?;
    Some((SocketAddr::new(IpAddr::from(*client), client_port), SocketAddr::new(IpAddr::from(*server), server_port)))
}

fn v6_pair(rest: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (client, rest) = rest.split_first_chunk::<16>()?;
    let (server, rest) = rest.split_first_chunk::<16>()?;
    let (client_port, server_port) = ports(rest)?;
    let ip = |octets: [u8; 16]| IpAddr::from(octets).to_canonical();
    Some((SocketAddr::new(ip(*client), client_port), SocketAddr::new(ip(*server), server_port)))
}

fn ports(rest: &[u8]) -> Option<(u16, u16)> {
    let (client, rest) = rest.split_first_chunk::<2>()?;
    let (server, _) = rest.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*client), u16::from_be_bytes(*server)))
}

/// Reads exactly the header, within `time_max`.
pub async fn read<R: AsyncRead + Unpin>(io: &mut R, time_max: Duration) -> Result<ProxyHeader, ProxyError> {
    let reading = async {
        let mut octets = Vec::new();
        loop {
            match parse(&octets)? {
                ProxyParseResult::Complete(header) => return Ok(header),
                ProxyParseResult::NeedMore(more) => {
                    let before = octets.len();
                    octets.resize(before + more, 0);
                    let read = io.read(octets.get_mut(before..).unwrap_or_default()).await?;
                    octets.truncate(before + read);
                    if read == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
    };
    timeout(time_max, reading).await.unwrap_or(Err(ProxyError::Timeout))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_START.as_slice(), &[command, family], &length, rest].concat()
    }

    fn client(octets: &[u8]) -> Option<String> {
        match parse(octets).unwrap() {
            ProxyParseResult::Complete(header) => {
                assert_eq!(header.length, octets.len());
                header.addresses.map(|(client, server)| format!("{client} {server}"))
            }
            ProxyParseResult::NeedMore(more) => panic!("needs {more} more"),
        }
    }

    #[test]
    fn both_versions_name_the_client() {
        assert_eq!(client(V4).unwrap(), "192.0.2.1:56324 198.51.100.2:25");
        assert_eq!(client(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n").unwrap(), "[2001:db8::1]:1 [2001:db8::2]:65535");
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(client(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), None);
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0, 80, 0, 25];
        assert_eq!(client(&v2(0x21, 0x11, &four)).unwrap(), "192.0.2.1:80 198.51.100.2:25");
        let additions = [four.as_slice(), &[4, 0, 1, 0]].concat();
        assert_eq!(client(&v2(0x21, 0x11, &additions)).unwrap(), "192.0.2.1:80 198.51.100.2:25");
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 80, 25);
        assert_eq!(client(&v2(0x21, 0x21, &six)).unwrap(), "[::1]:80 [::2]:25");
        // An IPv4 client behind an IPv6 socket counts as what it is.
        (six[10], six[11], six[12]) = (255, 255, 127);
        assert!(client(&v2(0x21, 0x21, &six)).unwrap().starts_with("127.0.0.1:80 "));
        for local in [v2(0x20, 0x11, &four), v2(0x20, 0, &[]), v2(0x21, 0, &[1, 2, 3]), v2(0x21, 0x31, &[0; 216])] {
            assert_eq!(client(&local), None);
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        for octets in [
            b"EHLO x\r\n".as_slice(),
            b"X",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 \r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 056 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            b"PROXY UNKNOWN\n",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; V1_BYTES_MAX]].concat(),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            &v2(0x21, 0x11, &[0; V2_VARIABLE_BYTES_MAX + 1]),
        ] {
            assert!(
                matches!(parse(octets), Err(ProxyError::Syntax(_))),
                "{:?} -> {:?}",
                String::from_utf8_lossy(octets),
                parse(octets)
            );
        }
    }

    proptest! {
        #[test]
        fn no_octets_cause_a_panic_and_none_beyond_the_header_are_asked_for(octets: Vec<u8>, start in 0..4_u8) {
            let begin: &[u8] = match start {
                0 => b"",
                1 => b"PROXY TCP4 ",
                2 => V2_START,
                _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
            };
            let octets = [begin, &octets].concat();
            match parse(&octets) {
                Ok(ProxyParseResult::NeedMore(more)) => prop_assert!(more > 0 && more <= V2_VARIABLE_BYTES_MAX + V2_FIXED_BYTES),
                Ok(ProxyParseResult::Complete(header)) => prop_assert!(header.length <= octets.len()),
                Err(_) => {}
            }
        }

        #[test]
        fn a_header_in_pieces_is_read_to_its_last_octet(a: [u8; 4], b: [u8; 4], port: u16, tail: Vec<u8>, is_v2: bool) {
            let (a, b) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            let header = match is_v2 {
                false => format!("PROXY TCP4 {a} {b} {port} 25\r\n").into_bytes(),
                true => v2(0x21, 0x11, &[&a.octets()[..], &b.octets(), &port.to_be_bytes(), &[0, 25]].concat()),
            };
            let stream = [header.as_slice(), &tail].concat();
            let mut have = 0;
            loop {
                match parse(&stream[..have]).unwrap() {
                    ProxyParseResult::NeedMore(more) => have += more,
                    ProxyParseResult::Complete(found) => {
                        prop_assert_eq!((have, found.length), (header.len(), header.len()));
                        prop_assert_eq!(found.addresses.unwrap().0, SocketAddr::from((a, port)));
                        break;
                    }
                }
                prop_assert!(have <= header.len(), "an octet of the client was asked for");
            }
        }
    }
}
