//! State shared by the queue manager and all attempts.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use waxwing_pipeline::{EventSink, Pipeline, Submit, Trace};
use waxwing_spool::{DueKey, Lease, Spool};
use waxwing_types::{Clock, QueueId, Timestamp};

use crate::dead_destinations::DeadDestinations;
use crate::plugin_call_limits::PluginCallLimits;
use crate::routing::{CurrentRouting, RoutingConfig};

/// Services used by the queue manager.
pub struct DeliveryServices {
    /// Settings, routing and transports.
    pub routing: Arc<CurrentRouting>,
    /// Queue storage of messages and units.
    pub spool: Arc<dyn Spool>,
    /// Hooks of the queue and of delivery.
    pub pipeline: Arc<Pipeline>,
    /// Runs the intake hooks on DSNs and plugin submissions.
    pub submit: Arc<dyn Submit>,
    /// Receives accounting events.
    pub events: Arc<dyn EventSink>,
    /// Receives the trace of each attempt.
    pub trace: Arc<dyn Trace>,
    /// Wall clock and monotonic time.
    pub clock: Arc<dyn Clock>,
}

/// Queue id and unit number.
pub(crate) type UnitKey = (QueueId, u16);

/// Notification: the unit has no open attempt any more.
pub(crate) struct UnitFinished {
    pub(crate) key: UnitKey,
    pub(crate) next: FollowUp,
}

/// Action of the manager for a unit without open attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// The unit is gone or on hold.
    Nothing,
    /// The unit is due at the given time.
    DueAt(Timestamp),
    /// The unit was not settled and keeps its place in the due index.
    Rescan(DueKey),
}

/// State shared by the manager and all attempts.
pub(crate) struct DeliveryContext {
    pub(crate) services: DeliveryServices,
    pub(crate) lease: Lease,
    pub(crate) finished: mpsc::Sender<UnitFinished>,
    /// Limits on concurrent plugin calls.
    pub(crate) plugin_limits: PluginCallLimits,
    /// Destinations suspended by plugins.
    pub(crate) dead_destinations: DeadDestinations,
}

impl DeliveryContext {
    /// Returns the configuration in force.
    pub(crate) fn routing(&self) -> Arc<RoutingConfig> {
        self.services.routing.current()
    }
}

/// Set of units under delivery. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ActiveUnits(Arc<Mutex<HashSet<UnitKey>>>);

impl ActiveUnits {
    /// Returns true while an attempt for the unit is open.
    #[must_use]
    pub fn contains(&self, id: QueueId, number: u16) -> bool {
        self.0.lock().contains(&(id, number))
    }

    /// Number of active units.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Adds a unit; false if the unit was active already.
    pub(crate) fn insert(&self, key: UnitKey) -> bool {
        self.0.lock().insert(key)
    }

    /// Removes a unit whose attempts have ended.
    pub(crate) fn remove(&self, key: UnitKey) {
        self.0.lock().remove(&key);
    }
}

impl FromIterator<UnitKey> for ActiveUnits {
    fn from_iter<I: IntoIterator<Item = UnitKey>>(units: I) -> Self {
        Self(Arc::new(Mutex::new(units.into_iter().collect())))
    }
}
