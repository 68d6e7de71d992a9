//! What hooks are told and answer, and what a call stages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waxwing_types::{Address, Disposition, Edit, NextHop, QueueId, Reply, ReversePath, Verdict};

use crate::ContextRecipient;

/// What a client gives as proof of who it is. Not printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In plain text.
    Password(String),
    /// Of OAUTHBEARER or XOAUTH2.
    Token(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a store knows of a user.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// A password hash with its scheme.
    Hash(String),
    /// No such user.
    Absent,
    /// Cannot say now.
    Unavailable(String),
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash(_) => "(hash)",
            Self::Absent => "absent",
            Self::Unavailable(_) => "unavailable",
        })
    }
}

/// What a plugin says of a name and a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthAnswer {
    /// They belong to this user.
    Allow(String),
    /// They are wrong.
    Deny,
    /// Cannot say now.
    Unavailable(String),
    /// Another plugin may know.
    NotMine,
}

/// A sign of what a message is, with a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// Its weight; positive is bad.
    pub score: f32,
    /// What gave rise to it.
    pub detail: Option<String>,
}

/// When a message is tried first, and before which others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Higher goes first.
    pub priority: i8,
    /// No attempt before this time has passed.
    pub not_before: Duration,
    /// Into the hold queue, with this reason.
    pub hold: Option<String>,
}

/// An attempt that ended with recipients deferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its number, from 1.
    pub attempt: u32,
    /// Since the message came.
    pub age: Duration,
    /// Where to.
    pub destination: String,
    /// The enhanced status code of the first deferred recipient.
    pub status: String,
    /// Its text.
    pub text: String,
}

/// When the next attempt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// By the schedule of the configuration.
    AsPlanned,
    /// After this time.
    After(Duration),
    /// Never: the recipients have failed.
    GiveUp,
}

/// How a remote server's reply is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyClass {
    /// By its code.
    #[default]
    AsIs,
    /// As if it were 4yz.
    Temporary,
    /// As if it were 5yz.
    Permanent,
    /// Nothing more is sent there for now.
    DestinationDead,
}

/// What became of a recipient in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has the message.
    Delivered,
    /// It waits.
    Deferred,
    /// It is given up.
    Failed,
    /// It waited too long.
    Expired,
}

/// What became of a recipient, for those who keep accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// Who.
    pub recipient: ContextRecipient,
    /// What.
    pub fate: Fate,
    /// Where to.
    pub destination: String,
    /// The enhanced status code.
    pub status: String,
    /// Its text.
    pub text: String,
}

/// What a table has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This.
    Value(String),
    /// Nothing.
    Absent,
    /// Cannot say now.
    Unavailable(String),
}

/// Mail that a call sends. It is committed with what caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The name of the new message, which the plugin was told.
    pub id: QueueId,
    /// Envelope sender.
    pub sender: ReversePath,
    /// Envelope recipients.
    pub recipients: Vec<Address>,
    /// The whole message, CRLF line ends.
    pub content: Bytes,
    /// The plugin that sends it; filled in by the pipeline.
    pub author: Arc<str>,
}

/// What a recipient stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Another mailbox.
    Address(Address),
    /// A command by its configured name.
    Command(String),
    /// A file that is appended to.
    File(String),
}

/// The recipients that one stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The new recipients; may be empty only for `verify`.
    pub targets: Vec<Target>,
    /// The sender of these copies, where a list has an owner.
    pub sender: Option<Address>,
}

/// What a resolver says of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Another plugin may know it.
    NotMine,
    /// No such recipient.
    Unknown,
    /// It stands for these.
    Targets(Expansion),
    /// Cannot say now.
    Unavailable(String),
}

/// The answer to an [`Event`](crate::Event); which one, the event says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To the hooks that only hear of something.
    Done,
    /// To the hooks that decide.
    Verdict(Verdict),
    /// To `on-credentials`.
    Stored(Stored),
    /// To `on-auth`.
    Auth(AuthAnswer),
    /// To `on-command`. None leaves it to others.
    Reply(Option<Reply>),
    /// To `on-score`.
    Symbols(Vec<Symbol>),
    /// To `on-enqueue`.
    Placement(Placement),
    /// To `on-route`. None leaves it to others.
    Route(Option<NextHop>),
    /// To `on-reply`.
    Class(ReplyClass),
    /// To `on-retry`.
    NextTry(NextTry),
    /// To `on-dsn`: false suppresses the report.
    Report(bool),
    /// To `on-table`.
    Found(Found),
    /// None leaves the address as it is.
    Rewritten(Option<Address>),
    /// To `on-resolve`.
    Resolution(Resolution),
    /// To `on-deliver`, by recipient index. A recipient that is missing counts as deferred.
    Dispositions(Vec<(u32, Disposition)>),
}

/// Everything that a call staged beside its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the order in which they were made.
    pub edits: Vec<Edit>,
    /// No later hook of this plugin is called for this message.
    pub skip_rest: bool,
    /// Accept, and hold with this reason.
    pub quarantine: Option<String>,
    /// All recipients become this one.
    pub redirect: Option<Address>,
    /// Recipients that get a 250 and nothing else: index and reason.
    pub discard_recipients: Vec<(u32, String)>,
    /// Wait this long before the reply.
    pub delay_reply: Duration,
    /// EHLO keywords to leave out.
    pub hide_capabilities: Vec<String>,
    /// Mail to send.
    pub submissions: Vec<Submission>,
}

/// A call that returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its answer.
    pub answer: Answer,
    /// What it staged.
    pub changes: Changes,
    /// Lines that it logged, for the trace; bounded by the guest's limits.
    pub log: Vec<String>,
}

impl Outcome {
    /// An answer that changes nothing.
    #[must_use]
    pub fn of(answer: Answer) -> Self {
        Self { answer, changes: Changes::default(), log: Vec::new() }
    }
}
