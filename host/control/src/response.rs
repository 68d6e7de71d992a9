//! What the server answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use waxwing_types::Timestamp;

use crate::{PluginChange, PluginStatus, QueuePage, ShownMessage, UserStatus};

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
    /// To `Reload`.
    Reloaded(Reloaded),
    /// To `UserList` and `UserShow`.
    Users {
        /// In the order of their names; to `UserShow` none or one.
        users: Vec<UserStatus>,
        /// The next page begins behind this name.
        next: Option<String>,
    },
    /// To `UserAdd`, `UserPasswd` and `UserDelete`: it is durable.
    UserChanged,
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

/// A configuration that serves from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file that was read.
    pub file: String,
    /// Listeners that were opened.
    pub opened: Vec<String>,
    /// Listeners that were closed.
    pub closed: Vec<String>,
    /// Plugins that were added, removed or loaded again.
    pub plugins: Vec<PluginChange>,
    /// Keys that have other values in the file but change only at the next start.
    pub next_start: Vec<String>,
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
    /// Something of that name is there already.
    Exists,
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
