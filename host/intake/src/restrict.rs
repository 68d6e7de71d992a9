//! Access restrictions (Postfix SMTPD_ACCESS_README), evaluated in configuration order before the hooks of each stage. Restrictions can
//! refuse more than `relay_control.rs`, but never permit a recipient refused there.

mod access;
mod asked;
mod dnsbl;
mod login;
mod names;
mod policy;
mod service;
mod unverified;

use waxwing_config::{Rule, Subject, Test};
use waxwing_message::Field;
use waxwing_pipeline::Context;
use waxwing_types::{Address, AddressClass, EnhancedCode, Reply, ReversePath};

pub use policy::Policy;

pub(crate) use asked::Asking;
pub(crate) use names::reverse;

/// Maximum nesting depth of restriction lists named by access tables.
const DEPTH_MAX: usize = 4;

/// Protocol stage at which a restriction list is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    EndOfData,
}

/// Facts available to the restrictions of a stage.
pub(crate) struct Case<'a> {
    pub(crate) stage: Stage,
    pub(crate) context: &'a Context,
    pub(crate) esmtp: bool,
    pub(crate) sender: Option<&'a ReversePath>,
    /// Recipient and address class.
    pub(crate) recipient: Option<(&'a Address, AddressClass)>,
    pub(crate) size: u64,
}

/// Negative reply, with the responsible rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reply: Reply,
    /// Restriction list and restriction.
    pub(crate) rule: String,
}

/// Combined result of all restriction lists of a stage.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) refusal: Option<Refusal>,
    /// Turns a later refusal into a temporary failure.
    defer_if_reject: bool,
    /// Refusal used if no restriction refuses.
    defer_if_permit: Option<Refusal>,
    pub(crate) hold: Option<String>,
    pub(crate) discard: Option<String>,
    pub(crate) prepend: Vec<Field>,
    pub(crate) redirect: Option<Address>,
    /// Refusals downgraded by `warn_if_reject`, and WARN results of access tables.
    pub(crate) warnings: Vec<Refusal>,
}

/// Result of a single restriction.
pub(crate) enum Ruling {
    /// No decision: the next restriction is evaluated.
    Dunno,
    /// Remaining restrictions of the list are skipped.
    Permit,
    Refuse(Reply),
}

impl Found {
    /// Applies DEFER_IF_REJECT and DEFER_IF_PERMIT after all lists were evaluated.
    fn settle(mut self) -> Self {
        match (&mut self.refusal, self.defer_if_permit.take()) {
            (Some(refusal), _) if self.defer_if_reject => refusal.reply = softened(&refusal.reply),
            (Some(_), _) => {}
            (None, deferral) => self.refusal = deferral,
        }
        self
    }
}

/// Temporary version of a reply, with the same text.
fn softened(reply: &Reply) -> Reply {
    let enhanced = reply.enhanced().map_or(EnhancedCode::new(4, 7, 1), |code| EnhancedCode { class: 4, ..code });
    let code = if reply.code() >= 500 { 450 } else { reply.code() };
    Reply::new(code, Some(enhanced), reply.text().to_owned()).unwrap_or(crate::replies::LOOKUP_FAILED)
}

/// Refusal in Postfix format: `<name>: Client host rejected: why`.
fn refuse(request: &Case<'_>, about: Subject, code: (u16, (u8, u16, u16)), why: &str) -> Reply {
    let class = match about {
        Subject::Client => "Client host",
        Subject::Helo => "Helo command",
        Subject::Sender => "Sender address",
        Subject::Recipient => "Recipient address",
    };
    made(code.0, code.1, format!("<{}>: {class} rejected: {why}", name_of(request, about)))
}

/// Reply with text from an external source; control characters are removed.
fn made(code: u16, enhanced: (u8, u16, u16), text: String) -> Reply {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
    let enhanced = EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2);
    Reply::new(code, Some(enhanced), plain).unwrap_or(crate::replies::LOOKUP_FAILED)
}

fn name_of(request: &Case<'_>, about: Subject) -> String {
    match about {
        Subject::Client => match &request.context.client {
            Some(client) => format!("{}[{}]", client.name.as_deref().unwrap_or("unknown"), client.peer.ip().to_canonical()),
            None => "unknown".to_owned(),
        },
        Subject::Helo => request.context.helo.as_deref().unwrap_or_default().to_owned(),
        Subject::Sender => request.sender.map(ToString::to_string).unwrap_or_default(),
        Subject::Recipient => request.recipient.map(|(address, _)| address.to_string()).unwrap_or_default(),
    }
}

/// Default subject of a restriction list, for actions without an explicit subject.
fn subject_of(list: &str) -> Subject {
    match list {
        "smtpd_client_restrictions" => Subject::Client,
        "smtpd_helo_restrictions" => Subject::Helo,
        "smtpd_sender_restrictions" | "smtpd_data_restrictions" | "smtpd_end_of_data_restrictions" => Subject::Sender,
        _ => Subject::Recipient,
    }
}

/// Label of a restriction in logs and traces.
fn named(list: &str, rule: &Rule) -> String {
    format!("{list}: {}", rule.text)
}

/// Returns whether the restriction has no effect here because `relay_control.rs` performs the same test.
fn is_silent(test: &Test) -> bool {
    matches!(test, Test::RejectUnauthDestination | Test::RejectUnlistedRecipient)
}
