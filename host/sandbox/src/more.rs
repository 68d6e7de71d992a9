//! Conversion of guest answers other than verdicts: users and table lookups, commands, queue and delivery.

use std::time::Duration;

use waxwing_bindings::exports::{on_auth, on_credentials, on_enqueue, on_reply, on_retry, on_route, on_table};
use waxwing_bindings::imports::types as wit;
use waxwing_pipeline::{Answer, AuthAnswer, Found, NextTry, Placement, ReplyClass, Stored};
use waxwing_types::{NextHop, Reply};

use crate::answer::Checked;
use crate::settings::Limits;
use crate::state::one_line;

/// Maximum length of a transport name in bytes.
const TRANSPORT_BYTES_MAX: usize = 64;
/// Maximum length of a next-hop host in bytes: a domain name (RFC 1035 section 2.3.4) with brackets.
const HOST_BYTES_MAX: usize = 257;

pub(crate) fn stored(stored: on_credentials::Stored, limits: &Limits) -> Checked<Answer> {
    Ok(Answer::Stored(match stored {
        on_credentials::Stored::Hash(hash) => Stored::Hash(word(hash, "a password hash", limits.value_bytes_max)?),
        on_credentials::Stored::Absent => Stored::Absent,
        on_credentials::Stored::Unavailable(why) => Stored::Unavailable(one_line(&why, limits.reason_bytes_max)),
    }))
}

pub(crate) fn auth(answer: on_auth::Answer, limits: &Limits) -> Checked<Answer> {
    Ok(Answer::Auth(match answer {
        on_auth::Answer::Allow(user) => AuthAnswer::Allow(word(user, "a user", limits.reason_bytes_max)?),
        on_auth::Answer::Deny => AuthAnswer::Deny,
        on_auth::Answer::Unavailable(why) => AuthAnswer::Unavailable(one_line(&why, limits.reason_bytes_max)),
        on_auth::Answer::NotMine => AuthAnswer::NotMine,
    }))
}

/// Converts the reply to a command: any final reply 2yz, 4yz or 5yz, except 221 and 421, which end the session.
pub(crate) fn command(reply: Option<wit::Reply>) -> Checked<Answer> {
    let Some(reply) = reply else { return Ok(Answer::Reply(None)) };
    if !matches!(reply.code, 200..=299 | 400..=599) || matches!(reply.code, 221 | 421) {
        return Err(format!(
            "the reply to a command has the code {}; 2yz, 4yz and 5yz are possible, 221 and 421 are not",
            reply.code
        ));
    }
    if reply.text.contains(['\r', '\n', '\0']) {
        return Err("the reply to a command has a line end or NUL in its text".to_owned());
    }
    let enhanced = reply.enhanced.map(|text| text.parse()).transpose().map_err(|e| format!("the reply to a command: {e}"))?;
    let reply = Reply::new(reply.code, enhanced, reply.text).map_err(|e| format!("the reply to a command: {e}"))?;
    Ok(Answer::Reply(Some(reply)))
}

pub(crate) fn found(found: on_table::Found, limits: &Limits) -> Checked<Answer> {
    Ok(Answer::Found(match found {
        on_table::Found::Value(value) if value.len() > limits.value_bytes_max => {
            return Err(format!("a value of a table has {} octets", value.len()));
        }
        on_table::Found::Value(value) => Found::Value(value),
        on_table::Found::Absent => Found::Absent,
        on_table::Found::Unavailable(why) => Found::Unavailable(one_line(&why, limits.reason_bytes_max)),
    }))
}

pub(crate) fn placement(placement: on_enqueue::Placement, limits: &Limits) -> Checked<Answer> {
    Ok(Answer::Placement(Placement {
        priority: placement.priority,
        not_before: Duration::from_secs(u64::from(placement.not_before_seconds)),
        hold: placement.hold.map(|text| one_line(&text, limits.reason_bytes_max)),
    }))
}

/// Converts a next hop. A TLS policy is not supported yet: a policy in the answer is an error, since ignoring the policy would
/// silently weaken security.
pub(crate) fn route(hop: Option<on_route::NextHop>) -> Checked<Answer> {
    let Some(hop) = hop else { return Ok(Answer::Route(None)) };
    let transport = word(hop.transport, "a transport", TRANSPORT_BYTES_MAX)?;
    if !transport.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(format!("a next hop has the transport {transport:?}"));
    }
    let host = hop.host.map(|host| word(host, "a host", HOST_BYTES_MAX)).transpose()?.unwrap_or_default();
    let of_host = |c: char| c.is_alphanumeric() || "-._[]:".contains(c);
    if !host.chars().all(of_host) || hop.port == Some(0) {
        return Err(format!("a next hop has the host {host:?} and the port {:?}", hop.port));
    }
    if hop.tls.is_some() {
        return Err("a next hop has a TLS policy, which is not supported".to_owned());
    }
    Ok(Answer::Route(Some(NextHop { transport, host, port: hop.port })))
}

pub(crate) fn class(class: on_reply::Class) -> ReplyClass {
    match class {
        on_reply::Class::AsIs => ReplyClass::AsIs,
        on_reply::Class::Temporary => ReplyClass::Temporary,
        on_reply::Class::Permanent => ReplyClass::Permanent,
        on_reply::Class::DestinationDead => ReplyClass::DestinationDead,
    }
}

pub(crate) fn next_try(next: on_retry::NextTry) -> NextTry {
    match next {
        on_retry::NextTry::AsPlanned => NextTry::AsPlanned,
        on_retry::NextTry::AfterSeconds(seconds) => NextTry::After(Duration::from_secs(u64::from(seconds))),
        on_retry::NextTry::GiveUp => NextTry::GiveUp,
    }
}

/// Checks a text: not empty, no control characters, at most `bytes_max` bytes.
fn word(text: String, what: &str, bytes_max: usize) -> Checked<String> {
    if text.is_empty() || text.len() > bytes_max || text.contains(char::is_control) {
        return Err(format!("{what} is empty, longer than {bytes_max} octets or has control characters"));
    }
    Ok(text)
}
