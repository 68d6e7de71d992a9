//! What may be done at which hook: one table, for the checks and for the documentation.

use waxwing_pipeline::Hook;
use waxwing_types::Verdict;

use crate::check::is_called;

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
    Submit,
}

use Hook::{
    OnCleanup, OnConnect, OnData, OnDecide, OnDeliver, OnDsn, OnEnqueue, OnHeaders, OnHelo, OnMail, OnMessage, OnOutcome, OnRcpt,
    OnRcptResolved, OnRecipientMessage, OnRefuse, OnRetry, OnRewriteAddress, OnRoute, OnScan, OnScore, OnSend, OnTick, OnTls,
};

const SESSION: &[Hook] = &[OnConnect, OnTls, OnHelo];
const COMMANDS: &[Hook] = &[OnConnect, OnTls, OnHelo, OnMail, OnRcpt, OnRcptResolved, OnData];
/// Not the hooks after the commit: there is none behind them that an `accept` could pass over.
const ACCEPTING: &[Hook] = &[
    OnConnect,
    OnTls,
    OnHelo,
    OnMail,
    OnRcpt,
    OnRcptResolved,
    OnData,
    OnRefuse,
    OnHeaders,
    OnMessage,
    OnDecide,
    OnRecipientMessage,
    OnCleanup,
];
const REFUSING: &[Hook] = &[
    OnConnect,
    OnTls,
    OnHelo,
    OnMail,
    OnRcpt,
    OnRcptResolved,
    OnData,
    OnRefuse,
    OnHeaders,
    OnMessage,
    OnDecide,
    OnRecipientMessage,
    OnCleanup,
    OnScan,
    OnSend,
];
const DISCONNECTING: &[Hook] =
    &[OnConnect, OnTls, OnHelo, OnMail, OnRcpt, OnRcptResolved, OnData, OnHeaders, OnMessage, OnDecide];
/// At on-refuse these are what a refusal may be softened to.
const WITHHOLDING: &[Hook] =
    &[OnMail, OnRcpt, OnRcptResolved, OnData, OnRefuse, OnHeaders, OnMessage, OnDecide, OnRecipientMessage, OnCleanup, OnScan];
const TAGGING: &[Hook] = &[
    OnConnect,
    OnTls,
    OnHelo,
    OnMail,
    OnRcpt,
    OnRcptResolved,
    OnData,
    OnRefuse,
    OnHeaders,
    OnMessage,
    OnScore,
    OnDecide,
    OnCleanup,
    OnEnqueue,
];
const TRANSACTION: &[Hook] = &[OnMail, OnRcpt, OnRcptResolved, OnData, OnHeaders, OnMessage, OnDecide, OnCleanup];
const HEADERS: &[Hook] = &[OnMessage, OnDecide, OnCleanup, OnSend, OnDsn];
const CONTENT: &[Hook] = &[OnMessage, OnDecide, OnCleanup];
/// At on-headers there is a header, and no body yet: `content` has nothing to say there.
const READING: &[Hook] = &[
    OnHeaders,
    OnMessage,
    OnScore,
    OnDecide,
    OnRecipientMessage,
    OnCleanup,
    OnRewriteAddress,
    OnEnqueue,
    OnScan,
    OnRoute,
    OnSend,
    OnDeliver,
    OnRetry,
    OnOutcome,
    OnDsn,
];
const LEAVING: &[Hook] =
    &[OnConnect, OnTls, OnHelo, OnMail, OnRcpt, OnRcptResolved, OnData, OnHeaders, OnMessage, OnScore, OnDecide, OnCleanup];

/// Where a commit or a settlement follows that new mail goes with.
const SUBMITTING: &[Hook] = &[
    OnMail,
    OnRcpt,
    OnRcptResolved,
    OnData,
    OnHeaders,
    OnMessage,
    OnScore,
    OnDecide,
    OnCleanup,
    OnScan,
    OnSend,
    OnRetry,
    OnOutcome,
    OnDsn,
    OnTick,
];

/// The table: what, how the documentation calls it, and where.
const TABLE: &[(Act, &str, &[Hook])] = &[
    (Act::Accept, "verdict `accept`", ACCEPTING),
    (Act::Reject, "verdict `reject`", REFUSING),
    (Act::Defer, "verdict `defer`", REFUSING),
    (Act::Disconnect, "verdict `disconnect`", DISCONNECTING),
    (Act::Discard, "verdict `discard`", WITHHOLDING),
    (Act::Hold, "verdict `hold`", WITHHOLDING),
    (Act::EditHeader, "`edit`: add-, insert-, replace-, remove-header", HEADERS),
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
    (Act::Submit, "`submit`: send", SUBMITTING),
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
    let hooks: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| is_called(*hook)).collect();
    let names: Vec<&str> = hooks.iter().map(|h| h.as_str()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), ":-:|".repeat(names.len()));
    for (_, what, at) in TABLE {
        let marks = hooks.iter().map(|h| if at.contains(h) { " x |" } else { "   |" });
        text.push_str(&format!("| {what} |{}\n", marks.collect::<String>()));
    }
    text
}
