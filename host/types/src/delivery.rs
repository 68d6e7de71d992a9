//! One try to hand a message on, and what became of each recipient.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EnhancedCode, QueueId, Timestamp};

/// Where a message goes next: a transport, and for those that connect somewhere, a host and a port. A host in brackets is
/// taken as it is, without MX lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NextHop {
    /// Name of the transport.
    pub transport: String,
    /// Domain or host; empty for transports that go nowhere.
    pub host: String,
    /// TCP port, where the transport has one.
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

/// One message, one next hop, some of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The message.
    pub queue_id: QueueId,
    /// Where to.
    pub hop: NextHop,
    /// Indexes into the envelope's recipients.
    pub recipients: Vec<u32>,
    /// Counts from 1.
    pub number: u32,
    /// When the attempt must have ended.
    pub deadline: Timestamp,
}

/// What a delivery agent or a remote server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The SMTP reply code, if there was a reply.
    pub code: Option<u16>,
    /// RFC 3463 status.
    pub enhanced: EnhancedCode,
    /// Name and address of the server that spoke, or of the agent.
    pub remote: Option<String>,
    /// The words, one line; of a server's reply everything behind its code, an enhanced code too if it gave one.
    pub text: String,
}

impl Status {
    /// A status of our own, without a remote server.
    pub fn local(enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self { code: None, enhanced, remote: None, text: text.into() }
    }
}

/// What became of one recipient in one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposition {
    /// Handed on: delivered here, or relayed to the next server.
    Delivered(Status),
    /// To be tried again, not before the given time if there is one.
    Deferred {
        /// Why.
        status: Status,
        /// The earliest next try.
        not_before: Option<Timestamp>,
    },
    /// Given up: the sender is told.
    Failed(Status),
}

impl Disposition {
    /// The status inside.
    #[must_use]
    pub fn status(&self) -> &Status {
        match self {
            Self::Delivered(status) | Self::Deferred { status, .. } | Self::Failed(status) => status,
        }
    }
}
