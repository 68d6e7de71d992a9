//! Restrictions of the `smtpd_..._restrictions` keys, with arguments (Postfix access(5), postconf(5)).

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::str::FromStr;

use toml::Value;
use toml::de::DeValue;
use waxwing_types::{Endpoint, EndpointError};

use crate::reader::{ConfigReader, ValueNode};
use crate::suggestion::closest_match;
use crate::value::{ListOf, ValueType, expect_string};

/// A single entry of a restriction list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// Restriction and argument.
    pub kind: RestrictionKind,
    /// Whether `warn_if_reject` precedes: a rejection is only logged.
    pub warn_only: bool,
    /// Text of the restriction as in the file.
    pub text: String,
}

/// Object of a restriction: the value tested or looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestrictionSubject {
    /// Name and address of the client.
    Client,
    /// Argument of HELO or EHLO.
    Helo,
    /// Address of the MAIL command.
    Sender,
    /// Address of the RCPT command.
    Recipient,
}

/// A restriction, named as in Postfix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the word of Postfix's documentation, in another case")]
pub enum RestrictionKind {
    Permit,
    Reject,
    Defer,
    PermitMynetworks,
    PermitSaslAuthenticated,
    PermitTlsAllClientcerts,
    PermitAuthDestination,
    RejectUnauthDestination,
    RejectInvalidHeloHostname,
    RejectNonFqdnHeloHostname,
    RejectNonFqdnSender,
    RejectNonFqdnRecipient,
    RejectUnknownHeloHostname,
    RejectUnknownSenderDomain,
    RejectUnknownRecipientDomain,
    RejectUnknownClientHostname,
    RejectUnknownReverseClientHostname,
    RejectUnlistedSender,
    RejectUnlistedRecipient,
    RejectSenderLoginMismatch,
    RejectAuthenticatedSenderLoginMismatch,
    RejectUnauthenticatedSenderLoginMismatch,
    RejectMultiRecipientBounce,
    RejectUnverifiedSender,
    RejectUnverifiedRecipient,
    /// `reject_rbl_client`: looks up the client's address.
    RejectRbl(DnsList),
    /// `reject_rhsbl_client`, `_helo`, `_sender`, `_recipient`: looks up a domain.
    RejectRhsbl(RestrictionSubject, DnsList),
    PermitDnswlClient(DnsList),
    /// `check_..._access`, with the name of a table.
    Access(RestrictionSubject, String),
    CheckPolicyService(Endpoint),
}

const WITHOUT_ARGUMENT: &[(&str, RestrictionKind)] = &[
    ("permit", RestrictionKind::Permit),
    ("reject", RestrictionKind::Reject),
    ("defer", RestrictionKind::Defer),
    ("permit_mynetworks", RestrictionKind::PermitMynetworks),
    ("permit_sasl_authenticated", RestrictionKind::PermitSaslAuthenticated),
    ("permit_tls_all_clientcerts", RestrictionKind::PermitTlsAllClientcerts),
    ("permit_auth_destination", RestrictionKind::PermitAuthDestination),
    ("reject_unauth_destination", RestrictionKind::RejectUnauthDestination),
    ("reject_invalid_helo_hostname", RestrictionKind::RejectInvalidHeloHostname),
    ("reject_non_fqdn_helo_hostname", RestrictionKind::RejectNonFqdnHeloHostname),
    ("reject_non_fqdn_sender", RestrictionKind::RejectNonFqdnSender),
    ("reject_non_fqdn_recipient", RestrictionKind::RejectNonFqdnRecipient),
    ("reject_unknown_helo_hostname", RestrictionKind::RejectUnknownHeloHostname),
    ("reject_unknown_sender_domain", RestrictionKind::RejectUnknownSenderDomain),
    ("reject_unknown_recipient_domain", RestrictionKind::RejectUnknownRecipientDomain),
    ("reject_unknown_client_hostname", RestrictionKind::RejectUnknownClientHostname),
    ("reject_unknown_reverse_client_hostname", RestrictionKind::RejectUnknownReverseClientHostname),
    ("reject_unlisted_sender", RestrictionKind::RejectUnlistedSender),
    ("reject_unlisted_recipient", RestrictionKind::RejectUnlistedRecipient),
    ("reject_sender_login_mismatch", RestrictionKind::RejectSenderLoginMismatch),
    ("reject_authenticated_sender_login_mismatch", RestrictionKind::RejectAuthenticatedSenderLoginMismatch),
    ("reject_unauthenticated_sender_login_mismatch", RestrictionKind::RejectUnauthenticatedSenderLoginMismatch),
    ("reject_multi_recipient_bounce", RestrictionKind::RejectMultiRecipientBounce),
    ("reject_unverified_sender", RestrictionKind::RejectUnverifiedSender),
    ("reject_unverified_recipient", RestrictionKind::RejectUnverifiedRecipient),
];

