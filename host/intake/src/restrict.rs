//! The operator's restrictions, asked in the order of their lists before the hooks of each stage. They refuse beyond what `gate.rs`
//! refuses, and never let in what that keeps out.

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

/// How deep the lists that tables name may lead.
const DEPTH_MAX: usize = 4;

/// Where in a session a list is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    EndOfData,
}

/// What is known when a list is asked.
pub(crate) struct Case<'a> {
    pub(crate) stage: Stage,
    pub(crate) context: &'a Context,
    pub(crate) esmtp: bool,
    pub(crate) sender: Option<&'a ReversePath>,
    /// With who delivers to it.
    pub(crate) recipient: Option<(&'a Address, AddressClass)>,
    pub(crate) size: u64,
}

/// A refusal, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reply: Reply,
    /// The list and its restriction.
    pub(crate) rule: String,
}

/// What the lists came to.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) refusal: Option<Refusal>,
    /// A later refusal is one for now.
    defer_if_reject: bool,
    /// If nothing refuses, this does.
    defer_if_permit: Option<Refusal>,
    pub(crate) hold: Option<String>,
    pub(crate) discard: Option<String>,
    pub(crate) prepend: Vec<Field>,
    pub(crate) redirect: Option<Address>,
    /// Refusals that `warn_if_reject` let pass, and WARN of tables.
    pub(crate) warnings: Vec<Refusal>,
}

/// What one restriction says.
pub(crate) enum Ruling {
    /// The next one decides.
    Dunno,
    /// The rest of the list is passed over.
    Permit,
    Refuse(Reply),
}

impl Found {
    /// All lists were asked.
    fn settle(mut self) -> Self {
        match (&mut self.refusal, self.defer_if_permit.take()) {
            (Some(refusal), _) if self.defer_if_reject => refusal.reply = softened(&refusal.reply),
            (Some(_), _) => {}
            (None, deferral) => self.refusal = deferral,
        }
        self
    }
}

/// The same words, for now.
fn softened(reply: &Reply) -> Reply {
    let enhanced = reply.enhanced().map_or(EnhancedCode::new(4, 7, 1), |code| EnhancedCode { class: 4, ..code });
    let code = if reply.code() >= 500 { 450 } else { reply.code() };
    Reply::new(code, Some(enhanced), reply.text().to_owned()).unwrap_or(crate::replies::LOOKUP_FAILED)
}

/// A refusal in Postfix's form: `<name>: Client host rejected: why`.
fn refuse(case: &Case<'_>, about: Subject, code: (u16, (u8, u16, u16)), why: &str) -> Reply {
    let class = match about {
        Subject::Client => "Client host",
        Subject::Helo => "Helo command",
        Subject::Sender => "Sender address",
        Subject::Recipient => "Recipient address",
    };
    made(code.0, code.1, format!("<{}>: {class} rejected: {why}", name_of(case, about)))
}

/// A reply whose words come from elsewhere; its line may hold anything but control characters.
fn made(code: u16, enhanced: (u8, u16, u16), text: String) -> Reply {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
    let enhanced = EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2);
    Reply::new(code, Some(enhanced), plain).unwrap_or(crate::replies::LOOKUP_FAILED)
}

fn name_of(case: &Case<'_>, about: Subject) -> String {
    match about {
        Subject::Client => match &case.context.client {
            Some(client) => format!("{}[{}]", client.name.as_deref().unwrap_or("unknown"), client.peer.ip().to_canonical()),
            None => "unknown".to_owned(),
        },
        Subject::Helo => case.context.helo.as_deref().unwrap_or_default().to_owned(),
        Subject::Sender => case.sender.map(ToString::to_string).unwrap_or_default(),
        Subject::Recipient => case.recipient.map(|(address, _)| address.to_string()).unwrap_or_default(),
    }
}

/// What a list is about, for words that do not say.
fn subject_of(list: &str) -> Subject {
    match list {
        "smtpd_client_restrictions" => Subject::Client,
        "smtpd_helo_restrictions" => Subject::Helo,
        "smtpd_sender_restrictions" | "smtpd_data_restrictions" | "smtpd_end_of_data_restrictions" => Subject::Sender,
        _ => Subject::Recipient,
    }
}

/// A restriction as the log names it.
fn named(list: &str, rule: &Rule) -> String {
    format!("{list}: {}", rule.text)
}

/// The test needs no more than what the session knows.
fn is_silent(test: &Test) -> bool {
    matches!(test, Test::RejectUnauthDestination | Test::RejectUnlistedRecipient)
}
