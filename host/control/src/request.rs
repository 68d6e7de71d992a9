//! Requests of the control protocol.

use serde::{Deserialize, Serialize};
use waxwing_types::QueueId;

use crate::{PasswordRecordText, QUEUE_PAGE_MAX, serde_display};

/// Transactions returned by [`ControlRequest::TraceLast`] at most.
pub const TRACE_LAST_MAX: u32 = 100;

/// Recordings returned by [`ControlRequest::RecordingLast`] at most.
pub const RECORDING_PAGE_MAX: u32 = 100;

/// A request to the running server. As JSON: `{"ask":"queue-show","id":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Version and identity of the server.
    Ping,
    /// A page of the queue.
    QueueList {
        /// Key of the page, from [`QueuePage::next`](crate::QueuePage::next); `None` for the first page.
        #[serde(default)]
        after: Option<String>,
        /// Units on the page at most; the server limits the number to [`QUEUE_PAGE_MAX`].
        limit: u32,
    },
    /// Details of a message.
    QueueShow {
        /// Queue id of the message.
        #[serde(with = "serde_display")]
        id: QueueId,
    },
    /// Trace of all hook calls for a message, whether queued, delivered or rejected.
    Trace {
        /// Queue id of the transaction.
        #[serde(with = "serde_display")]
        id: QueueId,
    },
    /// Traces of the latest transactions.
    TraceLast {
        /// Number of transactions; the server limits the number to [`TRACE_LAST_MAX`].
        limit: u32,
    },
    /// Recording of a transaction.
    Recording {
        /// Queue id of the transaction.
        #[serde(with = "serde_display")]
        id: QueueId,
    },
    /// The latest recordings, newest first.
    RecordingLast {
        /// Upper end of the page, from the response before; `None` for the newest recordings.
        #[serde(default)]
        before: Option<String>,
        /// Number of recordings; the server limits the number to [`RECORDING_PAGE_MAX`].
        limit: u32,
    },
    /// Bound plugins with the counters of each hook.
    PluginList,
    /// Counters and histograms since the start of the server.
    Metrics,
    /// Reload of the plugin files, of all plugins or of a single plugin.
    PluginReload {
        /// Plugin name in the configuration; `None` for all.
        #[serde(default)]
        name: Option<String>,
    },
    /// Undo of a plugin's last change: removes the canary, or else restores the previous version.
    PluginRollback {
        /// Plugin name in the configuration.
        name: String,
    },
    /// Promotion of a plugin's canary to the stable version.
    PluginPromote {
        /// Plugin name in the configuration.
        name: String,
    },
    /// Configuration in effect, secrets redacted.
    ConfigShow,
    /// Certificates in use by the listeners.
    TlsShow,
    /// Reload of the whole configuration.
    Reload,
    /// A page of the users in the store, in the order of names.
    UserList {
        /// Name after which the page begins; `None` for the first page.
        #[serde(default)]
        after: Option<String>,
    },
    /// A user of the store.
    UserShow {
        /// User name, normalized by the server.
        name: String,
    },
    /// Addition of a user to the store.
    UserAdd {
        /// Name of the new user.
        name: String,
        /// Hash records of the password.
        records: Vec<PasswordRecordText>,
    },
    /// Replacement of a user's password records.
    UserPasswd {
        /// Name of the user.
        name: String,
        /// Hash records of the new password.
        records: Vec<PasswordRecordText>,
    },
    /// Removal of a user from the store.
    UserDelete {
        /// Name of the user.
        name: String,
    },
}

impl ControlRequest {
    /// Clamps a requested page size to 1 … [`QUEUE_PAGE_MAX`] units.
    #[must_use]
    pub fn clamp_page_size(asked: u32) -> usize {
        asked.clamp(1, QUEUE_PAGE_MAX) as usize
    }
}
