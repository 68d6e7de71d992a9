//! Joins SMTP sessions, hooks and the queue. Here, and nowhere else, responsibility for a message is taken.
//!
//! Owns: who may write to whom (relay control, restrictions, verified addresses), the way of a message from MAIL to the commit, alias
//! expansion, what made mail goes through, the log line of a session.
//! Uses: smtp and net (sessions), pipeline (hooks), queue (spool), message (headers), config (networks).
//! Used by: daemon.
//! Never: a socket, WebAssembly, a delivery.
//! Start reading at: `host.rs` (the questions of a session), then `transaction.rs`.
#![forbid(unsafe_code)]

mod along;
mod content;
mod door;
mod expand;
mod expanded;
mod gate;
mod host;
mod recording;
mod replies;
mod restrict;
mod settings;
mod submit;
mod transaction;
mod verify;

use std::sync::Arc;

use waxwing_pipeline::{Authenticator, Client, Directory, Pipeline, Recorder, Trace};
use waxwing_queue::Spool;
use waxwing_types::{Clock, Via};

pub use door::{Door, DoorAnswer, DoorQuestion, DoorSettings, DoorShared, GuardedHost, GuardedSession};
pub use host::SessionHost;
pub use restrict::Policy;
pub use settings::IntakeSettings;
pub use verify::{Verifier, VerifySettings};

/// What intake is made of.
pub struct Parts {
    /// Its limits and names.
    pub settings: IntakeSettings,
    /// The hooks.
    pub pipeline: Arc<Pipeline>,
    /// The operator's restrictions.
    pub policy: Policy,
    /// Where messages go.
    pub spool: Arc<dyn Spool>,
    /// Who has a mailbox here.
    pub directory: Arc<dyn Directory>,
    /// Who checks names and secrets; without, nobody can authenticate.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// What hooks did to each message.
    pub trace: Arc<dyn Trace>,
    /// What clients said, where the operator wants it recorded.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Takes mail in.
pub struct Intake {
    parts: Parts,
}

impl Intake {
    /// Makes it.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts })
    }

    /// The host of one server session.
    #[must_use]
    pub fn host(self: &Arc<Self>, client: Client, via: Via) -> SessionHost {
        SessionHost::new(Arc::clone(self), client, via)
    }
}

#[cfg(test)]
mod tests;
