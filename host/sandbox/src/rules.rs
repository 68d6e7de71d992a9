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

/// Before MAIL.
const SESSION: &[Hook] = &[OnConnect, OnTls, OnHelo];
/// From MAIL to the reply to DATA.
const ENVELOPE: &[Hook] = &[OnMail, OnRcpt, OnRcptResolved, OnData];
/// While the client waits for the reply to its message. At on-headers there is a header, and no body yet: `content` has nothing to say
/// there.
const INCOMING: &[Hook] = &[OnHeaders, OnMessage, OnDecide];
/// What else has a verdict before the commit. At on-refuse it is what a refusal may be softened to.
const ENDING: &[Hook] = &[OnRefuse, OnRecipientMessage, OnCleanup];
/// Where a message is whole and may still be changed.
const CONTENT: &[Hook] = &[OnMessage, OnDecide, OnCleanup];
/// Where a settlement follows.
const SETTLING: &[Hook] = &[OnScan, OnSend, OnRetry, OnOutcome, OnDsn];

/// The table: what, how the documentation calls it, and where.
const TABLE: &[(Act, &str, Where)] = &[
    // Not the hooks after the commit: there is none behind them that an `accept` could pass over.
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
    // Where a commit or a settlement follows that new mail goes with.
    (Act::Submit, "`submit`: send", &[ENVELOPE, INCOMING, SETTLING, &[OnScore, OnCleanup, OnTick]]),
];

/// Groups of hooks.
type Where = &'static [&'static [Hook]];

fn is_among(groups: Where, hook: Hook) -> bool {
    groups.iter().any(|hooks| hooks.contains(&hook))
}

impl Act {
    /// May be done at this hook.
    pub(crate) fn allowed_at(self, hook: Hook) -> bool {
        TABLE.iter().any(|(act, _, groups)| *act == self && is_among(groups, hook))
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
        let marks = hooks.iter().map(|h| if is_among(at, *h) { " x |" } else { "   |" });
        text.push_str(&format!("| {what} |{}\n", marks.collect::<String>()));
    }
    text
}
