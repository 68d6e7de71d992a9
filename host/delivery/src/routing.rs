//! Routing and transports in force, replaceable on reload.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use waxwing_pipeline::Transport;

use crate::{DeliverySettings, Router};

/// Delivery configuration in force.
pub struct RoutingConfig {
    /// Limits and times of the queue manager.
    pub settings: DeliverySettings,
    /// Routing by recipient address.
    pub router: Router,
    /// Transports by name in the configuration.
    pub transports: HashMap<String, Arc<dyn Transport>>,
}

/// Routing and transports in force, replaceable on reload. Deliveries under way keep their transport.
pub struct CurrentRouting(ArcSwap<RoutingConfig>);

impl CurrentRouting {
    /// Creates the holder of a first configuration.
    #[must_use]
    pub fn new(routing: RoutingConfig) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(routing)))
    }

    /// Replaces the configuration for later deliveries.
    pub fn replace(&self, routing: RoutingConfig) {
        self.0.store(Arc::new(routing));
    }

    pub(crate) fn current(&self) -> Arc<RoutingConfig> {
        self.0.load_full()
    }
}
