//! Access tables (access(5)) and the actions returned by tables and policy services.

use std::net::IpAddr;

use waxwing_config::{Rule, Subject};
use waxwing_message::Field;
use waxwing_types::{Address, EnhancedCode, Reply, ReversePath};

use super::{Asking, Case, Refusal, Ruling, named, refuse, subject_of};
use crate::replies;

/// Lookup key of the null sender (`smtpd_null_access_lookup_key`).
const NULL_SENDER: &str = "<>";

impl Asking<'_> {
    pub(super) async fn access(&mut self, about: Subject, table: &str, rule: &Rule, depth: usize) -> Ruling {
        let Some(lookup) = self.policy.tables.get(table).cloned() else {
            tracing::error!(target: "intake", "{}: table {table} not found", named(self.list, rule));
            return Ruling::Refuse(replies::BAD_POLICY);
        };
        for key in keys(self.case, about) {
            match lookup.get(&key).await {
                Ok(Some(value)) => return self.action(value.trim(), about, rule, depth).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(target: "intake", "{error}");
                    return Ruling::Refuse(replies::LOOKUP_FAILED);
                }
            }
        }
        Ruling::Dunno
    }

    /// Performs the action returned by an access table or a policy service.
    pub(super) async fn action(&mut self, value: &str, about: Subject, rule: &Rule, depth: usize) -> Ruling {
        let (word, text) = value.split_once(char::is_whitespace).map_or((value, ""), |(word, text)| (word, text.trim()));
        let denied = |code, default_text: &str| {
            let (enhanced, reply_text) = with_enhanced(text);
            let reply_text = if reply_text.is_empty() { default_text } else { reply_text };
            own_enhanced(refuse(self.case, about, code, reply_text), enhanced)
        };
        let by = |reply| Refusal { reply, rule: named(self.list, rule) };
        match word.to_ascii_uppercase().as_str() {
            "OK" | "RELAY" | "PERMIT" => return Ruling::Permit,
            "DUNNO" => {}
            "REJECT" => return Ruling::Refuse(denied((554, (5, 7, 1)), "Access denied")),
            "DEFER" => return Ruling::Refuse(denied((450, (4, 7, 1)), "Try again later")),
            "DEFER_IF_PERMIT" => {
                let refusal = by(denied((450, (4, 7, 1)), "Service temporarily unavailable"));
                self.found.defer_if_permit.get_or_insert(refusal);
            }
            "DEFER_IF_REJECT" => self.found.defer_if_reject = true,
            "HOLD" => {
                let reason = if text.is_empty() { named(self.list, rule) } else { text.to_owned() };
                self.found.hold.get_or_insert(reason);
            }
            "DISCARD" => {
                let reason = if text.is_empty() { named(self.list, rule) } else { text.to_owned() };
                self.found.discard.get_or_insert(reason);
                // As in Postfix, DISCARD skips all further restrictions that could refuse the message.
                return Ruling::Permit;
            }
            "WARN" | "INFO" => {
                let reply_text = if text.is_empty() { "warning" } else { text };
                let warning = by(refuse(self.case, about, (450, (4, 7, 1)), reply_text));
                self.found.warnings.push(warning);
            }
            "PREPEND" => match text.split_once(':').map(|(name, value)| Field::new(name.trim(), value.trim().as_bytes())) {
                Some(Ok(field)) => self.found.prepend.push(field),
                Some(Err(_)) | None => return self.bad_action(value, rule),
            },
            "REDIRECT" => match Address::parse(text.trim_matches(['<', '>'])) {
                Ok(address) if !address.is_bare() => self.found.redirect = Some(address),
                Ok(_) | Err(_) => return self.bad_action(value, rule),
            },
            // FILTER and BCC are unsupported: plugins and transports cover both.
            "FILTER" | "BCC" => return self.bad_action(value, rule),
            digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                return match own_code(digits, text, self.case, about) {
                    Some(reply) => Ruling::Refuse(reply),
                    None => Ruling::Permit,
                };
            }
            _ => return self.restrictions(value, rule, depth).await,
        }
        Ruling::Dunno
    }

    async fn restrictions(&mut self, value: &str, rule: &Rule, depth: usize) -> Ruling {
        match self.nested(value, depth).await {
            Some(ruling) => ruling,
            None => self.bad_action(value, rule),
        }
    }

    fn bad_action(&self, value: &str, rule: &Rule) -> Ruling {
        tracing::error!(target: "intake", "{}: unsupported access-map action {value:?}", named(self.list, rule));
        Ruling::Refuse(replies::BAD_POLICY)
    }

    /// Performs the action returned by a policy service.
    pub(super) async fn service_action(&mut self, value: &str, rule: &Rule, depth: usize) -> Ruling {
        let about = subject_of(self.list);
        self.action(value, about, rule, depth).await
    }
}

