//! What hooks there are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point on a message's way at which plugins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A client has connected.
    OnConnect,
    /// TLS has begun.
    OnTls,
    /// It has said HELO or EHLO.
    OnHelo,
    /// AUTH: what is stored for a user.
    OnCredentials,
    /// AUTH: is this secret right?
    OnAuth,
    /// A command that is left to policy, or unknown.
    OnCommand,
    /// MAIL.
    OnMail,
    /// RCPT.
    OnRcpt,
    /// RCPT, after the aliases spoke.
    OnRcptResolved,
    /// DATA, before the 354.
    OnData,
    /// A plugin is about to refuse.
    OnRefuse,
    /// The header is complete, the body still to come.
    OnHeaders,
    /// The message is complete; filters.
    OnMessage,
    /// The message is complete; symbols with weights.
    OnScore,
    /// All symbols are there.
    OnDecide,
    /// The message is complete; one recipient's word.
    OnRecipientMessage,
    /// The message is complete; the server's own tidying.
    OnCleanup,
    /// An address of the envelope or header may be rewritten.
    OnRewriteAddress,
    /// A recipient may stand for others.
    OnResolve,
    /// The message is about to be committed.
    OnEnqueue,
    /// After the 250, before the first attempt.
    OnScan,
    /// Where a recipient goes.
    OnRoute,
    /// An attempt begins.
    OnSend,
    /// A message is handed to a transport that is a plugin.
    OnDeliver,
    /// A remote server has replied.
    OnReply,
    /// An attempt ended with recipients deferred.
    OnRetry,
    /// What became of a recipient.
    OnOutcome,
    /// A report is about to be sent.
    OnDsn,
    /// A transaction ended without a commit.
    OnAbort,
    /// A session ended.
    OnDisconnect,
    /// Something happened, for accounting.
    OnEvent,
    /// About once a minute.
    OnTick,
    /// A key of a lookup table.
    OnTable,
}

impl Hook {
    /// All hooks, in the order of a message's way.
    pub const ALL: [Self; 33] = [
        Self::OnConnect,
        Self::OnTls,
        Self::OnHelo,
        Self::OnCredentials,
        Self::OnAuth,
        Self::OnCommand,
        Self::OnMail,
        Self::OnRcpt,
        Self::OnRcptResolved,
        Self::OnData,
        Self::OnRefuse,
        Self::OnHeaders,
        Self::OnMessage,
        Self::OnScore,
        Self::OnDecide,
        Self::OnRecipientMessage,
        Self::OnCleanup,
        Self::OnRewriteAddress,
        Self::OnResolve,
        Self::OnEnqueue,
        Self::OnScan,
        Self::OnRoute,
        Self::OnSend,
        Self::OnDeliver,
        Self::OnReply,
        Self::OnRetry,
        Self::OnOutcome,
        Self::OnDsn,
        Self::OnAbort,
        Self::OnDisconnect,
        Self::OnEvent,
        Self::OnTick,
        Self::OnTable,
    ];

    /// The name of its interface in the contract, without package.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnConnect => "on-connect",
            Self::OnTls => "on-tls",
            Self::OnHelo => "on-helo",
            Self::OnCredentials => "on-credentials",
            Self::OnAuth => "on-auth",
            Self::OnCommand => "on-command",
            Self::OnMail => "on-mail",
            Self::OnRcpt => "on-rcpt",
            Self::OnRcptResolved => "on-rcpt-resolved",
            Self::OnData => "on-data",
            Self::OnRefuse => "on-refuse",
            Self::OnHeaders => "on-headers",
            Self::OnMessage => "on-message",
            Self::OnScore => "on-score",
            Self::OnDecide => "on-decide",
            Self::OnRecipientMessage => "on-recipient-message",
            Self::OnCleanup => "on-cleanup",
            Self::OnRewriteAddress => "on-rewrite-address",
            Self::OnResolve => "on-resolve",
            Self::OnEnqueue => "on-enqueue",
            Self::OnScan => "on-scan",
            Self::OnRoute => "on-route",
            Self::OnSend => "on-send",
            Self::OnDeliver => "on-deliver",
            Self::OnReply => "on-reply",
            Self::OnRetry => "on-retry",
            Self::OnOutcome => "on-outcome",
            Self::OnDsn => "on-dsn",
            Self::OnAbort => "on-abort",
            Self::OnDisconnect => "on-disconnect",
            Self::OnEvent => "on-event",
            Self::OnTick => "on-tick",
            Self::OnTable => "on-table",
        }
    }

    /// The hook of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|h| h.as_str() == name)
    }

    /// Its place in [`Hook::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The hooks that a plugin exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookSet(u64);

impl HookSet {
    /// With one more.
    #[must_use]
    pub fn with(self, hook: Hook) -> Self {
        Self(self.0 | 1 << hook.index())
    }

    /// Has this hook.
    #[must_use]
    pub fn contains(self, hook: Hook) -> bool {
        self.0 & 1 << hook.index() != 0
    }

    /// The hooks in the order of a message's way.
    pub fn iter(self) -> impl Iterator<Item = Hook> {
        Hook::ALL.into_iter().filter(move |h| self.contains(*h))
    }
}

impl FromIterator<Hook> for HookSet {
    fn from_iter<I: IntoIterator<Item = Hook>>(hooks: I) -> Self {
        hooks.into_iter().fold(Self::default(), Self::with)
    }
}
