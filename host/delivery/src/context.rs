//! State shared by the queue manager and all attempts.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use waxwing_pipeline::{EventSink, Pipeline, Submit, Trace};
use waxwing_spool::transition::{Transition, UnitCommand, UnitTarget};
use waxwing_spool::{DueKey, Lease, ListKey, Settlement, Spool, SpoolError, Unit};
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
    /// A command of the operator was applied to the unit.
    Commanded {
        /// Position of the unit before the command.
        from: DueKey,
        /// Position in the due index after the command; none for a unit removed or on hold.
        due: Option<DueKey>,
    },
}

/// State shared by the manager and all attempts.
pub(crate) struct DeliveryContext {
    pub(crate) services: DeliveryServices,
    /// Leases of all shards.
    pub(crate) leases: Vec<Lease>,
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

    /// Settles an attempt under the lease of the unit's shard. Errors of [`Spool::settle`].
    pub(crate) async fn settle(&self, settlement: Settlement) -> Result<Option<Unit>, SpoolError> {
        let lease = self.lease(settlement.unit.id)?;
        self.services.spool.settle(lease, settlement).await
    }

    /// Applies an operator's command under the lease of the unit's shard. Errors of [`Spool::apply_command`].
    pub(crate) async fn apply_command(&self, target: UnitTarget, command: UnitCommand) -> Result<Transition, SpoolError> {
        let id = match target.key {
            ListKey::Suspended(id, _) => id,
            ListKey::Due(key) => key.id,
        };
        self.services.spool.apply_command(self.lease(id)?, target, command, self.services.clock.now()).await
    }

    fn lease(&self, id: QueueId) -> Result<&Lease, SpoolError> {
        let shard = self.services.spool.shard_for(id);
        let lease = self.leases.iter().find(|lease| lease.shard() == shard);
        lease.ok_or(SpoolError::Invalid("no lease of the unit's shard"))
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
