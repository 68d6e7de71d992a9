//! What may be done at which hook: one table, for the checks and for the documentation.

use waxwing_pipeline::Hook;
use waxwing_types::Verdict;

/// Something that a plugin may want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function or case of that name in the contract")]
pub enum Act {
    Accept,
    Reject,
    Defer,
    Disconnect,
    Discard,
    Hold,
    EditHeader,
    EditBody,
    SetSender,
    EditRecipients,
    SetTag,
    SkipRest,
    Quarantine,
    Redirect,
    DiscardRecipient,
    DelayReply,
    HideCapability,
    ReadMessage,
}

use Hook::{
    OnCleanup, OnConnect, OnData, OnDecide, OnDeliver, OnHelo, OnMail, OnMessage, OnRcpt, OnRecipientMessage, OnRefuse,
    OnRewriteAddress, OnScore,
};

const SESSION: &[Hook] = &[OnConnect, OnHelo];
const COMMANDS: &[Hook] = &[OnConnect, OnHelo, OnMail, OnRcpt, OnData];
const VERDICTS: &[Hook] =
    &[OnConnect, OnHelo, OnMail, OnRcpt, OnData, OnRefuse, OnMessage, OnDecide, OnRecipientMessage, OnCleanup];
const DISCONNECTING: &[Hook] = &[OnConnect, OnHelo, OnMail, OnRcpt, OnData, OnMessage, OnDecide];
/// At on-refuse these are what a refusal may be softened to.
const HOLDING: &[Hook] = &[OnMail, OnRcpt, OnData, OnRefuse, OnMessage, OnDecide, OnRecipientMessage, OnCleanup];
const TAGGING: &[Hook] = &[OnConnect, OnHelo, OnMail, OnRcpt, OnData, OnRefuse, OnMessage, OnScore, OnDecide, OnCleanup];
const TRANSACTION: &[Hook] = &[OnMail, OnRcpt, OnData, OnMessage, OnDecide, OnCleanup];
const CONTENT: &[Hook] = &[OnMessage, OnDecide, OnCleanup];
const READING: &[Hook] = &[OnMessage, OnScore, OnDecide, OnRecipientMessage, OnCleanup, OnRewriteAddress, OnDeliver];
const LEAVING: &[Hook] = &[OnConnect, OnHelo, OnMail, OnRcpt, OnData, OnMessage, OnScore, OnDecide, OnCleanup];

/// The table: what, how the documentation calls it, and where.
const TABLE: &[(Act, &str, &[Hook])] = &[
    (Act::Accept, "verdict `accept`", VERDICTS),
    (Act::Reject, "verdict `reject`", VERDICTS),
    (Act::Defer, "verdict `defer`", VERDICTS),
    (Act::Disconnect, "verdict `disconnect`", DISCONNECTING),
    (Act::Discard, "verdict `discard`", HOLDING),
    (Act::Hold, "verdict `hold`", HOLDING),
    (Act::EditHeader, "`edit`: add-, insert-, replace-, remove-header", CONTENT),
    (Act::EditBody, "`edit`: write-body, drop-, replace-, add-part", CONTENT),
    (Act::SetSender, "`edit`: set-sender", TRANSACTION),
    (Act::EditRecipients, "`edit`: add-, change-, remove-recipient", CONTENT),
    (Act::SetTag, "`transaction`: set-tag", TAGGING),
    (Act::SkipRest, "`action`: skip-rest", LEAVING),
    (Act::Quarantine, "`action`: quarantine", TRANSACTION),
    (Act::Redirect, "`action`: redirect (with the grant `edit`)", CONTENT),
    (Act::DiscardRecipient, "`action`: discard-recipient", CONTENT),
    (Act::DelayReply, "`action`: delay-reply", COMMANDS),
    (Act::HideCapability, "`action`: hide-capability", SESSION),
    (Act::ReadMessage, "`message`, `content`: anything but `not-here`", READING),
];

impl Act {
    /// May be done at this hook.
    pub(crate) fn allowed_at(self, hook: Hook) -> bool {
        TABLE.iter().any(|(act, _, hooks)| *act == self && hooks.contains(&hook))
    }

    /// What a verdict is; going on is always allowed.
    pub(crate) fn of(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Continue => None,
            Verdict::Accept => Some(Self::Accept),
            Verdict::Reject(_) => Some(Self::Reject),
            Verdict::Defer(_) => Some(Self::Defer),
            Verdict::Disconnect(_) => Some(Self::Disconnect),
            Verdict::Discard { .. } => Some(Self::Discard),
            Verdict::Hold { .. } => Some(Self::Hold),
        }
    }
}

/// The table as it stands in the documentation.
#[must_use]
pub fn reference() -> String {
    let names: Vec<&str> = Hook::ALL.iter().map(|h| h.as_str()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), ":-:|".repeat(names.len()));
    for (_, what, at) in TABLE {
        let marks = Hook::ALL.iter().map(|h| if at.contains(h) { " x |" } else { "   |" });
        text.push_str(&format!("| {what} |{}\n", marks.collect::<String>()));
    }
    text
}
