//! Tests of names: their form, and what the DNS says of them.

use std::net::IpAddr;

use bytes::Bytes;
use waxwing_config::Subject;
use waxwing_pipeline::{DnsError, Resolver};
use waxwing_types::{Address, AddressClass, ReversePath};

use super::{Case, Ruling, refuse};

/// PTR (RFC 1035 §3.3.12).
const PTR: u16 = 12;
/// Names of one address that are tried.
const NAMES_MAX: usize = 5;

/// What the DNS says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reverse {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Its name that leads back to it.
    pub(crate) confirmed: Option<String>,
}

/// Looks an address up and back.
pub(crate) async fn reverse(resolver: &dyn Resolver, ip: IpAddr) -> Reverse {
    let ip = ip.to_canonical();
    let mut found = Reverse::default();
    let Ok(records) = resolver.records(&reverse_name(ip), PTR).await else { return found };
    for name in records.rdata.iter().filter_map(wire_name).take(NAMES_MAX) {
        found.name.get_or_insert_with(|| name.clone());
        let addresses = resolver.addresses(&name).await.unwrap_or_default();
        if addresses.iter().any(|address| address.to_canonical() == ip) {
            found.confirmed = Some(name);
            return found;
        }
    }
    found
}

fn reverse_name(ip: IpAddr) -> String {
    let zone = if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    format!("{}.{zone}", reversed(ip))
}