/// Restrictions with an argument.
const WITH_ARGUMENT: [&str; 11] = [
    "reject_rbl_client",
    "reject_rhsbl_client",
    "reject_rhsbl_helo",
    "reject_rhsbl_sender",
    "reject_rhsbl_recipient",
    "permit_dnswl_client",
    "check_client_access",
    "check_helo_access",
    "check_sender_access",
    "check_recipient_access",
    "check_policy_service",
];

/// Postfix restrictions without support, each with the replacement.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("reject_unauth_pipelining", "postscreen_greet_wait rejects clients that send data too early: leave the restriction out"),
    ("defer_unauth_destination", "unauthorized relaying is always rejected: write reject_unauth_destination, or leave it out"),
    ("permit_inet_interfaces", "write permit_mynetworks"),
];

/// A syntax error in a restriction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {advice}")]
pub struct RestrictionError {
    /// Byte range of the faulty word in the text.
    pub span: Range<usize>,
    /// Description of the error.
    pub message: String,
    /// Suggested correction of the text.
    pub advice: String,
}

impl FromStr for Restriction {
    type Err = RestrictionError;

    fn from_str(text: &str) -> Result<Self, RestrictionError> {
        let mut words = WordSpans { text, offset: 0 };
        let mut first = words.next();
        let warn = first.as_ref().is_some_and(|(_, word)| *word == "warn_if_reject");
        if warn {
            first = words.next();
        }
        let Some((place, word)) = first else {
            let advice = "write one restriction, such as \"permit_mynetworks\"".to_owned();
            return Err(RestrictionError { span: 0..text.len(), message: "a restriction is missing".to_owned(), advice });
        };
        let argument = words.next();
        let test = parse_kind(place, word, argument.clone(), text)?;
        if let Some((at, more)) = words.next().or_else(|| argument.filter(|_| !takes_argument(word))) {
            let advice = "write each restriction as an element of its own: [\"...\", \"...\"]".to_owned();
            return Err(RestrictionError { span: at, message: format!("unexpected \"{more}\" after \"{word}\""), advice });
        }
        Ok(Self { kind: test, warn_only: warn, text: text.trim().to_owned() })
    }
}

fn takes_argument(word: &str) -> bool {
    WITH_ARGUMENT.contains(&word)
}

