//! Connection test of a milter, before binding.

use std::time::Duration;

use waxwing_types::Endpoint;

use crate::codec::{Actions, Stage, Steps};
use crate::line::Line;

/// Negotiation result of a milter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Protocol version of the milter.
    pub version: u32,
    /// Actions requested by the milter.
    pub actions: Actions,
    /// Protocol flags requested by the milter.
    pub steps: Steps,
    /// Macros selected by the milter, by stage.
    pub macros: Vec<(Stage, Vec<String>)>,
}

/// Failure to connect to a milter or to negotiate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the milter at {endpoint} {reason}")]
pub struct ProbeError {
    /// Address of the milter.
    pub endpoint: Endpoint,
    /// Description of the failure.
    pub reason: String,
}

/// Connects, negotiates and disconnects, within `time` each for the connection and the negotiation.
pub async fn probe(endpoint: &Endpoint, time: Duration) -> Result<Probe, ProbeError> {
    match Line::open(endpoint, time).await {
        Ok(line) => {
            let terms = line.terms().clone();
            Ok(Probe { version: terms.version, actions: terms.actions, steps: terms.steps, macros: terms.macros })
        }
        Err(trouble) => Err(ProbeError { endpoint: endpoint.clone(), reason: trouble.to_string() }),
    }
}
