//! Restrictions of the `smtpd_..._restrictions` keys, with arguments (Postfix access(5), postconf(5)).

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::str::FromStr;

use toml::Value;
use toml::de::DeValue;
use waxwing_types::{Endpoint, EndpointError};

use crate::kind::{Kind, ListOf, string};
use crate::nearest::nearest;
use crate::reader::{Node, Reader};

/// A single entry of a restriction list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Restriction and argument.
    pub test: Test,
    /// Whether `warn_if_reject` precedes: a rejection is only logged.
    pub warn: bool,
    /// Text of the restriction as in the file.
    pub text: String,
}

/// Object of a restriction: the value tested or looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
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
pub enum Test {
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
    RejectRhsbl(Subject, DnsList),
    PermitDnswlClient(DnsList),
    /// `check_..._access`, with the name of a table.
    Access(Subject, String),
    CheckPolicyService(Endpoint),
}

const PLAIN: &[(&str, Test)] = &[
    ("permit", Test::Permit),
    ("reject", Test::Reject),
    ("defer", Test::Defer),
    ("permit_mynetworks", Test::PermitMynetworks),
    ("permit_sasl_authenticated", Test::PermitSaslAuthenticated),
    ("permit_tls_all_clientcerts", Test::PermitTlsAllClientcerts),
    ("permit_auth_destination", Test::PermitAuthDestination),
    ("reject_unauth_destination", Test::RejectUnauthDestination),
    ("reject_invalid_helo_hostname", Test::RejectInvalidHeloHostname),
    ("reject_non_fqdn_helo_hostname", Test::RejectNonFqdnHeloHostname),
    ("reject_non_fqdn_sender", Test::RejectNonFqdnSender),
    ("reject_non_fqdn_recipient", Test::RejectNonFqdnRecipient),
    ("reject_unknown_helo_hostname", Test::RejectUnknownHeloHostname),
    ("reject_unknown_sender_domain", Test::RejectUnknownSenderDomain),
    ("reject_unknown_recipient_domain", Test::RejectUnknownRecipientDomain),
    ("reject_unknown_client_hostname", Test::RejectUnknownClientHostname),
    ("reject_unknown_reverse_client_hostname", Test::RejectUnknownReverseClientHostname),
    ("reject_unlisted_sender", Test::RejectUnlistedSender),
    ("reject_unlisted_recipient", Test::RejectUnlistedRecipient),
    ("reject_sender_login_mismatch", Test::RejectSenderLoginMismatch),
    ("reject_authenticated_sender_login_mismatch", Test::RejectAuthenticatedSenderLoginMismatch),
    ("reject_unauthenticated_sender_login_mismatch", Test::RejectUnauthenticatedSenderLoginMismatch),
    ("reject_multi_recipient_bounce", Test::RejectMultiRecipientBounce),
    ("reject_unverified_sender", Test::RejectUnverifiedSender),
    ("reject_unverified_recipient", Test::RejectUnverifiedRecipient),
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
const ELSEWHERE: [(&str, &str); 3] = [
    ("reject_unauth_pipelining", "postscreen_greet_wait rejects clients that send data too early: leave the restriction out"),
    ("defer_unauth_destination", "unauthorized relaying is always rejected: write reject_unauth_destination, or leave it out"),
    ("permit_inet_interfaces", "write permit_mynetworks"),
];

/// A syntax error in a restriction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {advice}")]
pub struct RuleError {
    /// Byte range of the faulty word in the text.
    pub at: Range<usize>,
    /// Description of the error.
    pub message: String,
    /// Suggested correction of the text.
    pub advice: String,
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut words = Words { text, at: 0 };
        let mut first = words.next();
        let warn = first.as_ref().is_some_and(|(_, word)| *word == "warn_if_reject");
        if warn {
            first = words.next();
        }
        let Some((place, word)) = first else {
            let advice = "write one restriction, such as \"permit_mynetworks\"".to_owned();
            return Err(RuleError { at: 0..text.len(), message: "a restriction is missing".to_owned(), advice });
        };
        let argument = words.next();
        let test = test(place, word, argument.clone(), text)?;
        if let Some((at, more)) = words.next().or_else(|| argument.filter(|_| !takes_argument(word))) {
            let advice = "write each restriction as an element of its own: [\"...\", \"...\"]".to_owned();
            return Err(RuleError { at, message: format!("unexpected \"{more}\" after \"{word}\""), advice });
        }
        Ok(Self { test, warn, text: text.trim().to_owned() })
    }
}

fn takes_argument(word: &str) -> bool {
    WITH_ARGUMENT.contains(&word)
}