fn parse_kind(
    place: Range<usize>,
    word: &str,
    argument: Option<(Range<usize>, &str)>,
    text: &str,
) -> Result<RestrictionKind, RestrictionError> {
    if let Some((_, test)) = WITHOUT_ARGUMENT.iter().find(|(name, _)| *name == word) {
        return Ok(test.clone());
    }
    if !takes_argument(word) {
        return Err(unknown_restriction(place, word));
    }
    let Some((at, argument)) = argument else {
        let advice = match word {
            "check_policy_service" => "name the service: \"check_policy_service inet:127.0.0.1:10023\"".to_owned(),
            _ if word.ends_with("_access") => format!("name a table of [tables]: \"{word} NAME\""),
            _ => format!("name the list: \"{word} list.example\""),
        };
        return Err(RestrictionError { span: 0..text.len(), message: format!("\"{word}\" needs an argument"), advice });
    };
    let list = || argument.parse::<DnsList>().map_err(|advice| invalid_dns_list(at.clone(), argument, advice));
    Ok(match word {
        "reject_rbl_client" => RestrictionKind::RejectRbl(list()?),
        "reject_rhsbl_client" => RestrictionKind::RejectRhsbl(RestrictionSubject::Client, list()?),
        "reject_rhsbl_helo" => RestrictionKind::RejectRhsbl(RestrictionSubject::Helo, list()?),
        "reject_rhsbl_sender" => RestrictionKind::RejectRhsbl(RestrictionSubject::Sender, list()?),
        "reject_rhsbl_recipient" => RestrictionKind::RejectRhsbl(RestrictionSubject::Recipient, list()?),
        "permit_dnswl_client" => RestrictionKind::PermitDnswlClient(list()?),
        "check_client_access" => RestrictionKind::Access(RestrictionSubject::Client, parse_table_name(at, argument)?),
        "check_helo_access" => RestrictionKind::Access(RestrictionSubject::Helo, parse_table_name(at, argument)?),
        "check_sender_access" => RestrictionKind::Access(RestrictionSubject::Sender, parse_table_name(at, argument)?),
        "check_recipient_access" => RestrictionKind::Access(RestrictionSubject::Recipient, parse_table_name(at, argument)?),
        _ => RestrictionKind::CheckPolicyService(argument.parse().map_err(|_: EndpointError| RestrictionError {
            span: at,
            message: format!("\"{argument}\" is no policy service"),
            advice: "write \"inet:HOST:PORT\" or \"unix:/path/of/socket\"".to_owned(),
        })?),
    })
}

fn unknown_restriction(at: Range<usize>, word: &str) -> RestrictionError {
    if let Some((_, advice)) = UNSUPPORTED.iter().find(|(name, _)| *name == word) {
        return RestrictionError { span: at, message: format!("\"{word}\" is not supported"), advice: (*advice).to_owned() };
    }
    let known = WITHOUT_ARGUMENT.iter().map(|(name, _)| *name).chain(WITH_ARGUMENT).chain(["warn_if_reject"]);
    let advice = match closest_match(word.trim_end_matches(','), known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "docs/smtp-policy.md lists every restriction".to_owned(),
    };
    RestrictionError { span: at, message: format!("there is no restriction \"{word}\""), advice }
}

/// Checks the syntax of a table name; the existence is checked after all tables are read.
fn parse_table_name(at: Range<usize>, name: &str) -> Result<String, RestrictionError> {
    match name.split_once(':') {
        None => Ok(name.to_owned()),
        Some((_, path)) => {
            let advice = format!("name it in [tables]: access = \"texthash:{path}\", and write the name here");
            Err(RestrictionError { span: at, message: format!("\"{name}\" is not the name of a table"), advice })
        }
    }
}

fn invalid_dns_list(at: Range<usize>, argument: &str, advice: &str) -> RestrictionError {
    RestrictionError { span: at, message: format!("\"{argument}\" is no DNS list"), advice: advice.to_owned() }
}

/// A DNS list: `domain`, `domain=127.0.0.[2..4]`, and in `postscreen_dnsbl_sites` with a weight, `domain*2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsList {
    /// Domain of the list.
    pub domain: String,
    /// Filter for the returned addresses; `None`: all of 127.0.0.0/8.
    pub filter: Option<DnsblFilter>,
    /// Score of a match; negative for allowlists.
    pub weight: i32,
}

/// A pattern of IPv4 addresses: each octet is a number or `[number..number;number]`, as in Postfix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsblFilter {
    octet_ranges: [Vec<(u8, u8)>; 4],
    text: String,
}

