//! Access restrictions (Postfix SMTPD_ACCESS_README), evaluated in configuration order before the hooks of each stage. Restrictions can
//! refuse more than `relay_control.rs`, but never permit a recipient refused there.

mod access;
mod address_verification;
mod dnsbl;
mod evaluate;
mod host_names;
mod policy;
mod policy_service;
mod sender_login;

use waxwing_config::{Restriction, RestrictionKind, RestrictionSubject};
use waxwing_message::Field;
use waxwing_pipeline::Context;
use waxwing_types::{Address, AddressClass, EnhancedCode, Reply, ReversePath};

pub use policy::Policy;

pub(crate) use evaluate::RestrictionEvaluator;
pub(crate) use host_names::reverse_lookup;

/// Maximum nesting depth of restriction lists named by access tables.
const DEPTH_MAX: usize = 4;

/// Protocol stage at which a restriction list is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestrictionStage {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    EndOfData,
}

/// Facts available to the restrictions of a stage.
pub(crate) struct RestrictionRequest<'a> {
    pub(crate) stage: RestrictionStage,
    pub(crate) context: &'a Context,
    /// Recipient and address class.
    pub(crate) recipient: Option<(&'a Address, AddressClass)>,
    /// Size of the message in bytes: as declared before the end of data, 0 if unknown.
    pub(crate) size: u64,
}

impl RestrictionRequest<'_> {
    /// Envelope sender, after MAIL.
    fn sender(&self) -> Option<&ReversePath> {
        self.context.sender.as_deref()
    }
}

/// Negative reply, with the responsible rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RestrictionRefusal {
    pub(crate) reply: Reply,
    /// Restriction list and restriction.
    pub(crate) rule: String,
}

/// Combined result of all restriction lists of a stage.
#[derive(Default)]
pub(crate) struct RestrictionOutcome {
    pub(crate) refusal: Option<RestrictionRefusal>,
    /// Turns a later refusal into a temporary failure.
    defer_if_reject: bool,
    /// Refusal used if no restriction refuses.
    defer_if_permit: Option<RestrictionRefusal>,
    pub(crate) hold: Option<String>,
    pub(crate) discard: Option<String>,
    pub(crate) prepend: Vec<Field>,
    pub(crate) redirect: Option<Address>,
    /// Refusals downgraded by `warn_if_reject`, and WARN results of access tables.
    pub(crate) warnings: Vec<RestrictionRefusal>,
}

/// Result of a single restriction.
pub(crate) enum RestrictionDecision {
    /// No decision: the next restriction is evaluated.
    Dunno,
    /// Remaining restrictions of the list are skipped.
    Permit,
    Refuse(Reply),
}

impl RestrictionOutcome {
    /// Applies DEFER_IF_REJECT and DEFER_IF_PERMIT after all lists were evaluated.
    fn finish(mut self) -> Self {
        match (&mut self.refusal, self.defer_if_permit.take()) {
            (Some(refusal), _) if self.defer_if_reject => refusal.reply = as_temporary(&refusal.reply),
            (Some(_), _) => {}
            (None, deferral) => self.refusal = deferral,
        }
        self
    }
}

/// Temporary version of a reply, with the same text.
fn as_temporary(reply: &Reply) -> Reply {
    let enhanced = reply.enhanced().map_or(EnhancedCode::new(4, 7, 1), |code| EnhancedCode { class: 4, ..code });
    let code = if reply.code() >= 500 { 450 } else { reply.code() };
    Reply::new(code, Some(enhanced), reply.text().to_owned()).unwrap_or(crate::replies::LOOKUP_FAILED)
}

/// Refusal in Postfix format: `<name>: Client host rejected: why`.
fn rejection_reply(request: &RestrictionRequest<'_>, about: RestrictionSubject, code: (u16, (u8, u16, u16)), why: &str) -> Reply {
    let class = match about {
        RestrictionSubject::Client => "Client host",
        RestrictionSubject::Helo => "Helo command",
        RestrictionSubject::Sender => "Sender address",
        RestrictionSubject::Recipient => "Recipient address",
    };
    reply_with_text(code.0, code.1, format!("<{}>: {class} rejected: {why}", subject_value(request, about)))
}

/// Reply with text from an external source; control characters are removed.
fn reply_with_text(code: u16, enhanced: (u8, u16, u16), text: String) -> Reply {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
    let enhanced = EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2);
    Reply::new(code, Some(enhanced), plain).unwrap_or(crate::replies::LOOKUP_FAILED)
}

fn subject_value(request: &RestrictionRequest<'_>, about: RestrictionSubject) -> String {
    match about {
        RestrictionSubject::Client => match &request.context.client {
            Some(client) => format!("{}[{}]", client.name.as_deref().unwrap_or("unknown"), client.peer.ip().to_canonical()),
            None => "unknown".to_owned(),
        },
        RestrictionSubject::Helo => request.context.helo.as_deref().unwrap_or_default().to_owned(),
        RestrictionSubject::Sender => request.sender().map(ToString::to_string).unwrap_or_default(),
        RestrictionSubject::Recipient => request.recipient.map(|(address, _)| address.to_string()).unwrap_or_default(),
    }
}

/// Default subject of a restriction list, for actions without an explicit subject.
fn default_subject(list: &str) -> RestrictionSubject {
    match list {
        "smtpd_client_restrictions" => RestrictionSubject::Client,
        "smtpd_helo_restrictions" => RestrictionSubject::Helo,
        "smtpd_sender_restrictions" | "smtpd_data_restrictions" | "smtpd_end_of_data_restrictions" => RestrictionSubject::Sender,
        _ => RestrictionSubject::Recipient,
    }
}

/// Label of a restriction in logs and traces.
fn rule_label(list: &str, rule: &Restriction) -> String {
    format!("{list}: {}", rule.text)
}

/// Returns whether the restriction has no effect here because `relay_control.rs` performs the same test.
fn is_checked_by_relay_control(test: &RestrictionKind) -> bool {
    matches!(test, RestrictionKind::RejectUnauthDestination | RestrictionKind::RejectUnlistedRecipient)
}