fn test(place: Range<usize>, word: &str, argument: Option<(Range<usize>, &str)>, text: &str) -> Result<Test, RuleError> {
    if let Some((_, test)) = PLAIN.iter().find(|(name, _)| *name == word) {
        return Ok(test.clone());
    }
    if !takes_argument(word) {
        return Err(unknown(place, word));
    }
    let Some((at, argument)) = argument else {
        let advice = match word {
            "check_policy_service" => "name the service: \"check_policy_service inet:127.0.0.1:10023\"".to_owned(),
            _ if word.ends_with("_access") => format!("name a table of [tables]: \"{word} NAME\""),
            _ => format!("name the list: \"{word} list.example\""),
        };
        return Err(RuleError { at: 0..text.len(), message: format!("\"{word}\" needs an argument"), advice });
    };
    let list = || argument.parse::<DnsList>().map_err(|advice| wrong_list(at.clone(), argument, advice));
    Ok(match word {
        "reject_rbl_client" => Test::RejectRbl(list()?),
        "reject_rhsbl_client" => Test::RejectRhsbl(Subject::Client, list()?),
        "reject_rhsbl_helo" => Test::RejectRhsbl(Subject::Helo, list()?),
        "reject_rhsbl_sender" => Test::RejectRhsbl(Subject::Sender, list()?),
        "reject_rhsbl_recipient" => Test::RejectRhsbl(Subject::Recipient, list()?),
        "permit_dnswl_client" => Test::PermitDnswlClient(list()?),
        "check_client_access" => Test::Access(Subject::Client, table(at, argument)?),
        "check_helo_access" => Test::Access(Subject::Helo, table(at, argument)?),
        "check_sender_access" => Test::Access(Subject::Sender, table(at, argument)?),
        "check_recipient_access" => Test::Access(Subject::Recipient, table(at, argument)?),
        _ => Test::CheckPolicyService(argument.parse().map_err(|_: EndpointError| RuleError {
            at,
            message: format!("\"{argument}\" is no policy service"),
            advice: "write \"inet:HOST:PORT\" or \"unix:/path/of/socket\"".to_owned(),
        })?),
    })
}

fn unknown(at: Range<usize>, word: &str) -> RuleError {
    if let Some((_, advice)) = ELSEWHERE.iter().find(|(name, _)| *name == word) {
        return RuleError { at, message: format!("\"{word}\" is not supported"), advice: (*advice).to_owned() };
    }
    let known = PLAIN.iter().map(|(name, _)| *name).chain(WITH_ARGUMENT).chain(["warn_if_reject"]);
    let advice = match nearest(word.trim_end_matches(','), known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "docs/smtp-policy.md lists every restriction".to_owned(),
    };
    RuleError { at, message: format!("there is no restriction \"{word}\""), advice }
}

/// Checks the syntax of a table name; the existence is checked after all tables are read.
fn table(at: Range<usize>, name: &str) -> Result<String, RuleError> {
    match name.split_once(':') {
        None => Ok(name.to_owned()),
        Some((_, path)) => {
            let advice = format!("name it in [tables]: access = \"texthash:{path}\", and write the name here");
            Err(RuleError { at, message: format!("\"{name}\" is not the name of a table"), advice })
        }
    }
}

fn wrong_list(at: Range<usize>, argument: &str, advice: &str) -> RuleError {
    RuleError { at, message: format!("\"{argument}\" is no DNS list"), advice: advice.to_owned() }
}

/// A DNS list: `domain`, `domain=127.0.0.[2..4]`, and in `postscreen_dnsbl_sites` with a weight, `domain*2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsList {
    /// Domain of the list.
    pub domain: String,
    /// Filter for the returned addresses; `None`: all of 127.0.0.0/8.
    pub answers: Option<Answers>,
    /// Score of a match; negative for allowlists.
    pub weight: i32,
}

/// A pattern of IPv4 addresses: each octet is a number or `[number..number;number]`, as in Postfix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    octets: [Vec<(u8, u8)>; 4],
    text: String,
}

impl DnsList {
    /// Returns whether the list's answer is a match.
    #[must_use]
    pub fn counts(&self, answer: Ipv4Addr) -> bool {
        match &self.answers {
            None => answer.is_loopback(),
            Some(answers) => {
                let fits =
                    |(octet, ranges): (u8, &Vec<(u8, u8)>)| ranges.iter().any(|(low, high)| (*low..=*high).contains(&octet));
                answer.octets().into_iter().zip(&answers.octets).all(fits)
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
            Ok(address) if domain.contains('.') => Ok(Self { domain: address.domain().to_owned(), answers, weight }),
            _ => Err("write the domain of the list: \"list.example\" or \"list.example=127.0.0.[2..4]\""),
        }
    }
}

impl fmt::Display for DnsList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.domain)?;
        if let Some(answers) = &self.answers {
            write!(f, "={}", answers.text)?;
        }
        if self.weight == 1 { Ok(()) } else { write!(f, "*{}", self.weight) }
    }
}

