//! Simulated transactions with plugins: test case, configuration and result. The server code runs in the same process with a queue in a
//! temporary directory; the daemon implements [`Simulate`].

pub(crate) mod golden;
pub(crate) mod header_diff;
pub(crate) mod report;
pub(crate) mod setup;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::Serialize;
use waxwing_config::Config;
use waxwing_pipeline::TraceEntry;
use waxwing_types::{Parameter, Source, Tags, Timestamp};

use crate::ToolError;

/// Transaction of a client, the input of a simulation.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Name of the client by reverse lookup.
    pub client_name: Option<String>,
    /// Name of the listener.
    pub listener: String,
    /// Source of the message (SMTP or submission).
    pub source: Source,
    /// Parameter of EHLO or HELO.
    pub helo: String,
    /// True for EHLO, false for HELO.
    pub esmtp: bool,
    /// Envelope sender; empty for `<>`.
    pub sender: String,
    /// Parameters of the MAIL command.
    pub mail_parameters: Vec<Parameter>,
    /// Recipients with the parameters of RCPT.
    pub recipients: Vec<(String, Vec<Parameter>)>,
    /// Message with CRLF line ends; `None`: the client disconnects after the recipients.
    pub content: Option<Bytes>,
    /// Fixed time of the server's clock; `None`: the system clock.
    pub fixed_time: Option<Timestamp>,
}

/// Configuration under test.
#[derive(Clone, Debug)]
pub struct TestSetup {
    /// Server configuration with names, limits, tables and plugins.
    pub config: Config,
    /// Name of the plugin under test.
    pub plugin: String,
}

/// Outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TransactionOutcome {
    /// Reply 250, and the message is in the queue.
    Accept,
    /// Reply 5xx to a command or the message.
    Reject,
    /// Reply 4xx to a command or the message.
    Defer,
    /// Negative reply with a disconnection by the server.
    Disconnect,
    /// Reply 250, but the message is not in the queue.
    Discard,
    /// Reply 250, and the message is in the hold queue.
    Hold,
    /// Disconnection by the client before any refusal: the verdict on the message is unknown.
    Open,
}

impl TransactionOutcome {
    /// Returns the name used in reports.
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

/// SMTP command with the server's reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandReply {
    /// Command line; empty for the greeting, `.` for the message.
    pub command: String,
    /// Reply text, with multiple lines joined by spaces.
    pub reply: String,
}

/// Message in the queue after a transaction.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    /// Envelope sender; empty for `<>`.
    pub sender: String,
    /// Envelope recipients after alias expansion.
    pub recipients: Vec<String>,
    /// Header block without the Received field of this server.
    pub header: Bytes,
    /// Message body in bytes.
    pub body: Bytes,
    /// Tags set by plugins.
    pub tags: Tags,
    /// Reason for the hold queue, if held.
    pub hold: Option<String>,
}

/// Resource use of a plugin in one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookCost {
    /// Name of the plugin.
    pub plugin: String,
    /// Name of the hook.
    pub hook: String,
    /// Number of completed calls.
    pub calls: u64,
    /// Units of fuel, about one per WebAssembly instruction.
    pub fuel: u64,
    /// Memory of the largest instance, in bytes.
    pub memory_bytes: u64,
    /// Number of calls of each host function.
    pub host_calls: BTreeMap<String, u64>,
}

/// Result of a simulated transaction.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// Queue id of the transaction, if assigned.
    pub id: Option<String>,
    /// Outcome of the transaction.
    pub outcome: TransactionOutcome,
    /// Reply with the outcome.
    pub reply: String,
    /// Command with the outcome: `connect`, `EHLO`, `MAIL`, `RCPT`, `DATA`, or `.` for the message.
    pub stage: String,
    /// All commands and replies.
    pub dialogue: Vec<CommandReply>,
    /// Trace entries of all steps.
    pub trace: Vec<TraceEntry>,
    /// Message in the queue afterwards.
    pub queued: Option<QueuedMessage>,
    /// Resource use by plugin and hook.
    pub costs: Vec<HookCost>,
}

/// Simulator of transactions with the code of the server.
pub trait Simulate {
    /// Loads the plugins once and runs each test case in a separate session. Error: a configuration or plugin unfit for use.
    fn simulate(&self, setup: TestSetup, test_cases: &[TestCase]) -> Result<Vec<TestResult>, ToolError>;
}
