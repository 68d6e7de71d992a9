//! Intake: connects SMTP sessions, hooks and the queue, and takes responsibility for messages by committing to the spool.
//!
//! Owns: relay control, restrictions and address verification, the path of a message from MAIL to the commit, alias expansion, hooks for
//! internally generated mail, the session guard and the session log line.
//! Uses: config, message, net, pipeline, queue, smtp, types.
//! Used by: daemon.
//! Never: a socket, WebAssembly, a delivery.
//! Start reading at: `session_handler.rs` (questions of an SMTP session), then `transaction.rs`.
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

/// Settings and services of [`Intake`].
pub struct Parts {
    /// Limits and host names.
    pub settings: IntakeSettings,
    /// Plugin hooks of the configuration.
    pub pipeline: Arc<Pipeline>,
    /// Access restrictions of the configuration.
    pub policy: Policy,
    /// Queue for accepted messages.
    pub spool: Arc<dyn Spool>,
    /// Directory of existing recipients.
    pub directory: Arc<dyn Directory>,
    /// SASL authenticator; `None` disables AUTH.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Sink for traces of hook calls.
    pub trace: Arc<dyn Trace>,
    /// Sink for session recordings; `None` disables recording.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Clock for timestamps and durations.
    pub clock: Arc<dyn Clock>,
}

/// Intake of mail from SMTP sessions and internal sources.
pub struct Intake {
    parts: Parts,
}

impl Intake {
    /// Creates an intake from settings and services.
    #[must_use]
    pub fn new(services: Parts) -> Arc<Self> {
        Arc::new(Self { parts: services })
    }

    /// Creates the session handler of a server session.
    #[must_use]
    pub fn host(self: &Arc<Self>, client: Client, via: Via) -> SessionHost {
        SessionHost::new(Arc::clone(self), client, via)
    }
}

#[cfg(test)]
mod tests;
