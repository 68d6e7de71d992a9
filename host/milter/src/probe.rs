//! A look at a milter, before it is bound to anything.

use std::time::Duration;

use waxwing_types::Endpoint;

use crate::codec::{Actions, Stage, Steps};
use crate::line::Line;

/// What a milter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The version of the protocol that it speaks.
    pub version: u32,
    /// The changes that it may ask for.
    pub actions: Actions,
    /// What it is not shown, does not reply to, and how it wants things.
    pub steps: Steps,
    /// The macros that it names, by stage.
    pub macros: Vec<(Stage, Vec<String>)>,
}

/// Why it is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the milter at {endpoint} {reason}")]
pub struct ProbeError {
    /// Where it was looked for.
    pub endpoint: Endpoint,
    /// What is wrong.
    pub reason: String,
}

/// Connects, negotiates and leaves.
pub async fn probe(endpoint: &Endpoint, time: Duration) -> Result<Probe, ProbeError> {
    match Line::open(endpoint, time).await {
        Ok(line) => {
            let terms = line.terms().clone();
            Ok(Probe { version: terms.version, actions: terms.actions, steps: terms.steps, macros: terms.macros })
        }
        Err(trouble) => Err(ProbeError { endpoint: endpoint.clone(), reason: trouble.to_string() }),
    }
}
