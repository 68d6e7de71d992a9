//! Permission table: the operations allowed at each hook, for the runtime checks and for the documentation.

use waxwing_pipeline::Hook;
use waxwing_types::Verdict;

use crate::check::is_called;

/// Operation of a plugin that depends on the hook.
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
    Submit,
}

use Hook::{
    OnCleanup, OnConnect, OnData, OnDecide, OnDeliver, OnDsn, OnEnqueue, OnHeaders, OnHelo, OnMail, OnMessage, OnOutcome, OnRcpt,
    OnRcptResolved, OnRecipientMessage, OnRefuse, OnRetry, OnRewriteAddress, OnRoute, OnScan, OnScore, OnSend, OnTick, OnTls,
};

/// Hooks before MAIL.
const SESSION: &[Hook] = &[OnConnect, OnTls, OnHelo];
/// Hooks from MAIL to the reply to DATA.
const ENVELOPE: &[Hook] = &[OnMail, OnRcpt, OnRcptResolved, OnData];
/// Hooks while the client waits for the reply to the message. At on-headers only the header block is available; `content`
/// returns `not-here`.
const INCOMING: &[Hook] = &[OnHeaders, OnMessage, OnDecide];
/// Other hooks with a verdict before the commit. The verdict of on-refuse replaces a refusal.
const ENDING: &[Hook] = &[OnRefuse, OnRecipientMessage, OnCleanup];
/// Hooks at which the complete message may still be changed.
const CONTENT: &[Hook] = &[OnMessage, OnDecide, OnCleanup];
/// Hooks before a settlement.
const SETTLING: &[Hook] = &[OnScan, OnSend, OnRetry, OnOutcome, OnDsn];

/// Permission table: operation, name in the documentation, and hooks.
const TABLE: &[(Act, &str, Where)] = &[
    // Excludes hooks after the commit, which no later hook follows that an `accept` could skip.
    (Act::Accept, "verdict `accept`", &[SESSION, ENVELOPE, INCOMING, ENDING]),
    (Act::Reject, "verdict `reject`", &[SESSION, ENVELOPE, INCOMING, ENDING, &[OnScan, OnSend]]),
    (Act::Defer, "verdict `defer`", &[SESSION, ENVELOPE, INCOMING, ENDING, &[OnScan, OnSend]]),
    (Act::Disconnect, "verdict `disconnect`", &[SESSION, ENVELOPE, INCOMING]),
    (Act::Discard, "verdict `discard`", &[ENVELOPE, INCOMING, ENDING, &[OnScan]]),
    (Act::Hold, "verdict `hold`", &[ENVELOPE, INCOMING, ENDING, &[OnScan]]),
    (Act::EditHeader, "`edit`: add-, insert-, replace-, remove-header", &[CONTENT, &[OnSend, OnDsn]]),
    (Act::EditBody, "`edit`: write-body, drop-, replace-, add-part", &[CONTENT]),
    (Act::SetSender, "`edit`: set-sender", &[ENVELOPE, INCOMING, &[OnCleanup]]),
    (Act::EditRecipients, "`edit`: add-, change-, remove-recipient", &[CONTENT]),
    (Act::SetTag, "`transaction`: set-tag", &[SESSION, ENVELOPE, INCOMING, &[OnRefuse, OnScore, OnCleanup, OnEnqueue]]),
    (Act::SkipRest, "`action`: skip-rest", &[SESSION, ENVELOPE, INCOMING, &[OnScore, OnCleanup]]),
    (Act::Quarantine, "`action`: quarantine", &[ENVELOPE, INCOMING, &[OnCleanup]]),
    (Act::Redirect, "`action`: redirect (with the grant `edit`)", &[CONTENT]),
    (Act::DiscardRecipient, "`action`: discard-recipient", &[CONTENT]),
    (Act::DelayReply, "`action`: delay-reply", &[SESSION, ENVELOPE]),
    (Act::HideCapability, "`action`: hide-capability", &[SESSION]),
    (
        Act::ReadMessage,
        "`message`, `content`: anything but `not-here`",
        &[INCOMING, SETTLING, &[OnScore, OnRecipientMessage, OnCleanup, OnRewriteAddress, OnEnqueue, OnRoute, OnDeliver]],
    ),
    // Limited to hooks before a commit or settlement, which includes the new message.
    (Act::Submit, "`submit`: send", &[ENVELOPE, INCOMING, SETTLING, &[OnScore, OnCleanup, OnTick]]),
];

/// Groups of hooks.
type Where = &'static [&'static [Hook]];

fn is_among(groups: Where, hook: Hook) -> bool {
    groups.iter().any(|hooks| hooks.contains(&hook))
}

impl Act {
    /// Checks whether the operation is allowed at a hook.
    pub(crate) fn allowed_at(self, hook: Hook) -> bool {
        TABLE.iter().any(|(act, _, groups)| *act == self && is_among(groups, hook))
    }

    /// Returns the operation of a verdict; `Next` is always allowed and has none.
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

/// Returns the permission table in Markdown, as in HOOKS.md.
#[must_use]
pub fn reference() -> String {
    let hooks: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| is_called(*hook)).collect();
    let names: Vec<&str> = hooks.iter().map(|h| h.as_str()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), ":-:|".repeat(names.len()));
    for (_, what, at) in TABLE {
        let marks = hooks.iter().map(|h| if is_among(at, *h) { " x |" } else { "   |" });
        text.push_str(&format!("| {what} |{}\n", marks.collect::<String>()));
    }
    text
}
