//! Connection test of a milter, before binding.

use std::time::Duration;

use waxwing_types::Endpoint;

use crate::codec::{ActionFlags, MacroStage, ProtocolFlags};
use crate::connection::MilterConnection;

/// Negotiation result of a milter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MilterProbe {
    /// Protocol version of the milter.
    pub version: u32,
    /// ActionFlags requested by the milter.
    pub actions: ActionFlags,
    /// Protocol flags requested by the milter.
    pub protocol: ProtocolFlags,
    /// Macros selected by the milter, by stage.
    pub macros: Vec<(MacroStage, Vec<String>)>,
}

/// Failure to connect to a milter or to negotiate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the milter at {endpoint} {reason}")]
pub struct MilterProbeError {
    /// Address of the milter.
    pub endpoint: Endpoint,
    /// Description of the failure.
    pub reason: String,
}

/// Connects, negotiates and disconnects, within `time` each for the connection and the negotiation.
pub async fn probe_milter(endpoint: &Endpoint, time: Duration) -> Result<MilterProbe, MilterProbeError> {
    match MilterConnection::open(endpoint, time).await {
        Ok(line) => {
            let terms = line.options().clone();
            Ok(MilterProbe { version: terms.version, actions: terms.actions, protocol: terms.protocol, macros: terms.macros })
        }
        Err(trouble) => Err(MilterProbeError { endpoint: endpoint.clone(), reason: trouble.to_string() }),
    }
}