impl DnsList {
    /// Returns whether the list's answer is a match.
    #[must_use]
    pub fn matches(&self, answer: Ipv4Addr) -> bool {
        match &self.filter {
            None => answer.is_loopback(),
            Some(answers) => {
                let fits =
                    |(octet, ranges): (u8, &Vec<(u8, u8)>)| ranges.iter().any(|(low, high)| (*low..=*high).contains(&octet));
                answer.octets().into_iter().zip(&answers.octet_ranges).all(fits)
            }
        }
    }
}

impl FromStr for DnsList {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, weight) = match text.rsplit_once('*') {
            Some((rest, weight)) => (rest, weight.parse().map_err(|_| "a weight is a whole number: \"list.example*2\"")?),
            None => (text, 1),
        };
        let (domain, answers) = match rest.split_once('=') {
            Some((domain, answers)) => (domain, Some(answers.parse()?)),
            None => (rest, None),
        };
        match waxwing_types::Address::new("x", domain) {
            Ok(address) if domain.contains('.') => Ok(Self { domain: address.domain().to_owned(), filter: answers, weight }),
            _ => Err("write the domain of the list: \"list.example\" or \"list.example=127.0.0.[2..4]\""),
        }
    }
}

impl fmt::Display for DnsList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.domain)?;
        if let Some(answers) = &self.filter {
            write!(f, "={}", answers.text)?;
        }
        if self.weight == 1 { Ok(()) } else { write!(f, "*{}", self.weight) }
    }
}

impl FromStr for DnsblFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ADVICE: &str = "write the answers as \"127.0.0.2\" or \"127.0.0.[2..4;10]\"";
        let mut octets: [Vec<(u8, u8)>; 4] = Default::default();
        let mut rest = text;
        for (index, octet) in octets.iter_mut().enumerate() {
            let end = match rest.strip_prefix('[') {
                Some(_) => rest.find(']').ok_or(ADVICE)? + 1,
                None => rest.find('.').unwrap_or(rest.len()),
            };
            let (this, behind) = rest.split_at_checked(end).ok_or(ADVICE)?;
            for part in this.trim_matches(['[', ']']).split(';') {
                let (low, high) = part.split_once("..").unwrap_or((part, part));
                octet.push((low.parse().map_err(|_| ADVICE)?, high.parse().map_err(|_| ADVICE)?));
            }
            rest = match (index, behind.strip_prefix('.')) {
                (3, None) if behind.is_empty() => "",
                (0..3, Some(next)) => next,
                _ => return Err(ADVICE),
            };
        }
        Ok(Self { octet_ranges: octets, text: text.to_owned() })
    }
}

/// Iterator over words with byte ranges.
struct WordSpans<'t> {
    text: &'t str,
    offset: usize,
}

impl<'t> Iterator for WordSpans<'t> {
    type Item = (Range<usize>, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.text.get(self.offset..)?;
        let begin = self.offset + (rest.len() - rest.trim_start().len());
        let word = self.text.get(begin..)?.split_whitespace().next()?;
        self.offset = begin + word.len();
        Some((begin..self.offset, word))
    }
}

/// A list of restrictions, each a string.
pub(crate) struct RestrictionList;

impl ValueType for RestrictionList {
    type Value = Vec<Restriction>;
    const FORM: &'static str = "restrictions, [\"permit_mynetworks\", \"check_client_access TABLE\"]";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Vec<Restriction>> {
        if let DeValue::String(_) = node.value {
            reader.type_error(node, "an array with a string for each restriction: [\"permit_mynetworks\", \"reject\"]");
            return None;
        }
        ListOf::<RestrictionValue>::read(node, reader)
    }

    fn show(value: &Vec<Restriction>) -> Option<Value> {
        ListOf::<RestrictionValue>::show(value)
    }
}

struct RestrictionValue;

impl ValueType for RestrictionValue {
    type Value = Restriction;
    const FORM: &'static str = "restriction";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Restriction> {
        let text = expect_string(node, reader, "a restriction in quotes, such as \"permit_mynetworks\"")?;
        match text.parse::<Restriction>() {
            Ok(rule) => Some(rule),
            Err(error) => {
                reader.error(word_span(&node.span, text, &error.span), error.message, error.advice);
                None
            }
        }
    }

    fn show(value: &Restriction) -> Option<Value> {
        Some(Value::String(value.text.clone()))
    }
}