/// `4.3.2.1`, or the nibbles of an IPv6 address (RFC 3596 §2.5).
pub(super) fn reversed(ip: IpAddr) -> String {
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

/// A name in wire form, uncompressed (RFC 1035 §3.1); only one that can be a host's.
fn wire_name(octets: &Bytes) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = octets.as_ref();
    while let Some((&length, behind)) = rest.split_first() {
        if length == 0 {
            break;
        }
        let (label, next) = behind.split_at_checked(usize::from(length))?;
        labels.push(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
        rest = next;
    }
    let name = labels.join(".");
    is_hostname(&name).then_some(name)
}

/// A host name, not an address (RFC 5321 §2.3.5); without `_`, which hosts do not have.
fn is_hostname(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_address = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
    !name.starts_with('[')
        && !name.contains('_')
        && !is_address
        && Address::new("x", name).is_ok_and(|address| !address.is_bare())
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
fn is_literal(name: &str) -> bool {
    let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    let bare = inner.get(..5).filter(|begin| begin.eq_ignore_ascii_case("IPv6:")).and_then(|_| inner.get(5..));
    bare.unwrap_or(inner).parse::<IpAddr>().is_ok()
}

fn is_fqdn(name: &str) -> bool {
    is_literal(name) || is_hostname(name) && name.trim_end_matches('.').contains('.')
}

const NOT_FQDN: (u16, (u8, u16, u16)) = (504, (5, 5, 2));

/// `reject_invalid_helo_hostname`.
pub(super) fn invalid_helo(case: &Case<'_>) -> Ruling {
    match case.context.helo.as_deref() {
        Some(name) if !is_hostname(name) && !is_literal(name) => no(case, Subject::Helo, (501, (5, 5, 2)), "Invalid name"),
        Some(_) | None => Ruling::Dunno,
    }
}

/// `reject_non_fqdn_...`.
pub(super) fn non_fqdn(case: &Case<'_>, about: Subject) -> Ruling {
    let (name, why) = match about {
        Subject::Helo => (case.context.helo.as_deref(), "need fully-qualified hostname"),
        Subject::Sender => (case.sender.and_then(ReversePath::address).map(Address::domain), "need fully-qualified address"),
        Subject::Recipient => (case.recipient.map(|(address, _)| address.domain()), "need fully-qualified address"),
        Subject::Client => (None, ""),
    };
    match name {
        Some(name) if !is_fqdn(name) => no(case, about, NOT_FQDN, why),
        Some(_) | None => Ruling::Dunno,
    }
}

/// `reject_unknown_helo_hostname`.
pub(super) async fn unknown_helo(resolver: &dyn Resolver, case: &Case<'_>) -> Ruling {
    match case.context.helo.as_deref() {
        Some(name) if !is_literal(name) => known(case, Subject::Helo, (4, 7, 1), has_host(resolver, name).await),
        Some(_) | None => Ruling::Dunno,
    }
}

/// `reject_unknown_sender_domain`: of domains that are not ours.
pub(super) async fn unknown_sender(resolver: &dyn Resolver, case: &Case<'_>, class: AddressClass) -> Ruling {
    match case.sender {
        Some(ReversePath::Of(address)) if class == AddressClass::Default => {
            known(case, Subject::Sender, (4, 1, 8), takes_mail(resolver, address.domain()).await)
        }
        Some(_) | None => Ruling::Dunno,
    }
}

/// `reject_unknown_recipient_domain`: of domains that are not ours.
pub(super) async fn unknown_recipient(resolver: &dyn Resolver, case: &Case<'_>) -> Ruling {
    match case.recipient {
        Some((address, AddressClass::Default)) => {
            known(case, Subject::Recipient, (4, 1, 2), takes_mail(resolver, address.domain()).await)
        }
        Some(_) | None => Ruling::Dunno,
    }
}

/// `reject_unknown_client_hostname`, and `reject_unknown_reverse_client_hostname`, which is content with any name.
pub(super) async fn unknown_client(resolver: &dyn Resolver, case: &Case<'_>, any: bool) -> Ruling {
    let Some(client) = case.context.client.as_deref().filter(|client| client.name.is_none()) else { return Ruling::Dunno };
    let found = reverse(resolver, client.peer.ip()).await;
    let (name, why) = match any {
        true => (found.name, "cannot find your reverse hostname"),
        false => (found.confirmed, "cannot find your hostname"),
    };
    match name {
        Some(_) => Ruling::Dunno,
        None => no(case, Subject::Client, (450, (4, 7, 25)), why),
    }
}

fn no(case: &Case<'_>, about: Subject, code: (u16, (u8, u16, u16)), why: &str) -> Ruling {
    Ruling::Refuse(refuse(case, about, code, why))
}

/// Postfix's `unknown_..._reject_code` are 450: a name may be missing by mistake.
fn known(case: &Case<'_>, about: Subject, enhanced: (u8, u16, u16), answer: Result<(), DnsError>) -> Ruling {
    let word = if about == Subject::Helo { "Host not found" } else { "Domain not found" };
    match answer {
        Ok(()) => Ruling::Dunno,
        Err(DnsError::NullMx) if about == Subject::Recipient => {
            no(case, about, (556, (5, 1, 10)), "Domain does not accept mail (nullMX)")
        }
        Err(DnsError::NullMx) => no(case, about, (550, (5, 7, 27)), "Domain does not accept mail (nullMX)"),
        Err(DnsError::NoSuchName | DnsError::NoData) => no(case, about, (450, enhanced), word),
        Err(DnsError::Temporary(_)) => no(case, about, (450, enhanced), &format!("{word} now, try again later")),
    }
}

async fn takes_mail(resolver: &dyn Resolver, domain: &str) -> Result<(), DnsError> {
    if domain.starts_with('[') {
        return Ok(());
    }
    match resolver.mx(domain).await {
        Err(DnsError::NoData) => resolver.addresses(domain).await.map(|_| ()),
        answer => answer.map(|_| ()),
    }
}

async fn has_host(resolver: &dyn Resolver, name: &str) -> Result<(), DnsError> {
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
        assert_eq!(reversed("::ffff:192.0.2.1".parse().unwrap()), "1.2.0.192");
        let v6 = reverse_name("2001:db8::1".parse().unwrap());
        assert_eq!(v6, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }

    #[test]
    fn names_of_the_wire_are_read() {
        assert_eq!(wire_name(&Bytes::from_static(b"\x04Mail\x07example\0")).as_deref(), Some("mail.example"));
        for bad in [&b"\x09short"[..], b"\0", b"\x03a b\x01c\0", b"\x01a\xc0\x0c"] {
            assert_eq!(wire_name(&Bytes::copy_from_slice(bad)), None, "{bad:?}");
        }
    }
}
