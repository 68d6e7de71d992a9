//! Conversion of guest answers other than verdicts: users and table lookups, commands, queue and delivery.

use std::time::Duration;

use waxwing_bindings::exports::{on_auth, on_credentials, on_enqueue, on_reply, on_retry, on_route, on_table};
use waxwing_bindings::imports::types as wit;
use waxwing_pipeline::{AuthAnswer, HookAnswer, NextTry, Placement, ReplyClass, StoredCredential, TableLookup};
use waxwing_types::{NextHop, Reply};

use crate::from_wit::Converted;
use crate::settings::PluginLimits;
use crate::state::one_line;

/// Maximum length of a transport name in bytes.
const TRANSPORT_BYTES_MAX: usize = 64;
/// Maximum length of a next-hop host in bytes: a domain name (RFC 1035 section 2.3.4) with brackets.
const HOST_BYTES_MAX: usize = 257;

pub(crate) fn stored_credential(stored: on_credentials::Stored, limits: &PluginLimits) -> Converted<HookAnswer> {
    Ok(HookAnswer::StoredCredential(match stored {
        on_credentials::Stored::Hash(hash) => {
            StoredCredential::Hash(checked_text(hash, "a password hash", limits.value_bytes_max)?)
        }
        on_credentials::Stored::Absent => StoredCredential::Absent,
        on_credentials::Stored::Unavailable(why) => StoredCredential::Unavailable(one_line(&why, limits.reason_bytes_max)),
    }))
}

pub(crate) fn auth_answer(answer: on_auth::Answer, limits: &PluginLimits) -> Converted<HookAnswer> {
    Ok(HookAnswer::Auth(match answer {
        on_auth::Answer::Allow(user) => AuthAnswer::Allow(checked_text(user, "a user", limits.reason_bytes_max)?),
        on_auth::Answer::Deny => AuthAnswer::Deny,
        on_auth::Answer::Unavailable(why) => AuthAnswer::Unavailable(one_line(&why, limits.reason_bytes_max)),
        on_auth::Answer::NotMine => AuthAnswer::NotMine,
    }))
}

/// Converts the reply to a command: any final reply 2yz, 4yz or 5yz, except 221 and 421, which end the session.
pub(crate) fn command_reply(reply: Option<wit::Reply>) -> Converted<HookAnswer> {
    let Some(reply) = reply else { return Ok(HookAnswer::Reply(None)) };
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
    Ok(HookAnswer::Reply(Some(reply)))
}

pub(crate) fn table_lookup(found: on_table::Found, limits: &PluginLimits) -> Converted<HookAnswer> {
    Ok(HookAnswer::TableLookup(match found {
        on_table::Found::Value(value) if value.len() > limits.value_bytes_max => {
            return Err(format!("a value of a table has {} octets", value.len()));
        }
        on_table::Found::Value(value) => TableLookup::Value(value),
        on_table::Found::Absent => TableLookup::Absent,
        on_table::Found::Unavailable(why) => TableLookup::Unavailable(one_line(&why, limits.reason_bytes_max)),
    }))
}

pub(crate) fn placement(placement: on_enqueue::Placement, limits: &PluginLimits) -> Converted<HookAnswer> {
    Ok(HookAnswer::Placement(Placement {
        priority: placement.priority,
        not_before: Duration::from_secs(u64::from(placement.not_before_seconds)),
        hold: placement.hold.map(|text| one_line(&text, limits.reason_bytes_max)),
    }))
}

/// Converts a next hop. A TLS policy is not supported yet: a policy in the answer is an error, since ignoring the policy would
/// silently weaken security.
pub(crate) fn route(hop: Option<on_route::NextHop>) -> Converted<HookAnswer> {
    let Some(hop) = hop else { return Ok(HookAnswer::Route(None)) };
    let transport = checked_text(hop.transport, "a transport", TRANSPORT_BYTES_MAX)?;
    if !transport.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(format!("a next hop has the transport {transport:?}"));
    }
    let host = hop.host.map(|host| checked_text(host, "a host", HOST_BYTES_MAX)).transpose()?.unwrap_or_default();
    let of_host = |c: char| c.is_alphanumeric() || "-._[]:".contains(c);
    if !host.chars().all(of_host) || hop.port == Some(0) {
        return Err(format!("a next hop has the host {host:?} and the port {:?}", hop.port));
    }
    if hop.tls.is_some() {
        return Err("a next hop has a TLS policy, which is not supported".to_owned());
    }
    Ok(HookAnswer::Route(Some(NextHop { transport, host, port: hop.port })))
}

pub(crate) fn reply_class(class: on_reply::Class) -> ReplyClass {
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
fn checked_text(text: String, what: &str, bytes_max: usize) -> Converted<String> {
    if text.is_empty() || text.len() > bytes_max || text.contains(char::is_control) {
        return Err(format!("{what} is empty, longer than {bytes_max} octets or has control characters"));
    }
    Ok(text)
}
