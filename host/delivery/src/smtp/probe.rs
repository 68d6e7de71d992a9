//! Recipient probe at the next hop, without sending a message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use waxwing_pipeline::Probe;
use waxwing_types::{Address, Disposition, EnhancedCode, ReversePath, Status};

use super::SmtpTransport;
use crate::transport::returned;
use crate::{ERROR, Router};

/// Prober for recipients at their next hop.
pub struct Prober {
    router: Router,
    /// SMTP transports by name; recipients on other transports need no probe.
    transports: HashMap<String, Arc<SmtpTransport>>,
    time_max: Duration,
}

impl Prober {
    /// Creates a prober over the given transports with a time limit for each probe.
    #[must_use]
    pub fn new(router: Router, transports: HashMap<String, Arc<SmtpTransport>>, time_max: Duration) -> Self {
        Self { router, transports, time_max }
    }
}

#[async_trait]
impl Probe for Prober {
    async fn probe(&self, sender: &ReversePath, recipient: &Address) -> Disposition {
        let hop = self.router.route(recipient);
        if hop.transport == ERROR {
            return returned(&hop.host);
        }
        let Some(transport) = self.transports.get(&hop.transport) else {
            return Disposition::Delivered(Status::local(EnhancedCode::new(2, 1, 5), "delivered here"));
        };
        let disposition = tokio::time::timeout(self.time_max, transport.probe(&hop, sender, recipient)).await;
        disposition.ok().flatten().unwrap_or_else(|| {
            let status = Status::local(EnhancedCode::new(4, 4, 7), "the next hop gave no answer in time");
            Disposition::Deferred { status, not_before: None }
        })
    }
}
