//! What hooks there are, what each is asked and what it may answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waxwing_types::{Address, Disposition, Edit, NextHop, ReversePath, Verdict};

use crate::{Context, ContextRecipient};

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
    /// The message is complete; filters.
    OnMessage,
    /// The message is complete; the server's own tidying.
    OnCleanup,
    /// An address of the envelope or header may be rewritten.
    OnRewriteAddress,
    /// A recipient may stand for others.
    OnResolve,
    /// A message is handed to a transport that is a plugin.
    OnDeliver,
}

impl Hook {
    /// All hooks, in the order of a message's way.
    pub const ALL: [Self; 9] = [
        Self::OnConnect,
        Self::OnHelo,
        Self::OnMail,
        Self::OnRcpt,
        Self::OnMessage,
        Self::OnCleanup,
        Self::OnRewriteAddress,
        Self::OnResolve,
        Self::OnDeliver,
    ];

    /// The name of its interface in the contract, without package.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnConnect => "on-connect",
            Self::OnHelo => "on-helo",
            Self::OnMail => "on-mail",
            Self::OnRcpt => "on-rcpt",
            Self::OnMessage => "on-message",
            Self::OnCleanup => "on-cleanup",
            Self::OnRewriteAddress => "on-rewrite-address",
            Self::OnResolve => "on-resolve",
            Self::OnDeliver => "on-deliver",
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
pub struct HookSet(u16);

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

/// Where an address stands that may be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// MAIL FROM.
    EnvelopeSender,
    /// RCPT TO.
    EnvelopeRecipient,
    /// From, Sender, Reply-To and their Resent forms.
    HeaderSender,
    /// To, Cc, Bcc and their Resent forms.
    HeaderRecipient,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answered with [`Answer::Verdict`].
    Connect,
    /// The name that the client gave. Answered with [`Answer::Verdict`].
    Helo(String),
    /// Answered with [`Answer::Verdict`].
    Mail(ReversePath),
    /// Answered with [`Answer::Verdict`].
    Rcpt(ContextRecipient),
    /// Answered with [`Answer::Verdict`].
    Message,
    /// Answered with [`Answer::Verdict`].
    Cleanup,
    /// Answered with [`Answer::Rewritten`].
    RewriteAddress(Address, Role),
    /// Answered with [`Answer::Resolution`].
    Resolve {
        /// The recipient.
        recipient: Address,
        /// At RCPT: nothing will be delivered, an answer without targets is enough.
        verify: bool,
    },
    /// Answered with [`Answer::Dispositions`].
    Deliver {
        /// Where to.
        hop: NextHop,
        /// Which recipients.
        recipients: Vec<ContextRecipient>,
    },
}

impl Event {
    /// The hook that hears of it.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::Connect => Hook::OnConnect,
            Self::Helo(_) => Hook::OnHelo,
            Self::Mail(_) => Hook::OnMail,
            Self::Rcpt(_) => Hook::OnRcpt,
            Self::Message => Hook::OnMessage,
            Self::Cleanup => Hook::OnCleanup,
            Self::RewriteAddress(..) => Hook::OnRewriteAddress,
            Self::Resolve { .. } => Hook::OnResolve,
            Self::Deliver { .. } => Hook::OnDeliver,
        }
    }

    /// What the call is about, for the trace: an address, a name, or nothing.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Connect | Self::Message | Self::Cleanup => String::new(),
            Self::Helo(name) => name.clone(),
            Self::Mail(sender) => format!("<{sender}>"),
            Self::Rcpt(recipient) => recipient.recipient.address.to_string(),
            Self::RewriteAddress(address, _) | Self::Resolve { recipient: address, .. } => address.to_string(),
            Self::Deliver { hop, .. } => hop.to_string(),
        }
    }
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

/// The answer to an [`Event`]; which one, the event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To the hooks that decide.
    Verdict(Verdict),
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What kind of fault ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The wall-time limit.
    TimeLimit,
    /// The CPU-time limit.
    CpuLimit,
    /// The memory limit.
    MemoryLimit,
    /// The guest trapped: a panic, an access out of bounds, a deep recursion.
    Trap,
    /// The guest answered something that the contract does not allow.
    BadAnswer,
    /// No instance was free: always answered with 451.
    PoolExhausted,
    /// The host failed while it served the guest, for instance in reading the message.
    Host,
}

impl FaultKind {
    /// The word in logs, traces and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimeLimit => "time-limit",
            Self::CpuLimit => "cpu-limit",
            Self::MemoryLimit => "memory-limit",
            Self::Trap => "trap",
            Self::BadAnswer => "bad-answer",
            Self::PoolExhausted => "pool-exhausted",
            Self::Host => "host",
        }
    }
}

/// A call that did not return an answer. Nothing that it staged takes effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", kind.as_str())]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// For the operator, one line.
    pub text: String,
    /// Lines that it logged before.
    pub log: Vec<String>,
}

impl Fault {
    /// A fault without log lines.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), log: Vec::new() }
    }
}

/// Something that can be bound to hooks: a component in the sandbox, a milter, or native code.
pub trait Plugin: Send + Sync {
    /// Its version for the trace: a content hash or a number.
    fn version(&self) -> &str;

    /// The hooks that it wants.
    fn exports(&self) -> HookSet;

    /// Begins a conversation: one for the hooks before MAIL, one for each transaction, one for each attempt. Cheap: an
    /// instance is made at the first call.
    fn open(self: Arc<Self>) -> Box<dyn Guest>;
}

/// One conversation with a plugin.
#[async_trait]
pub trait Guest: Send {
    /// Asks. The plugin's limits of time and memory are inside. After a fault the next call meets a new instance.
    async fn call(&mut self, event: &Event, context: &Context) -> Result<Outcome, Fault>;
}