/// Returns the span of a word within a string value; the span of the whole string if the string contains escapes.
fn word_span(span: &Range<usize>, text: &str, word: &Range<usize>) -> Range<usize> {
    if span.len() == text.len() + 2 { span.start + 1 + word.start..span.start + 1 + word.end } else { span.clone() }
}

/// A DNS list written as a string.
pub(crate) struct DnsListValue;

impl ValueType for DnsListValue {
    type Value = DnsList;
    const FORM: &'static str = "DNS lists, \"list.example\", \"list.example=127.0.0.[2..4]*2\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<DnsList> {
        let text = expect_string(node, reader, "a DNS list in quotes, such as \"list.example*2\"")?;
        match text.parse::<DnsList>() {
            Ok(list) => Some(list),
            Err(advice) => {
                reader.error(node.span.clone(), format!("\"{text}\" is no DNS list"), advice.to_owned());
                None
            }
        }
    }

    fn show(value: &DnsList) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_restrictions() {
        for (text, test, warn) in [
            ("permit_mynetworks", RestrictionKind::PermitMynetworks, false),
            ("warn_if_reject reject_unknown_sender_domain", RestrictionKind::RejectUnknownSenderDomain, true),
            ("check_sender_access bad", RestrictionKind::Access(RestrictionSubject::Sender, "bad".into()), false),
            (
                "check_policy_service inet:127.0.0.1:10023",
                RestrictionKind::CheckPolicyService(Endpoint::Inet { host: "127.0.0.1".into(), port: 10023 }),
                false,
            ),
        ] {
            let rule: Restriction = text.parse().unwrap();
            assert_eq!((rule.kind, rule.warn_only, rule.text.as_str()), (test, warn, text));
        }
    }

    #[test]
    fn a_mistake_points_at_its_word() {
        for (text, word, advice) in [
            ("permit_mynetwork", "permit_mynetwork", "did you mean \"permit_mynetworks\"?"),
            ("warn_if_reject rejct", "rejct", "did you mean \"reject\"?"),
            ("permit_mynetworks reject", "reject", "an element of its own"),
            ("check_client_access hash:/etc/x", "hash:/etc/x", "texthash:/etc/x"),
            ("check_policy_service inet:x", "inet:x", "inet:HOST:PORT"),
            ("reject_rbl_client zen", "zen", "domain of the list"),
            ("reject_unauth_pipelining", "reject_unauth_pipelining", "postscreen_greet_wait"),
            ("check_helo_access", "check_helo_access", "NAME"),
        ] {
            let error = text.parse::<Restriction>().unwrap_err();
            assert_eq!(text.get(error.span.clone()), Some(word), "{error}");
            assert!(error.advice.contains(advice), "{error}");
        }
    }

    #[test]
    fn lists_count_what_they_are_told() {
        let list: DnsList = "zen.example=127.0.0.[2..4;10]*3".parse().unwrap();
        assert_eq!((list.weight, list.to_string().as_str()), (3, "zen.example=127.0.0.[2..4;10]*3"));
        let counts = |last| list.matches(Ipv4Addr::new(127, 0, 0, last));
        assert!(counts(2) && counts(4) && counts(10) && !counts(5) && !counts(1));
        let any: DnsList = "list.example*-2".parse().unwrap();
        assert!(any.weight == -2 && any.matches(Ipv4Addr::new(127, 0, 1, 9)) && !any.matches(Ipv4Addr::new(192, 0, 2, 1)));
        for bad in ["", "zen", "a.b=127.0.0", "a.b=127.0.0.[2", "a.b=127.0.0.256", "a.b*x", "a.b=127.0.0.2.3", "a b.c"] {
            assert!(bad.parse::<DnsList>().is_err(), "{bad}");
        }
    }
}
