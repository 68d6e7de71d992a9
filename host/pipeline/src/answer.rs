//! What hooks are told and answer, and what a call stages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waxwing_types::{Address, Disposition, Edit, Verdict};

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
    /// To `on-score`.
    Symbols(Vec<Symbol>),
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
