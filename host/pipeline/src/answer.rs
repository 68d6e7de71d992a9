//! Arguments and answers of hooks, and the changes that a call stages.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waxwing_types::{Address, Disposition, Edit, NextHop, Reply, Verdict};

use crate::{ContextRecipient, Submission};

/// Secret that a client gives to authenticate. Never printed, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Password in plain text (RFC 4616 and the LOGIN mechanism).
    Password(String),
    /// Bearer token of OAUTHBEARER (RFC 7628) or XOAUTH2.
    Token(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Record of a user in the store of a plugin (on-credentials).
#[derive(Clone, PartialEq, Eq)]
pub enum StoredCredential {
    /// Password hash with the prefix of the scheme.
    Hash(String),
    /// No such user.
    Absent,
    /// Temporary failure of the store, with the reason.
    Unavailable(String),
}

impl fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash(_) => "(hash)",
            Self::Absent => "absent",
            Self::Unavailable(_) => "unavailable",
        })
    }
}

/// Result of a plugin's check of a name and a secret (on-auth).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthAnswer {
    /// Secret accepted for the user of this name.
    Allow(String),
    /// Name or secret is wrong.
    Deny,
    /// Temporary failure of the check, with the reason.
    Unavailable(String),
    /// User not served by this plugin; the next plugin is asked.
    NotMine,
}

/// Named score that a filter gives to a message, as in spam filtering (on-score).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbol {
    /// Name of the symbol.
    pub name: String,
    /// Weight of the symbol; a positive weight counts against the message.
    pub score: f32,
    /// Evidence in the message for the symbol.
    pub detail: Option<String>,
}

/// Queue priority, first attempt time and hold state of a new message (on-enqueue).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Priority in the queue; a higher value is delivered first.
    pub priority: i8,
    /// Minimum delay before the first attempt.
    pub not_before: Duration,
    /// Reason to place the message in the hold queue.
    pub hold: Option<String>,
}

/// Attempt that ended with recipients deferred (argument of on-retry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeferralInfo {
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// Time since the message was received.
    pub age: Duration,
    /// Next hop of the attempt.
    pub destination: String,
    /// Enhanced status code (RFC 3463) of the first deferred recipient.
    pub status: String,
    /// Text of the status of the first deferred recipient.
    pub text: String,
}

/// Time of the next attempt, as on-retry decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// By the retry schedule of the configuration.
    AsPlanned,
    /// After this delay.
    After(Duration),
    /// No further attempt: the recipients have failed.
    GiveUp,
}

/// Classification of a remote server's reply (on-reply).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyClass {
    /// Class given by the first digit of the code (RFC 5321 §4.2.1).
    #[default]
    AsIs,
    /// Treated as a 4yz reply.
    Temporary,
    /// Treated as a 5yz reply.
    Permanent,
    /// Destination counted as dead: no further mail is sent there for a while.
    DestinationDead,
}

/// Result of one attempt for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientFate {
    /// Message accepted for the recipient.
    Delivered,
    /// Delivery to be retried.
    Deferred,
    /// Permanent failure of delivery.
    Failed,
    /// Queue lifetime exceeded (Postfix `maximal_queue_lifetime`).
    Expired,
}

/// Result of delivery to a recipient, for accounting (argument of on-outcome).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// Recipient of the delivery.
    pub recipient: ContextRecipient,
    /// Result of the attempt.
    pub fate: RecipientFate,
    /// Next hop of the attempt.
    pub destination: String,
    /// Enhanced status code (RFC 3463).
    pub status: String,
    /// Text of the status.
    pub text: String,
}

/// Result of a lookup in a table that a plugin serves (on-table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableLookup {
    /// Value of the key.
    Value(String),
    /// No entry under the key.
    Absent,
    /// Temporary failure of the table, with the reason.
    Unavailable(String),
}

/// Result of expanding a recipient, as in aliases(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpansionTarget {
    /// Another mailbox address.
    Address(Address),
    /// Command, by the name in the configuration.
    Command(String),
    /// Path of a file to which the message is appended.
    File(String),
}

/// Targets that replace a recipient (on-resolve).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// New recipients; an empty list is valid only with `verify`.
    pub targets: Vec<ExpansionTarget>,
    /// Envelope sender of the copies, for a list with an owner (`owner-` alias).
    pub sender: Option<Address>,
}

/// Answer of a plugin to on-resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Recipient not known to this plugin; the next plugin is asked.
    NotMine,
    /// No such recipient.
    Unknown,
    /// Recipient replaced by the targets.
    Targets(Expansion),
    /// Temporary failure of the lookup, with the reason.
    Unavailable(String),
}

/// Answer of a plugin to an [`Event`](crate::Event). The variant of the event determines the variant of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum HookAnswer {
    /// No answer, for notification hooks.
    Done,
    /// Verdict, for hooks that decide.
    Verdict(Verdict),
    /// Answer to `on-credentials`: the stored record.
    StoredCredential(StoredCredential),
    /// Answer to `on-auth`: the result of the check.
    Auth(AuthAnswer),
    /// Answer to `on-command`: the reply; none passes the command to the next plugin.
    Reply(Option<Reply>),
    /// Answer to `on-score`: the symbols of this plugin.
    Symbols(Vec<Symbol>),
    /// Answer to `on-enqueue`: priority, delay and hold.
    Placement(Placement),
    /// Answer to `on-route`: the next hop; none passes the recipient to the next plugin.
    Route(Option<NextHop>),
    /// Answer to `on-reply`: the class of the reply.
    ReplyClass(ReplyClass),
    /// Answer to `on-retry`: the time of the next attempt.
    NextTry(NextTry),
    /// Answer to `on-dsn`: false suppresses the DSN.
    SendDsn(bool),
    /// Answer to `on-table`: the result of the lookup.
    TableLookup(TableLookup),
    /// Answer to `on-rewrite-address`: the new address; none leaves the address unchanged.
    Rewritten(Option<Address>),
    /// Answer to `on-resolve`: the resolution of a recipient.
    Resolution(Resolution),
    /// Answer to `on-deliver`: a disposition by recipient index. A missing recipient counts as deferred.
    Dispositions(Vec<(u32, Disposition)>),
}

/// Changes staged by one call, beside the answer; applied together when the call returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagedChanges {
    /// Edits of message and envelope, in the order of the calls.
    pub edits: Vec<Edit>,
    /// Skips the later hooks of this plugin for the current message.
    pub skip_rest: bool,
    /// Reason to accept the message into the hold queue.
    pub quarantine: Option<String>,
    /// Address that replaces all recipients.
    pub redirect: Option<Address>,
    /// Recipients to discard with a 250 reply: index and reason.
    pub discard_recipients: Vec<(u32, String)>,
    /// Delay before the reply to the client.
    pub delay_reply: Duration,
    /// EHLO keywords to hide from the client.
    pub hide_capabilities: Vec<String>,
    /// Messages to send with the commit.
    pub submissions: Vec<Submission>,
}

/// Result of a call that returned.
#[derive(Clone, Debug, PartialEq)]
pub struct CallOutcome {
    /// Answer to the event.
    pub answer: HookAnswer,
    /// Staged changes of the call.
    pub changes: StagedChanges,
    /// Log lines of the call, for the trace; bounded by the limits of the plugin.
    pub log: Vec<String>,
}

impl CallOutcome {
    /// Creates an outcome that changes nothing.
    #[must_use]
    pub fn from_answer(answer: HookAnswer) -> Self {
        Self { answer, changes: StagedChanges::default(), log: Vec::new() }
    }
}
