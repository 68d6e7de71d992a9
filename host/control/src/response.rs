//! What the server answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use waxwing_types::Timestamp;

use crate::{PluginChange, PluginStatus, QueuePage, ShownMessage};

/// The one answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To `Ping`.
    Pong(ServerInfo),
    /// To `QueueList`.
    Queue(QueuePage),
    /// To `QueueShow`.
    Message(Box<ShownMessage>),
    /// To `Trace` and `TraceLast`: trace records as the pipeline prints them, in the order of time.
    Trace {
        /// The records.
        records: Vec<Value>,
    },
    /// To `Recording` and `RecordingLast`: recordings as the pipeline prints them.
    Recordings {
        /// The recordings, the newest first.
        recordings: Vec<Value>,
        /// The next page ends before this id.
        next: Option<String>,
    },
    /// To `PluginList`.
    Plugins {
        /// In the order of the configuration.
        plugins: Vec<PluginStatus>,
    },
    /// To `Metrics`.
    Metrics {
        /// In the text format of Prometheus, version 0.0.4.
        text: String,
    },
    /// To `PluginReload`, `PluginRollback` and `PluginPromote`.
    PluginChanges {
        /// What became of each that was asked about.
        changes: Vec<PluginChange>,
    },
    /// To `ConfigShow`.
    Config {
        /// The file that was read.
        file: String,
        /// What is in effect, as TOML.
        text: String,
    },
    /// To `TlsShow`.
    Tls {
        /// The fingerprints of the certificates that handshakes use now: SHA-256 in hexadecimal digits.
        certificates: Vec<String>,
    },
    /// To any request that can't be served.
    Problem(Problem),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Version of the server.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// `myhostname`.
    pub hostname: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{text}")]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// A sentence for a person.
    pub text: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The request is not one of ours, or too long.
    BadRequest,
    /// Nothing has that id.
    NotFound,
    /// The client may not ask this.
    Denied,
    /// The server failed; its log says more.
    Failed,
}

impl Response {
    /// A problem.
    pub fn problem(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self::Problem(Problem { kind, text: text.into() })
    }
}
