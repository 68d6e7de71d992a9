//! Hooks of the plugin contract.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Extension point on the path of a message at which plugins are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A client has connected.
    OnConnect,
    /// TLS handshake has completed.
    OnTls,
    /// HELO or EHLO received.
    OnHelo,
    /// AUTH: lookup of the stored record of a user.
    OnCredentials,
    /// AUTH: verification of a secret.
    OnAuth,
    /// SMTP command that is left to policy or unknown.
    OnCommand,
    /// MAIL command received.
    OnMail,
    /// RCPT command received.
    OnRcpt,
    /// RCPT command, after alias expansion.
    OnRcptResolved,
    /// DATA command, before the 354 reply.
    OnData,
    /// Refusal by another plugin, before the reply.
    OnRefuse,
    /// Header block complete, body still to be received.
    OnHeaders,
    /// Message complete: filters.
    OnMessage,
    /// Message complete: symbols with weights.
    OnScore,
    /// All symbols collected: decision.
    OnDecide,
    /// Message complete: decision for one recipient.
    OnRecipientMessage,
    /// Message complete: header cleanup by the server (cleanup(8)).
    OnCleanup,
    /// Rewriting of an envelope or header address.
    OnRewriteAddress,
    /// Alias expansion of a recipient.
    OnResolve,
    /// Message about to be committed to the queue.
    OnEnqueue,
    /// Scan after the 250 reply, before the first attempt.
    OnScan,
    /// Choice of the next hop of a recipient.
    OnRoute,
    /// Delivery attempt about to start.
    OnSend,
    /// Delivery by a transport that is a plugin.
    OnDeliver,
    /// Reply of a remote server received.
    OnReply,
    /// Attempt ended with recipients deferred.
    OnRetry,
    /// Result of delivery to a recipient.
    OnOutcome,
    /// DSN about to be sent.
    OnDsn,
    /// Transaction ended without a commit.
    OnAbort,
    /// Session ended.
    OnDisconnect,
    /// Accounting event.
    OnEvent,
    /// Periodic call, about once a minute.
    OnTick,
    /// Lookup of a key in a table.
    OnTable,
}

impl Hook {
    /// All hooks, in the order of the path of a message.
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

    /// Returns the name of the interface in the contract, without the package.
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

    /// Returns the hook with the given name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|h| h.as_str() == name)
    }

    /// Returns the index in [`Hook::ALL`].
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

/// Set of hooks that a plugin exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookSet(u64);

impl HookSet {
    /// Returns the set with one more hook.
    #[must_use]
    pub fn with(self, hook: Hook) -> Self {
        Self(self.0 | 1 << hook.index())
    }

    /// Checks whether the set contains a hook.
    #[must_use]
    pub fn contains(self, hook: Hook) -> bool {
        self.0 & 1 << hook.index() != 0
    }

    /// Iterates over the hooks in the order of the path of a message.
    pub fn iter(self) -> impl Iterator<Item = Hook> {
        Hook::ALL.into_iter().filter(move |h| self.contains(*h))
    }
}

impl FromIterator<Hook> for HookSet {
    fn from_iter<I: IntoIterator<Item = Hook>>(hooks: I) -> Self {
        hooks.into_iter().fold(Self::default(), Self::with)
    }
}
