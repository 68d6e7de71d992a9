//! What hooks there are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point on a message's way at which plugins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A client has connected.
    OnConnect,
    /// It has said HELO or EHLO.
    OnHelo,
    /// MAIL.
    OnMail,
    /// RCPT.
    OnRcpt,
    /// DATA, before the 354.
    OnData,
    /// A plugin is about to refuse.
    OnRefuse,
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
    /// A message is handed to a transport that is a plugin.
    OnDeliver,
    /// A transaction ended without a commit.
    OnAbort,
    /// About once a minute.
    OnTick,
}

impl Hook {
    /// All hooks, in the order of a message's way.
    pub const ALL: [Self; 16] = [
        Self::OnConnect,
        Self::OnHelo,
        Self::OnMail,
        Self::OnRcpt,
        Self::OnData,
        Self::OnRefuse,
        Self::OnMessage,
        Self::OnScore,
        Self::OnDecide,
        Self::OnRecipientMessage,
        Self::OnCleanup,
        Self::OnRewriteAddress,
        Self::OnResolve,
        Self::OnDeliver,
        Self::OnAbort,
        Self::OnTick,
    ];

    /// The name of its interface in the contract, without package.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnConnect => "on-connect",
            Self::OnHelo => "on-helo",
            Self::OnMail => "on-mail",
            Self::OnRcpt => "on-rcpt",
            Self::OnData => "on-data",
            Self::OnRefuse => "on-refuse",
            Self::OnMessage => "on-message",
            Self::OnScore => "on-score",
            Self::OnDecide => "on-decide",
            Self::OnRecipientMessage => "on-recipient-message",
            Self::OnCleanup => "on-cleanup",
            Self::OnRewriteAddress => "on-rewrite-address",
            Self::OnResolve => "on-resolve",
            Self::OnDeliver => "on-deliver",
            Self::OnAbort => "on-abort",
            Self::OnTick => "on-tick",
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
pub struct HookSet(u32);

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
