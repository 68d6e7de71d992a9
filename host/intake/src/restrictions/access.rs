//! Access tables (access(5)) and the actions returned by tables and policy services.

use std::net::IpAddr;

use waxwing_config::{Restriction, RestrictionSubject};
use waxwing_message::Field;
use waxwing_types::{Address, EnhancedCode, Reply, ReversePath};

use super::{
    RestrictionDecision, RestrictionEvaluator, RestrictionRefusal, RestrictionRequest, default_subject, rejection_reply,
    rule_label,
};
use crate::replies;

/// Lookup key of the null sender (`smtpd_null_access_lookup_key`).
const NULL_SENDER: &str = "<>";

impl RestrictionEvaluator<'_> {
    pub(super) async fn check_access(
        &mut self,
        about: RestrictionSubject,
        table: &str,
        rule: &Restriction,
        depth: usize,
    ) -> RestrictionDecision {
        let Some(lookup) = self.policy.tables.get(table).cloned() else {
            tracing::error!(target: "intake", "{}: table {table} not found", rule_label(self.list, rule));
            return RestrictionDecision::Refuse(replies::CONFIGURATION_ERROR);
        };
        for key in lookup_keys(self.request, about) {
            match lookup.get(&key).await {
                Ok(Some(value)) => return self.apply_action(value.trim(), about, rule, depth).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(target: "intake", "{error}");
                    return RestrictionDecision::Refuse(replies::LOOKUP_FAILED);
                }
            }
        }
        RestrictionDecision::Dunno
    }

    /// Performs the action returned by an access table or a policy service.
    pub(super) async fn apply_action(
        &mut self,
        value: &str,
        about: RestrictionSubject,
        rule: &Restriction,
        depth: usize,
    ) -> RestrictionDecision {
        let (word, text) = value.split_once(char::is_whitespace).map_or((value, ""), |(word, text)| (word, text.trim()));
        let denied = |code, default_text: &str| {
            let (enhanced, reply_text) = split_enhanced_code(text);
            let reply_text = if reply_text.is_empty() { default_text } else { reply_text };
            replace_enhanced_code(rejection_reply(self.request, about, code, reply_text), enhanced)
        };
        let by = |reply| RestrictionRefusal { reply, rule: rule_label(self.list, rule) };
        match word.to_ascii_uppercase().as_str() {
            "OK" | "RELAY" | "PERMIT" => return RestrictionDecision::Permit,
            "DUNNO" => {}
            "REJECT" => return RestrictionDecision::Refuse(denied((554, (5, 7, 1)), "Access denied")),
            "DEFER" => return RestrictionDecision::Refuse(denied((450, (4, 7, 1)), "Try again later")),
            "DEFER_IF_PERMIT" => {
                let refusal = by(denied((450, (4, 7, 1)), "Service temporarily unavailable"));
                self.outcome.defer_if_permit.get_or_insert(refusal);
            }
            "DEFER_IF_REJECT" => self.outcome.defer_if_reject = true,
            "HOLD" => {
                let reason = if text.is_empty() { rule_label(self.list, rule) } else { text.to_owned() };
                self.outcome.hold.get_or_insert(reason);
            }
            "DISCARD" => {
                let reason = if text.is_empty() { rule_label(self.list, rule) } else { text.to_owned() };
                self.outcome.discard.get_or_insert(reason);
                // As in Postfix, DISCARD skips all further restrictions that could refuse the message.
                return RestrictionDecision::Permit;
            }
            "WARN" | "INFO" => {
                let reply_text = if text.is_empty() { "warning" } else { text };
                let warning = by(rejection_reply(self.request, about, (450, (4, 7, 1)), reply_text));
                self.outcome.warnings.push(warning);
            }
            "PREPEND" => match text.split_once(':').map(|(name, value)| Field::new(name.trim(), value.trim().as_bytes())) {
                Some(Ok(field)) => self.outcome.prepend.push(field),
                Some(Err(_)) | None => return self.unsupported_action(value, rule),
            },
            "REDIRECT" => match Address::parse(text.trim_matches(['<', '>'])) {
                Ok(address) if !address.has_no_domain() => self.outcome.redirect = Some(address),
                Ok(_) | Err(_) => return self.unsupported_action(value, rule),
            },
            // FILTER and BCC are unsupported: plugins and transports cover both.
            "FILTER" | "BCC" => return self.unsupported_action(value, rule),
            digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                return match reply_with_code(digits, text, self.request, about) {
                    Some(reply) => RestrictionDecision::Refuse(reply),
                    None => RestrictionDecision::Permit,
                };
            }
            _ => return self.apply_named_restrictions(value, rule, depth).await,
        }
        RestrictionDecision::Dunno
    }

    async fn apply_named_restrictions(&mut self, value: &str, rule: &Restriction, depth: usize) -> RestrictionDecision {
        match self.evaluate_nested(value, depth).await {
            Some(ruling) => ruling,
            None => self.unsupported_action(value, rule),
        }
    }

    fn unsupported_action(&self, value: &str, rule: &Restriction) -> RestrictionDecision {
        tracing::error!(target: "intake", "{}: unsupported access-map action {value:?}", rule_label(self.list, rule));
        RestrictionDecision::Refuse(replies::CONFIGURATION_ERROR)
    }

    /// Performs the action returned by a policy service.
    pub(super) async fn apply_service_action(&mut self, value: &str, rule: &Restriction, depth: usize) -> RestrictionDecision {
        let about = default_subject(self.list);
        self.apply_action(value, about, rule, depth).await
    }
}

