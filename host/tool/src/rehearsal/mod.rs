//! A transaction with plugins on the bench: what is played, who plays, and what was seen. The server itself plays it, in this process
//! and over a queue in a temporary directory; the daemon implements [`Rehearse`].

pub(crate) mod cast;
pub(crate) mod differences;
pub(crate) mod golden;
pub(crate) mod report;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::Serialize;
use waxwing_config::Config;
use waxwing_pipeline::TraceEntry;
use waxwing_types::{Parameter, Tags, Timestamp, Via};

use crate::ToolError;

/// One transaction as a client makes it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Where the client is.
    pub peer: SocketAddr,
    /// Its name by reverse lookup.
    pub client_name: Option<String>,
    /// The listener that it came to.
    pub listener: String,
    /// By which door.
    pub via: Via,
    /// What it says after EHLO or HELO.
    pub helo: String,
    /// EHLO.
    pub esmtp: bool,
    /// Envelope sender; empty for `<>`.
    pub sender: String,
    /// Parameters of MAIL.
    pub mail_parameters: Vec<Parameter>,
    /// Recipients with the parameters of RCPT.
    pub recipients: Vec<(String, Vec<Parameter>)>,
    /// The message, CRLF line ends; none: the client goes after its recipients.
    pub content: Option<Bytes>,
    /// The time that the server believes it is; none: the time that it is.
    pub at: Option<Timestamp>,
}

/// Who plays.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Names, limits, tables and plugins.
    pub config: Config,
    /// The plugin that it is about.
    pub plugin: String,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// 250, and it is in the queue.
    Accept,
    /// 5xx.
    Reject,
    /// 4xx.
    Defer,
    /// A negative reply, and the connection is closed.
    Disconnect,
    /// 250, and it is nowhere.
    Discard,
    /// 250, and it is in the hold queue.
    Hold,
    /// The client left while nothing had been refused: what would have been said of its message is not known.
    Open,
}

impl Ending {
    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Defer => "defer",
            Self::Disconnect => "disconnect",
            Self::Discard => "discard",
            Self::Hold => "hold",
            Self::Open => "open",
        }
    }
}

/// A command and its reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// What the client sent; empty for the greeting, `.` for the message.
    pub command: String,
    /// What it heard, several lines joined by spaces.
    pub reply: String,
}

/// What is in the queue afterwards.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Envelope sender.
    pub sender: String,
    /// Envelope recipients, aliases expanded.
    pub recipients: Vec<String>,
    /// The header block, without the Received field of this server.
    pub head: Bytes,
    /// The body.
    pub body: Bytes,
    /// What plugins said about it.
    pub tags: Tags,
    /// Why it is held.
    pub hold: Option<String>,
}

/// What a plugin's calls of one hook cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The plugin.
    pub plugin: String,
    /// The hook.
    pub hook: String,
    /// Calls that ended by themselves.
    pub calls: u64,
    /// Units of fuel, about one for each WebAssembly instruction.
    pub fuel: u64,
    /// Octets of the largest instance.
    pub memory_bytes: u64,
    /// Host functions and how often each was called.
    pub host_calls: BTreeMap<String, u64>,
}

/// What was seen of one transaction.
#[derive(Clone, Debug)]
pub struct Performance {
    /// Its queue id; none if it got none.
    pub id: Option<String>,
    /// How it ended.
    pub ending: Ending,
    /// The reply that says so.
    pub reply: String,
    /// The command that it answers: `connect`, `EHLO`, `MAIL`, `RCPT`, `DATA`, or `.` for the message.
    pub stage: String,
    /// All commands and replies.
    pub dialogue: Vec<Exchange>,
    /// Each step.
    pub entries: Vec<TraceEntry>,
    /// What is in the queue afterwards.
    pub queued: Option<Queued>,
    /// What it cost.
    pub costs: Vec<Cost>,
}

/// Plays transactions as the server would.
pub trait Rehearse {
    /// Loads the plugins once and plays each scene in a session of its own.
    fn rehearse(&self, cast: Cast, scenes: &[Scene]) -> Result<Vec<Performance>, ToolError>;
}
