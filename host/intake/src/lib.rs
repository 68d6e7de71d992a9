//! Intake: connects SMTP sessions, hooks and the queue, and takes responsibility for messages by committing to the spool.
//!
//! Owns: relay control, restrictions and address verification, the path of a message from MAIL to the commit, alias expansion, hooks for
//! internally generated mail, the session guard and the session log line.
//! Uses: config, generated, message, net, pipeline, smtp, spool, types.
//! Used by: daemon.
//! Never: a socket, WebAssembly, a delivery.
//! Start reading at: `session_handler.rs` (questions of an SMTP session), then `transaction.rs`.
#![forbid(unsafe_code)]

mod alias_expansion;
mod end_of_data;
mod expanded_dsn;
mod guard;
mod recording;
mod relay_control;
mod replies;
mod restrictions;
mod session_handler;
mod settings;
mod submissions;
mod submit;
mod transaction;
mod verify;

use std::sync::Arc;

use waxwing_pipeline::{Authenticator, Pipeline, RecipientDirectory, Recorder, SessionClient, Trace};
use waxwing_spool::Spool;
use waxwing_types::{Clock, Source};

pub use guard::{Guard, GuardAnswer, GuardQuestion, GuardSettings, GuardState, GuardedSession, GuardedSessionHandler};
pub use restrictions::Policy;
pub use session_handler::SmtpSessionHandler;
pub use settings::IntakeSettings;
pub use verify::Verifier;

/// Settings and services of [`Intake`].
pub struct IntakeServices {
    /// Limits and host names.
    pub settings: IntakeSettings,
    /// Plugin hooks of the configuration.
    pub pipeline: Arc<Pipeline>,
    /// Access restrictions of the configuration.
    pub policy: Policy,
    /// Queue for accepted messages.
    pub spool: Arc<dyn Spool>,
    /// Directory of existing recipients.
    pub directory: Arc<dyn RecipientDirectory>,
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
    services: IntakeServices,
}

impl Intake {
    /// Creates an intake from settings and services.
    #[must_use]
    pub fn new(services: IntakeServices) -> Arc<Self> {
        Arc::new(Self { services })
    }

    /// Creates the session handler of a server session.
    #[must_use]
    pub fn session_handler(self: &Arc<Self>, client: SessionClient, via: Source) -> SmtpSessionHandler {
        SmtpSessionHandler::new(Arc::clone(self), client, via)
    }
}

#[cfg(test)]
mod tests;
