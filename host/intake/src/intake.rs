//! Intake of mail: the settings and services shared by all sessions.

use std::sync::Arc;

use waxwing_pipeline::{Authenticator, Pipeline, RecipientDirectory, Recorder, Trace};
use waxwing_spool::Spool;
use waxwing_types::Clock;

use crate::restrictions::Policy;
use crate::settings::IntakeSettings;

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
    pub(crate) services: IntakeServices,
}

impl Intake {
    /// Creates an intake from settings and services.
    #[must_use]
    pub fn new(services: IntakeServices) -> Arc<Self> {
        Arc::new(Self { services })
    }
}
