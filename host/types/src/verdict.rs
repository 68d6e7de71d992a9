//! What a hook decides.

use serde::{Deserialize, Serialize};

use crate::Reply;

/// A hook's decision; the first decisive one ends the chain, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Go on to the next plugin.
    Continue,
    /// Accept at this hook: later plugins are not asked here.
    Accept,
    /// Answer with this 5yz reply.
    Reject(Reply),
    /// Answer with this 4yz reply.
    Defer(Reply),
    /// Answer with this reply and close the connection.
    Disconnect(Reply),
    /// Say 250 and throw the message away.
    Discard {
        /// For the log.
        reason: String,
    },
    /// Accept into the hold queue.
    Hold {
        /// For the operator.
        reason: String,
    },
}

impl Verdict {
    /// Ends the chain at its hook.
    #[must_use]
    pub fn is_decisive(&self) -> bool {
        !matches!(self, Self::Continue)
    }

    /// The word in logs, traces and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Continue => "next",
            Self::Accept => "accept",
            Self::Reject(_) => "reject",
            Self::Defer(_) => "defer",
            Self::Disconnect(_) => "disconnect",
            Self::Discard { .. } => "discard",
            Self::Hold { .. } => "hold",
        }
    }
}