/// Parses `450 text` or `550 5.7.1 text`; `None` for a code outside 400..600, equivalent to OK.
fn reply_with_code(digits: &str, text: &str, request: &RestrictionRequest<'_>, about: RestrictionSubject) -> Option<Reply> {
    let code: u16 = digits.parse().ok().filter(|code| (400..600).contains(code))?;
    let class = if code < 500 { 4 } else { 5 };
    let (enhanced, reply_text) = split_enhanced_code(text);
    let reply_text = if reply_text.is_empty() { "Access denied" } else { reply_text };
    Some(replace_enhanced_code(rejection_reply(request, about, (code, (class, 7, 1)), reply_text), enhanced))
}

/// Splits `5.7.1 text` into enhanced status code and text.
fn split_enhanced_code(text: &str) -> (Option<EnhancedCode>, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match first.parse() {
        Ok(enhanced) => (Some(enhanced), rest.trim_start()),
        Err(_) => (None, text),
    }
}

fn replace_enhanced_code(reply: Reply, enhanced: Option<EnhancedCode>) -> Reply {
    match enhanced {
        Some(enhanced) => Reply::new(reply.code(), Some(enhanced), reply.text().to_owned()).unwrap_or(reply),
        None => reply,
    }
}

/// Lookup keys for an access table, most specific first.
fn lookup_keys(request: &RestrictionRequest<'_>, about: RestrictionSubject) -> Vec<String> {
    match about {
        RestrictionSubject::Client => {
            let Some(client) = request.context.client.as_deref() else { return Vec::new() };
            let name = client.name.as_deref().map(domain_keys).unwrap_or_default();
            name.into_iter().chain(network_keys(client.peer.ip())).collect()
        }
        RestrictionSubject::Helo => request.context.helo.as_deref().map(domain_keys).unwrap_or_default(),
        RestrictionSubject::Sender => match request.sender() {
            Some(ReversePath::Address(address)) => address_keys(address),
            Some(ReversePath::Null) => vec![NULL_SENDER.to_owned()],
            None => Vec::new(),
        },
        RestrictionSubject::Recipient => request.recipient.map(|(address, _)| address_keys(address)).unwrap_or_default(),
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
