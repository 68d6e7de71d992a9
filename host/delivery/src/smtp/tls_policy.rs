//! TLS policy: security levels by next hop.

use std::collections::BTreeMap;

use waxwing_types::{NextHop, TlsLevel};

/// TLS levels of `smtp_tls_security_level` and `smtp_tls_policy_maps`.
#[derive(Clone, Debug, Default)]
pub struct TlsPolicy {
    /// Level for next hops outside the table.
    pub default: TlsLevel,
    /// Levels by next hop as in the route (`[mail.example.com]:587`), by host alone, or by `.domain` for subdomains.
    pub by_destination: BTreeMap<String, TlsLevel>,
}

impl TlsPolicy {
    /// Returns the level of a next hop. The most specific entry wins.
    #[must_use]
    pub fn level(&self, hop: &NextHop) -> TlsLevel {
        if self.by_destination.is_empty() {
            return self.default;
        }
        let bare = hop.host.trim_start_matches('[').trim_end_matches(']');
        let with_port = hop.port.map(|port| format!("{}:{port}", hop.host));
        let exact = [with_port.as_deref(), Some(hop.host.as_str()), Some(bare)];
        let parents = bare.char_indices().filter(|(_, c)| *c == '.').filter_map(|(at, _)| bare.get(at..));
        let mut names = exact.into_iter().flatten().chain(parents);
        names.find_map(|name| self.by_destination.get(name).copied()).unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_entry_counts() {
        let entries = [("[mx.example]:587", TlsLevel::Verify), ("mx.example", TlsLevel::Encrypt), (".example", TlsLevel::None)];
        let by_destination = entries.map(|(name, level)| (name.to_owned(), level)).into();
        let policy = TlsPolicy { default: TlsLevel::May, by_destination };
        for (host, port, level) in [
            ("[mx.example]", Some(587), TlsLevel::Verify),
            ("[mx.example]", Some(25), TlsLevel::Encrypt),
            ("mx.example", None, TlsLevel::Encrypt),
            ("a.b.example", None, TlsLevel::None),
            ("example", None, TlsLevel::May),
            ("other.test", None, TlsLevel::May),
        ] {
            let hop = NextHop { transport: "smtp".into(), host: host.into(), port };
            assert_eq!(policy.level(&hop), level, "{host} {port:?}");
        }
    }
}
