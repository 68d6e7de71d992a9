//! Permission table: the operations allowed at each hook, for the runtime checks and for the documentation.

use waxwing_pipeline::Hook;
use waxwing_types::Verdict;

use crate::linking::is_implemented;

/// Operation of a plugin that depends on the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function or case of that name in the contract")]
pub enum Operation {
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
const SESSION_HOOKS: &[Hook] = &[OnConnect, OnTls, OnHelo];
/// Hooks from MAIL to the reply to DATA.
const ENVELOPE_HOOKS: &[Hook] = &[OnMail, OnRcpt, OnRcptResolved, OnData];
/// Hooks while the client waits for the reply to the message. At on-headers only the header block is available; `content`
/// returns `not-here`.
const MESSAGE_HOOKS: &[Hook] = &[OnHeaders, OnMessage, OnDecide];
/// Other hooks with a verdict before the commit. The verdict of on-refuse replaces a refusal.
const PRE_COMMIT_HOOKS: &[Hook] = &[OnRefuse, OnRecipientMessage, OnCleanup];
/// Hooks at which the complete message may still be changed.
const CONTENT_EDIT_HOOKS: &[Hook] = &[OnMessage, OnDecide, OnCleanup];
/// Hooks before a settlement.
const SETTLEMENT_HOOKS: &[Hook] = &[OnScan, OnSend, OnRetry, OnOutcome, OnDsn];

/// Permission table: operation, name in the documentation, and hooks.
const PERMISSIONS: &[(Operation, &str, HookGroups)] = &[
    // Excludes hooks after the commit, which no later hook follows that an `accept` could skip.
    (Operation::Accept, "verdict `accept`", &[SESSION_HOOKS, ENVELOPE_HOOKS, MESSAGE_HOOKS, PRE_COMMIT_HOOKS]),
    (Operation::Reject, "verdict `reject`", &[SESSION_HOOKS, ENVELOPE_HOOKS, MESSAGE_HOOKS, PRE_COMMIT_HOOKS, &[OnScan, OnSend]]),
    (Operation::Defer, "verdict `defer`", &[SESSION_HOOKS, ENVELOPE_HOOKS, MESSAGE_HOOKS, PRE_COMMIT_HOOKS, &[OnScan, OnSend]]),
    (Operation::Disconnect, "verdict `disconnect`", &[SESSION_HOOKS, ENVELOPE_HOOKS, MESSAGE_HOOKS]),
    (Operation::Discard, "verdict `discard`", &[ENVELOPE_HOOKS, MESSAGE_HOOKS, PRE_COMMIT_HOOKS, &[OnScan]]),
    (Operation::Hold, "verdict `hold`", &[ENVELOPE_HOOKS, MESSAGE_HOOKS, PRE_COMMIT_HOOKS, &[OnScan]]),
    (Operation::EditHeader, "`edit`: add-, insert-, replace-, remove-header", &[CONTENT_EDIT_HOOKS, &[OnSend, OnDsn]]),
    (Operation::EditBody, "`edit`: write-body, drop-, replace-, add-part", &[CONTENT_EDIT_HOOKS]),
    (Operation::SetSender, "`edit`: set-sender", &[ENVELOPE_HOOKS, MESSAGE_HOOKS, &[OnCleanup]]),
    (Operation::EditRecipients, "`edit`: add-, change-, remove-recipient", &[CONTENT_EDIT_HOOKS]),
    (
        Operation::SetTag,
        "`transaction`: set-tag",
        &[SESSION_HOOKS, ENVELOPE_HOOKS, MESSAGE_HOOKS, &[OnRefuse, OnScore, OnCleanup, OnEnqueue]],
    ),
    (Operation::SkipRest, "`action`: skip-rest", &[SESSION_HOOKS, ENVELOPE_HOOKS, MESSAGE_HOOKS, &[OnScore, OnCleanup]]),
    (Operation::Quarantine, "`action`: quarantine", &[ENVELOPE_HOOKS, MESSAGE_HOOKS, &[OnCleanup]]),
    (Operation::Redirect, "`action`: redirect (with the grant `edit`)", &[CONTENT_EDIT_HOOKS]),
    (Operation::DiscardRecipient, "`action`: discard-recipient", &[CONTENT_EDIT_HOOKS]),
    (Operation::DelayReply, "`action`: delay-reply", &[SESSION_HOOKS, ENVELOPE_HOOKS]),
    (Operation::HideCapability, "`action`: hide-capability", &[SESSION_HOOKS]),
    (
        Operation::ReadMessage,
        "`message`, `content`: anything but `not-here`",
        &[
            MESSAGE_HOOKS,
            SETTLEMENT_HOOKS,
            &[OnScore, OnRecipientMessage, OnCleanup, OnRewriteAddress, OnEnqueue, OnRoute, OnDeliver],
        ],
    ),
    // Limited to hooks before a commit or settlement, which includes the new message.
    (Operation::Submit, "`submit`: send", &[ENVELOPE_HOOKS, MESSAGE_HOOKS, SETTLEMENT_HOOKS, &[OnScore, OnCleanup, OnTick]]),
];

/// Groups of hooks.
type HookGroups = &'static [&'static [Hook]];

fn is_among(groups: HookGroups, hook: Hook) -> bool {
    groups.iter().any(|hooks| hooks.contains(&hook))
}

impl Operation {
    /// Checks whether the operation is allowed at a hook.
    pub(crate) fn allowed_at(self, hook: Hook) -> bool {
        PERMISSIONS.iter().any(|(act, _, groups)| *act == self && is_among(groups, hook))
    }

    /// Returns the operation of a verdict; `Next` is always allowed and has none.
    pub(crate) fn from_verdict(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Next => None,
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
pub fn permission_table() -> String {
    let hooks: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| is_implemented(*hook)).collect();
    let names: Vec<&str> = hooks.iter().map(|h| h.as_str()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), ":-:|".repeat(names.len()));
    for (_, what, at) in PERMISSIONS {
        let marks = hooks.iter().map(|h| if is_among(at, *h) { " x |" } else { "   |" });
        text.push_str(&format!("| {what} |{}\n", marks.collect::<String>()));
    }
    text
}