impl FromStr for Answers {
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
        Ok(Self { octets, text: text.to_owned() })
    }
}

/// Iterator over words with byte ranges.
struct Words<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Words<'t> {
    type Item = (Range<usize>, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.text.get(self.at..)?;
        let begin = self.at + (rest.len() - rest.trim_start().len());
        let word = self.text.get(begin..)?.split_whitespace().next()?;
        self.at = begin + word.len();
        Some((begin..self.at, word))
    }
}

/// A list of restrictions, each a string.
pub(crate) struct Rules;

impl Kind for Rules {
    type Value = Vec<Rule>;
    const FORM: &'static str = "restrictions, [\"permit_mynetworks\", \"check_client_access TABLE\"]";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Rule>> {
        if let DeValue::String(_) = node.value {
            reader.wrong_type(node, "an array with a string for each restriction: [\"permit_mynetworks\", \"reject\"]");
            return None;
        }
        ListOf::<One>::read(node, reader)
    }

    fn show(value: &Vec<Rule>) -> Option<Value> {
        ListOf::<One>::show(value)
    }
}

struct One;

impl Kind for One {
    type Value = Rule;
    const FORM: &'static str = "restriction";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Rule> {
        let text = string(node, reader, "a restriction in quotes, such as \"permit_mynetworks\"")?;
        match text.parse::<Rule>() {
            Ok(rule) => Some(rule),
            Err(error) => {
                reader.wrong(within(&node.span, text, &error.at), error.message, error.advice);
                None
            }
        }
    }

    fn show(value: &Rule) -> Option<Value> {
        Some(Value::String(value.text.clone()))
    }
}

/// Returns the span of a word within a string value; the span of the whole string if the string contains escapes.
fn within(span: &Range<usize>, text: &str, word: &Range<usize>) -> Range<usize> {
    if span.len() == text.len() + 2 { span.start + 1 + word.start..span.start + 1 + word.end } else { span.clone() }
}

/// A DNS list written as a string.
pub(crate) struct ListText;

impl Kind for ListText {
    type Value = DnsList;
    const FORM: &'static str = "DNS lists, \"list.example\", \"list.example=127.0.0.[2..4]*2\"";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<DnsList> {
        let text = string(node, reader, "a DNS list in quotes, such as \"list.example*2\"")?;
        match text.parse::<DnsList>() {
            Ok(list) => Some(list),
            Err(advice) => {
                reader.wrong(node.span.clone(), format!("\"{text}\" is no DNS list"), advice.to_owned());
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
            ("permit_mynetworks", Test::PermitMynetworks, false),
            ("warn_if_reject reject_unknown_sender_domain", Test::RejectUnknownSenderDomain, true),
            ("check_sender_access bad", Test::Access(Subject::Sender, "bad".into()), false),
            (
                "check_policy_service inet:127.0.0.1:10023",
                Test::CheckPolicyService(Endpoint::Inet { host: "127.0.0.1".into(), port: 10023 }),
                false,
            ),
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!((rule.test, rule.warn, rule.text.as_str()), (test, warn, text));
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
            let error = text.parse::<Rule>().unwrap_err();
            assert_eq!(text.get(error.at.clone()), Some(word), "{error}");
            assert!(error.advice.contains(advice), "{error}");
        }
    }

    #[test]
    fn lists_count_what_they_are_told() {
        let list: DnsList = "zen.example=127.0.0.[2..4;10]*3".parse().unwrap();
        assert_eq!((list.weight, list.to_string().as_str()), (3, "zen.example=127.0.0.[2..4;10]*3"));
        let counts = |last| list.counts(Ipv4Addr::new(127, 0, 0, last));
        assert!(counts(2) && counts(4) && counts(10) && !counts(5) && !counts(1));
        let any: DnsList = "list.example*-2".parse().unwrap();
        assert!(any.weight == -2 && any.counts(Ipv4Addr::new(127, 0, 1, 9)) && !any.counts(Ipv4Addr::new(192, 0, 2, 1)));
        for bad in ["", "zen", "a.b=127.0.0", "a.b=127.0.0.[2", "a.b=127.0.0.256", "a.b*x", "a.b=127.0.0.2.3", "a b.c"] {
            assert!(bad.parse::<DnsList>().is_err(), "{bad}");
        }
    }
}
