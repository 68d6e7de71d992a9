//! Errors of a milter connection, and the corresponding plugin faults.

use std::io;
use std::time::Duration;

use waxwing_pipeline::{Fault, FaultKind};
use waxwing_types::Endpoint;

use crate::codec::PacketError;

/// Failure of a milter call. Each variant makes the connection unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MilterError {
    /// Connecting to the milter failed.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The milter closed the connection, or the connection failed.
    #[error("closed the connection {0}")]
    Closed(&'static str),
    /// No reply arrived within the timeout.
    #[error("did not answer {what} within {}", seconds(*time))]
    Timeout {
        /// Step without a reply.
        what: &'static str,
        /// Timeout of the reply.
        time: Duration,
    },
    /// Received data is no packet.
    #[error("broke the protocol: {0}")]
    Packet(#[from] PacketError),
    /// The packet is not permitted at this step.
    #[error("broke the protocol: {0}")]
    Violation(String),
    /// A limit was exceeded.
    #[error("exceeded a limit: {0}")]
    LimitExceeded(String),
    /// Reading the message body failed, independent of the milter.
    #[error("was not called, reading the message failed: {0}")]
    Body(io::Error),
}

impl MilterError {
    /// Converts the error to a fault, with the milter's address.
    pub(crate) fn into_fault(self, endpoint: &Endpoint) -> Fault {
        let kind = match &self {
            Self::Unreachable(_) | Self::Closed(_) => FaultKind::Connection,
            Self::Timeout { .. } => FaultKind::TimeLimit,
            Self::Packet(_) | Self::Violation(_) | Self::LimitExceeded(_) => FaultKind::BadAnswer,
            Self::Body(_) => FaultKind::Host,
        };
        Fault::new(kind, format!("the milter at {endpoint} {self}"))
    }
}

fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}