/// Parses `450 text` or `550 5.7.1 text`; `None` for a code outside 400..600, equivalent to OK.
fn own_code(digits: &str, text: &str, request: &Case<'_>, about: Subject) -> Option<Reply> {
    let code: u16 = digits.parse().ok().filter(|code| (400..600).contains(code))?;
    let class = if code < 500 { 4 } else { 5 };
    let (enhanced, reply_text) = with_enhanced(text);
    let reply_text = if reply_text.is_empty() { "Access denied" } else { reply_text };
    Some(own_enhanced(refuse(request, about, (code, (class, 7, 1)), reply_text), enhanced))
}

/// Splits `5.7.1 text` into enhanced status code and text.
fn with_enhanced(text: &str) -> (Option<EnhancedCode>, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match first.parse() {
        Ok(enhanced) => (Some(enhanced), rest.trim_start()),
        Err(_) => (None, text),
    }
}

fn own_enhanced(reply: Reply, enhanced: Option<EnhancedCode>) -> Reply {
    match enhanced {
        Some(enhanced) => Reply::new(reply.code(), Some(enhanced), reply.text().to_owned()).unwrap_or(reply),
        None => reply,
    }
}

/// Lookup keys for an access table, most specific first.
fn keys(request: &Case<'_>, about: Subject) -> Vec<String> {
    match about {
        Subject::Client => {
            let Some(client) = request.context.client.as_deref() else { return Vec::new() };
            let name = client.name.as_deref().map(domain_keys).unwrap_or_default();
            name.into_iter().chain(network_keys(client.peer.ip())).collect()
        }
        Subject::Helo => request.context.helo.as_deref().map(domain_keys).unwrap_or_default(),
        Subject::Sender => match request.sender {
            Some(ReversePath::Of(address)) => address_keys(address),
            Some(ReversePath::Null) => vec![NULL_SENDER.to_owned()],
            None => Vec::new(),
        },
        Subject::Recipient => request.recipient.map(|(address, _)| address_keys(address)).unwrap_or_default(),
    }
}

/// Domain name and all parent domains.
fn domain_keys(name: &str) -> Vec<String> {
    let name = name.trim_end_matches('.').to_lowercase();
    let mut keys = vec![name.clone()];
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.').filter(|_| !name.starts_with('[')) {
        keys.push(parent.to_owned());
        rest = parent;
    }
    keys
}

/// IP address and enclosing networks, truncated at each dot or colon.
fn network_keys(ip: IpAddr) -> Vec<String> {
    let text = ip.to_canonical().to_string();
    let separator = if text.contains(':') { ':' } else { '.' };
    let mut keys = vec![text.clone()];
    let mut rest = text.as_str();
    while let Some((network, _)) = rest.rsplit_once(separator) {
        let network = network.trim_end_matches(separator);
        if !network.is_empty() {
            keys.push(network.to_owned());
        }
        rest = network;
    }
    keys
}

/// Address keys: `user@domain`, `domain` and parent domains, `user@`.
fn address_keys(address: &Address) -> Vec<String> {
    let mut keys = vec![address.lookup_key()];
    keys.extend(domain_keys(address.domain()));
    keys.push(format!("{}@", address.local().to_lowercase()));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_from_near_to_far() {
        assert_eq!(
            address_keys(&Address::parse("Ann@a.b.example").unwrap()),
            ["ann@a.b.example", "a.b.example", "b.example", "example", "ann@"]
        );
        assert_eq!(network_keys("192.0.2.1".parse().unwrap()), ["192.0.2.1", "192.0.2", "192.0", "192"]);
        assert_eq!(network_keys("2001:db8::1".parse().unwrap()), ["2001:db8::1", "2001:db8", "2001"]);
        assert_eq!(domain_keys("[192.0.2.1]"), ["[192.0.2.1]"]);
    }
}
