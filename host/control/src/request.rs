//! What a client may ask.

use serde::{Deserialize, Serialize};
use waxwing_types::QueueId;

use crate::{QUEUE_PAGE_MAX, printed};

/// Transactions that [`Request::TraceLast`] shows at most.
pub const TRACE_LAST_MAX: u32 = 100;

/// Recordings that one answer to [`Request::RecordingLast`] has at most.
pub const RECORDING_PAGE_MAX: u32 = 100;

/// One question to the running server. As JSON: `{"ask":"queue-show","id":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Are you there, and who are you?
    Ping,
    /// A page of the queue.
    QueueList {
        /// Where the page before said that this one begins.
        #[serde(default)]
        after: Option<String>,
        /// Units at most; the server takes no more than [`QUEUE_PAGE_MAX`].
        limit: u32,
    },
    /// All about one message.
    QueueShow {
        /// Its queue id.
        #[serde(with = "printed")]
        id: QueueId,
    },
    /// What every hook did to one message, queued, delivered or refused.
    Trace {
        /// Its queue id.
        #[serde(with = "printed")]
        id: QueueId,
    },
    /// The latest transactions.
    TraceLast {
        /// Transactions at most; the server takes no more than [`TRACE_LAST_MAX`].
        limit: u32,
    },
    /// The recording of one transaction.
    Recording {
        /// Its queue id.
        #[serde(with = "printed")]
        id: QueueId,
    },
    /// The latest recordings, the newest first.
    RecordingLast {
        /// Where the page before said that this one ends.
        #[serde(default)]
        before: Option<String>,
        /// Recordings at most; the server takes no more than [`RECORDING_PAGE_MAX`].
        limit: u32,
    },
    /// The bound plugins and how often each hook ran.
    PluginList,
    /// Counters and distributions of this run.
    Metrics,
    /// Load the files of plugins again, of all or of one.
    PluginReload {
        /// Its name in the configuration.
        #[serde(default)]
        name: Option<String>,
    },
    /// Undo the last change of a plugin: take its canary away, or else put the version before back.
    PluginRollback {
        /// Its name in the configuration.
        name: String,
    },
    /// Put a plugin's canary in its place.
    PluginPromote {
        /// Its name in the configuration.
        name: String,
    },
    /// The configuration in effect, secrets redacted.
    ConfigShow,
    /// The certificates that are shown.
    TlsShow,
}

impl Request {
    /// The limit in effect for a page of the queue: what was asked, at least one, at most [`QUEUE_PAGE_MAX`].
    #[must_use]
    pub fn page_limit(asked: u32) -> usize {
        asked.clamp(1, QUEUE_PAGE_MAX) as usize
    }
}
