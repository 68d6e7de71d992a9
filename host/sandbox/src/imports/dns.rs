//! Interface `dns`: records of granted names, through the server's resolver and cache.

use std::sync::Arc;

use wasmtime::Result;
use waxwing_bindings::imports::dns::{Answer, DnsError, Host};
use waxwing_pipeline::DnsError as PortError;

use crate::state::InstanceState;

/// Maximum length of a domain name in bytes (RFC 1035 section 2.3.4), escapes aside.
const NAME_BYTES_MAX: usize = 255;

/// Checks whether a type is a record type, excluding query and meta types (RFC 6895 section 3.1): a query for ANY or AXFR asks
/// for a complete zone.
fn is_record_type(rrtype: u16) -> bool {
    !matches!(rrtype, 0 | 41 | 128..=255 | u16::MAX)
}

/// Checks a name against patterns: `*`, a name, or `*.` and a parent domain.
fn is_granted(patterns: &[String], name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    patterns.iter().any(|pattern| {
        let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
        match pattern.strip_prefix('*') {
            Some("") => true,
            Some(above) => above.starts_with('.') && name.len() > above.len() && !name.starts_with('.') && name.ends_with(above),
            None => name == pattern,
        }
    })
}

impl InstanceState {
    fn dns_denied(&mut self, reason: &'static str, error: DnsError) -> std::result::Result<Answer, DnsError> {
        self.record_denial("dns.lookup", reason);
        Err(error)
    }
}

impl Host for InstanceState {
    async fn lookup(&mut self, name: String, rrtype: u16) -> Result<std::result::Result<Answer, DnsError>> {
        self.called("dns.lookup");
        let failed = |why: &str| DnsError::Failed(why.to_owned());
        let limits = &self.shared.limits;
        let (queries_max, bytes_max) = (limits.dns_queries_max, limits.dns_answer_bytes_max);
        if !is_granted(&self.shared.grants.dns, &name) {
            return Ok(self.dns_denied("not-granted", DnsError::NotGranted));
        }
        if name.len() > NAME_BYTES_MAX || name.contains(char::is_control) || !is_record_type(rrtype) {
            return Ok(self.dns_denied("malformed", failed("invalid name, or no type of records")));
        }
        self.call.usage.dns_queries += 1;
        if self.call.usage.dns_queries > queries_max {
            return Ok(self.dns_denied("too-many", DnsError::Failed(format!("more than {queries_max} questions in one call"))));
        }
        let Some(resolver) = self.shared.services.resolver.as_ref().map(Arc::clone) else {
            return Ok(self.dns_denied("unavailable", failed("this server has no resolver")));
        };
        Ok(match resolver.records(&name, rrtype).await {
            Ok(records) if records.rdata.iter().map(bytes::Bytes::len).sum::<usize>() > bytes_max => {
                self.dns_denied("too-large", DnsError::Failed(format!("the answer has more than {bytes_max} octets")))
            }
            Ok(records) => Ok(Answer {
                rdata: records.rdata.iter().map(|data| data.to_vec()).collect(),
                ttl_seconds: records.ttl,
                authentic: records.authentic,
            }),
            // A missing name or record is a valid answer, not a denial to be counted.
            Err(PortError::NoSuchName) => Err(DnsError::NoSuchName),
            Err(PortError::NoData | PortError::NullMx) => Err(DnsError::NoData),
            Err(PortError::Temporary(why)) => self.dns_denied("failed", DnsError::Failed(why)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_granted_by_itself_or_by_what_lies_above() {
        let patterns = ["*.zen.example".to_owned(), "One.example.".to_owned()];
        for granted in ["2.0.0.127.zen.example", "a.ZEN.example.", "one.example"] {
            assert!(is_granted(&patterns, granted), "{granted}");
        }
        for other in ["zen.example", ".zen.example", "evilzen.example", "a.one.example", "zen.example.evil", ""] {
            assert!(!is_granted(&patterns, other), "{other}");
        }
        assert!(is_granted(&["*".to_owned()], "any.example"));
        assert!(!is_granted(&["*zen.example".to_owned()], "a.zen.example"), "a star stands for whole labels");
    }

    #[test]
    fn questions_for_whole_zones_are_none() {
        for (rrtype, is) in [(1, true), (16, true), (257, true), (0, false), (41, false), (252, false), (255, false)] {
            assert_eq!(is_record_type(rrtype), is, "{rrtype}");
        }
    }
}
