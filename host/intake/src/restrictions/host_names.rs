//! Restrictions on host and domain names: syntax and DNS checks.

use std::net::IpAddr;

use bytes::Bytes;
use waxwing_config::RestrictionSubject;
use waxwing_pipeline::{DnsError, Resolver};
use waxwing_types::{Address, AddressClass, ReversePath};

use super::{RestrictionDecision, RestrictionRequest, rejection_reply};

/// DNS record type PTR (RFC 1035 §3.3.12).
const TYPE_PTR: u16 = 12;
/// Maximum number of PTR names tried for an address.
const NAMES_MAX: usize = 5;

/// Result of a reverse lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReverseLookup {
    /// First PTR name of the address.
    pub(crate) name: Option<String>,
    /// PTR name confirmed by a forward lookup.
    pub(crate) confirmed: Option<String>,
}

/// Looks up the PTR names of an address and confirms a name by forward lookup.
pub(crate) async fn reverse_lookup(resolver: &dyn Resolver, ip: IpAddr) -> ReverseLookup {
    let ip = ip.to_canonical();
    let mut lookup = ReverseLookup::default();
    let Ok(records) = resolver.records(&reverse_name(ip), TYPE_PTR).await else { return lookup };
    for name in records.rdata.iter().filter_map(parse_wire_name).take(NAMES_MAX) {
        lookup.name.get_or_insert_with(|| name.clone());
        let addresses = resolver.addresses(&name).await.unwrap_or_default();
        if addresses.iter().any(|address| address.to_canonical() == ip) {
            lookup.confirmed = Some(name);
            return lookup;
        }
    }
    lookup
}

fn reverse_name(ip: IpAddr) -> String {
    let zone = if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    format!("{}.{zone}", reversed_labels(ip))
}

