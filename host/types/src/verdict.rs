//! Verdicts of hooks.

use serde::{Deserialize, Serialize};

use crate::Reply;

/// Verdict of a hook; the first decisive verdict ends the chain, in configuration order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Continue with the next plugin.
    Next,
    /// Accept at the current hook without calling later plugins.
    Accept,
    /// Reject with a 5yz reply.
    Reject(Reply),
    /// Defer with a 4yz reply.
    Defer(Reply),
    /// Send the reply and close the connection.
    Disconnect(Reply),
    /// Reply 250 and drop the message.
    Discard {
        /// Reason for the log.
        reason: String,
    },
    /// Accept into the hold queue.
    Hold {
        /// Reason for the operator.
        reason: String,
    },
}

impl Verdict {
    /// Returns whether the verdict ends the chain at its hook.
    #[must_use]
    pub fn is_decisive(&self) -> bool {
        !matches!(self, Self::Next)
    }

    /// Returns the name in logs, traces and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Accept => "accept",
            Self::Reject(_) => "reject",
            Self::Defer(_) => "defer",
            Self::Disconnect(_) => "disconnect",
            Self::Discard { .. } => "discard",
            Self::Hold { .. } => "hold",
        }
    }
}
