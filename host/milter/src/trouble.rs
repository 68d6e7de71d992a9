//! What goes wrong with a milter, and which fault that is.

use std::io;
use std::time::Duration;

use waxwing_pipeline::{Fault, FaultKind};
use waxwing_types::Endpoint;

use crate::codec::WireError;

/// Why a milter gave no answer. Each makes the connection unfit for more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is no connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It ended the connection, or the connection broke.
    #[error("closed the connection {0}")]
    Closed(&'static str),
    /// No answer within the time.
    #[error("did not answer {what} within {}", seconds(*time))]
    TooLate {
        /// What was asked.
        what: &'static str,
        /// How long it had.
        time: Duration,
    },
    /// What came is no packet.
    #[error("broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// A packet that is not allowed here.
    #[error("broke the protocol: {0}")]
    Violation(String),
    /// More than a limit allows.
    #[error("wants too much: {0}")]
    Limit(String),
    /// Nothing that the milter did.
    #[error("could not be shown the message: {0}")]
    Body(io::Error),
}

impl Trouble {
    /// For the pipeline, with the milter's address.
    pub(crate) fn into_fault(self, endpoint: &Endpoint) -> Fault {
        let kind = match &self {
            Self::Unreachable(_) | Self::Closed(_) => FaultKind::Connection,
            Self::TooLate { .. } => FaultKind::TimeLimit,
            Self::Wire(_) | Self::Violation(_) | Self::Limit(_) => FaultKind::BadAnswer,
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
