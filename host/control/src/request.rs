//! What a client may ask.

use serde::{Deserialize, Serialize};
use waxwing_types::QueueId;

use crate::{PasswordRecord, QUEUE_PAGE_MAX, printed};

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
    /// Read the configuration again, whole, and serve by it from now on.
    Reload,
    /// A page of the users in the store, in the order of their names.
    UserList {
        /// Where the page before said that this one begins.
        #[serde(default)]
        after: Option<String>,
    },
    /// One user of the store.
    UserShow {
        /// Its name.
        name: String,
    },
    /// Add a user to the store.
    UserAdd {
        /// Its name.
        name: String,
        /// Of its password.
        records: Vec<PasswordRecord>,
    },
    /// Give a user of the store other records.
    UserPasswd {
        /// Its name.
        name: String,
        /// Of its new password.
        records: Vec<PasswordRecord>,
    },
    /// Remove a user from the store.
    UserDelete {
        /// Its name.
        name: String,
    },
}

impl Request {
    /// The limit in effect for a page of the queue: what was asked, at least one, at most [`QUEUE_PAGE_MAX`].
    #[must_use]
    pub fn page_limit(asked: u32) -> usize {
        asked.clamp(1, QUEUE_PAGE_MAX) as usize
    }
}
