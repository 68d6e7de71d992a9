//! Delivery attempts and their result for each recipient.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EnhancedCode, QueueId, Timestamp};

/// Next hop of a message: a transport, and for transports that connect, host and port. A host in brackets is used without
/// MX lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NextHop {
    /// Name of the transport.
    pub transport: String,
    /// Domain or host; empty for transports without a destination.
    pub host: String,
    /// TCP port, for transports with a port.
    pub port: Option<u16>,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.transport)?;
        if !self.host.is_empty() {
            write!(f, ":{}", self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Delivery attempt: a message, a next hop, and some of the recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Queue id of the message.
    pub queue_id: QueueId,
    /// Next hop of the attempt.
    pub next_hop: NextHop,
    /// Indexes into the envelope's recipients.
    pub recipients: Vec<u32>,
    /// Number of the attempt, counted from 1.
    pub number: u32,
    /// Time by which the attempt must have ended.
    pub deadline: Timestamp,
}

/// Status reported by a delivery agent or a remote server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// SMTP reply code, if a reply was received.
    pub code: Option<u16>,
    /// Enhanced status code (RFC 3463).
    pub enhanced: EnhancedCode,
    /// Name and address of the replying server, or name of the delivery agent.
    pub remote: Option<String>,
    /// Text in a single line; for server replies everything after the reply code, including any enhanced code.
    pub text: String,
}

impl Status {
    /// Creates a local status, without a remote server.
    pub fn local(enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self { code: None, enhanced, remote: None, text: text.into() }
    }
}

/// Result of an attempt for a single recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposition {
    /// Delivered to a mailbox, or relayed to the next server.
    Delivered(Status),
    /// Deferred for another attempt, with an optional earliest time.
    Deferred {
        /// Reason for the deferral.
        status: Status,
        /// Earliest time of the next attempt.
        not_before: Option<Timestamp>,
    },
    /// Failed permanently: the sender gets a failure DSN.
    Failed(Status),
}

impl Disposition {
    /// Returns the contained status.
    #[must_use]
    pub fn status(&self) -> &Status {
        match self {
            Self::Delivered(status) | Self::Deferred { status, .. } | Self::Failed(status) => status,
        }
    }
}
