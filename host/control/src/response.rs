//! Responses of the control protocol.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use waxwing_types::Timestamp;

use crate::{MessageInfo, PluginChange, PluginStatus, QueuePage, UserStatus};

/// The single response to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum ControlResponse {
    /// Response to `Ping`.
    Pong(DaemonInfo),
    /// Response to `QueueList`.
    Queue(QueuePage),
    /// Response to `QueueShow`.
    Message(Box<MessageInfo>),
    /// Response to `Trace` and `TraceLast`: trace records as serialised by the pipeline, in chronological order.
    Trace {
        /// Trace records in JSON.
        records: Vec<Value>,
    },
    /// Response to `Recording` and `RecordingLast`: recordings as serialised by the pipeline.
    Recordings {
        /// Recordings in JSON, newest first.
        recordings: Vec<Value>,
        /// Queue id before which the next page ends; `None` on the last page.
        next: Option<String>,
    },
    /// Response to `PluginList`.
    Plugins {
        /// Plugins in configuration order.
        plugins: Vec<PluginStatus>,
    },
    /// Response to `Metrics`.
    Metrics {
        /// Metrics in the Prometheus text format, version 0.0.4.
        text: String,
    },
    /// Response to `PluginReload`, `PluginRollback` and `PluginPromote`.
    PluginChanges {
        /// Result for each requested plugin.
        changes: Vec<PluginChange>,
    },
    /// Response to `ConfigShow`.
    Config {
        /// Path of the configuration file.
        file: String,
        /// Configuration in effect, as TOML.
        text: String,
    },
    /// Response to `TlsShow`.
    Tls {
        /// SHA-256 fingerprints of the certificates in use, in hexadecimal digits.
        certificates: Vec<String>,
    },
    /// Response to `Reload`.
    Reloaded(ReloadReport),
    /// Response to `UserList` and `UserShow`.
    Users {
        /// Users in the order of names; for `UserShow` none or one.
        users: Vec<UserStatus>,
        /// Name after which the next page begins; `None` on the last page.
        next: Option<String>,
    },
    /// Response to `UserAdd`, `UserPasswd` and `UserDelete`, once the change is durable.
    UserChanged,
    /// Error response to any request.
    #[serde(rename = "problem")]
    Error(ControlError),
}

/// Identity of the running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Version of the server.
    pub version: String,
    /// Process id of the server.
    pub pid: u32,
    /// Host name (`myhostname`).
    pub hostname: String,
    /// Time of the start.
    pub started_at: Timestamp,
}

/// Report of a successful configuration reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Path of the configuration file.
    pub file: String,
    /// Listeners opened by the reload.
    pub opened: Vec<String>,
    /// Listeners closed by the reload.
    pub closed: Vec<String>,
    /// Plugins added, removed or reloaded.
    pub plugins: Vec<PluginChange>,
    /// Changed keys that take effect only at the next start.
    pub next_start: Vec<String>,
}

/// Error of a control request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{text}")]
pub struct ControlError {
    /// Kind of the error.
    pub kind: ControlErrorKind,
    /// Error text for the operator.
    pub text: String,
}

/// Kinds of control errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlErrorKind {
    /// Unknown, malformed or oversized request.
    BadRequest,
    /// No object of this id or name.
    NotFound,
    /// An object of this name exists already.
    Exists,
    /// The client is not authorised.
    Denied,
    /// The server failed; details are in the log.
    Failed,
}

impl ControlResponse {
    /// Creates an error response.
    pub fn error(kind: ControlErrorKind, text: impl Into<String>) -> Self {
        Self::Error(ControlError { kind, text: text.into() })
    }
}