/// Reversed labels of an address: `4.3.2.1`, or the nibbles of an IPv6 address (RFC 3596 §2.5).
pub(super) fn reversed_labels(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

/// Host name from uncompressed wire format (RFC 1035 §3.1); `None` for invalid host names.
fn parse_wire_name(octets: &Bytes) -> Option<String> {
    let mut labels = Vec::new();
    let mut remaining = octets.as_ref();
    while let Some((&length, tail)) = remaining.split_first() {
        if length == 0 {
            break;
        }
        let (label, next) = tail.split_at_checked(usize::from(length))?;
        labels.push(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
        remaining = next;
    }
    let name = labels.join(".");
    is_hostname(&name).then_some(name)
}

/// Returns whether the name is a host name and not an address (RFC 5321 §2.3.5); `_` is not permitted in host names.
fn is_hostname(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_address = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
    !name.starts_with('[')
        && !name.contains('_')
        && !is_address
        && Address::new("x", name).is_ok_and(|address| !address.has_no_domain())
}

/// Returns whether the name is an address literal: `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
fn is_address_literal(name: &str) -> bool {
    let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    let bare = inner.get(..5).filter(|begin| begin.eq_ignore_ascii_case("IPv6:")).and_then(|_| inner.get(5..));
    bare.unwrap_or(inner).parse::<IpAddr>().is_ok()
}

fn is_fqdn(name: &str) -> bool {
    is_address_literal(name) || is_hostname(name) && name.trim_end_matches('.').contains('.')
}

const NOT_FQDN: (u16, (u8, u16, u16)) = (504, (5, 5, 2));

/// Evaluates `reject_invalid_helo_hostname`.
pub(super) fn reject_invalid_helo(request: &RestrictionRequest<'_>) -> RestrictionDecision {
    match request.context.helo.as_deref() {
        Some(name) if !is_hostname(name) && !is_address_literal(name) => {
            reject(request, RestrictionSubject::Helo, (501, (5, 5, 2)), "Invalid name")
        }
        Some(_) | None => RestrictionDecision::Dunno,
    }
}

/// Evaluates the restrictions `reject_non_fqdn_*`.
pub(super) fn reject_non_fqdn(request: &RestrictionRequest<'_>, about: RestrictionSubject) -> RestrictionDecision {
    let (name, why) = match about {
        RestrictionSubject::Helo => (request.context.helo.as_deref(), "need fully-qualified hostname"),
        RestrictionSubject::Sender => {
            (request.sender().and_then(ReversePath::address).map(Address::domain), "need fully-qualified address")
        }
        RestrictionSubject::Recipient => (request.recipient.map(|(address, _)| address.domain()), "need fully-qualified address"),
        RestrictionSubject::Client => (None, ""),
    };
    match name {
        Some(name) if !is_fqdn(name) => reject(request, about, NOT_FQDN, why),
        Some(_) | None => RestrictionDecision::Dunno,
    }
}

/// Evaluates `reject_unknown_helo_hostname`.
pub(super) async fn reject_unknown_helo(resolver: &dyn Resolver, request: &RestrictionRequest<'_>) -> RestrictionDecision {
    match request.context.helo.as_deref() {
        Some(name) if !is_address_literal(name) => {
            require_dns_answer(request, RestrictionSubject::Helo, (4, 7, 1), host_exists(resolver, name).await)
        }
        Some(_) | None => RestrictionDecision::Dunno,
    }
}

/// Evaluates `reject_unknown_sender_domain`, for remote domains only.
pub(super) async fn reject_unknown_sender(
    resolver: &dyn Resolver,
    request: &RestrictionRequest<'_>,
    class: AddressClass,
) -> RestrictionDecision {
    match request.sender() {
        Some(ReversePath::Address(address)) if class == AddressClass::Remote => require_dns_answer(
            request,
            RestrictionSubject::Sender,
            (4, 1, 8),
            domain_accepts_mail(resolver, address.domain()).await,
        ),
        Some(_) | None => RestrictionDecision::Dunno,
    }
}

/// Evaluates `reject_unknown_recipient_domain`, for remote domains only.
pub(super) async fn reject_unknown_recipient(resolver: &dyn Resolver, request: &RestrictionRequest<'_>) -> RestrictionDecision {
    match request.recipient {
        Some((address, AddressClass::Remote)) => require_dns_answer(
            request,
            RestrictionSubject::Recipient,
            (4, 1, 2),
            domain_accepts_mail(resolver, address.domain()).await,
        ),
        Some(_) | None => RestrictionDecision::Dunno,
    }
}

/// Evaluates `reject_unknown_client_hostname`, or with `any` `reject_unknown_reverse_client_hostname`, satisfied by an unconfirmed name.
pub(super) async fn reject_unknown_client(
    resolver: &dyn Resolver,
    request: &RestrictionRequest<'_>,
    any: bool,
) -> RestrictionDecision {
    let Some(client) = request.context.client.as_deref().filter(|client| client.name.is_none()) else {
        return RestrictionDecision::Dunno;
    };
    let lookup = reverse_lookup(resolver, client.peer.ip()).await;
    let (name, why) = match any {
        true => (lookup.name, "cannot find your reverse hostname"),
        false => (lookup.confirmed, "cannot find your hostname"),
    };
    match name {
        Some(_) => RestrictionDecision::Dunno,
        None => reject(request, RestrictionSubject::Client, (450, (4, 7, 25)), why),
    }
}

fn reject(
    request: &RestrictionRequest<'_>,
    about: RestrictionSubject,
    code: (u16, (u8, u16, u16)),
    why: &str,
) -> RestrictionDecision {
    RestrictionDecision::Refuse(rejection_reply(request, about, code, why))
}

/// Refuses names without DNS records. Code 450 as in Postfix's `unknown_*_reject_code`: a missing name may be a temporary mistake.
fn require_dns_answer(
    request: &RestrictionRequest<'_>,
    about: RestrictionSubject,
    enhanced: (u8, u16, u16),
    answer: Result<(), DnsError>,
) -> RestrictionDecision {
    let text = if about == RestrictionSubject::Helo { "Host not found" } else { "Domain not found" };
    match answer {
        Ok(()) => RestrictionDecision::Dunno,
        Err(DnsError::NullMx) if about == RestrictionSubject::Recipient => {
            reject(request, about, (556, (5, 1, 10)), "Domain does not accept mail (nullMX)")
        }
        Err(DnsError::NullMx) => reject(request, about, (550, (5, 7, 27)), "Domain does not accept mail (nullMX)"),
        Err(DnsError::NoSuchName | DnsError::NoData) => reject(request, about, (450, enhanced), text),
        Err(DnsError::Temporary(_)) => reject(request, about, (450, enhanced), &format!("{text} now, try again later")),
    }
}

async fn domain_accepts_mail(resolver: &dyn Resolver, domain: &str) -> Result<(), DnsError> {
    if domain.starts_with('[') {
        return Ok(());
    }
    match resolver.mx(domain).await {
        Err(DnsError::NoData) => resolver.addresses(domain).await.map(|_| ()),
        answer => answer.map(|_| ()),
    }
}

async fn host_exists(resolver: &dyn Resolver, name: &str) -> Result<(), DnsError> {
    if !is_hostname(name) {
        return Err(DnsError::NoSuchName);
    }
    match resolver.addresses(name).await {
        Ok(_) => Ok(()),
        Err(DnsError::Temporary(why)) => Err(DnsError::Temporary(why)),
        Err(_) => resolver.mx(name).await.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_form() {
        for (name, host, fqdn) in [
            ("mail.example.com", true, true),
            ("mail.example.com.", true, true),
            ("localhost", true, false),
            ("192.0.2.1", false, false),
            ("[192.0.2.1]", false, true),
            ("[IPv6:2001:db8::1]", false, true),
            ("[x]", false, false),
            ("a_b.example", false, false),
            ("-a.example", false, false),
            ("a..b", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_hostname(name), is_fqdn(name)), (host, fqdn), "{name}");
        }
    }

    #[test]
    fn addresses_are_turned_round() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(reversed_labels("::ffff:192.0.2.1".parse().unwrap()), "1.2.0.192");
        let v6 = reverse_name("2001:db8::1".parse().unwrap());
        assert_eq!(v6, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }

    #[test]
    fn names_of_the_wire_are_read() {
        assert_eq!(parse_wire_name(&Bytes::from_static(b"\x04Mail\x07example\0")).as_deref(), Some("mail.example"));
        for bad in [&b"\x09short"[..], b"\0", b"\x03a b\x01c\0", b"\x01a\xc0\x0c"] {
            assert_eq!(parse_wire_name(&Bytes::copy_from_slice(bad)), None, "{bad:?}");
        }
    }
}
