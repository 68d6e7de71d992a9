//! Recipient probe at the next hop, without sending a message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use waxwing_pipeline::AddressProbe;
use waxwing_types::{Address, Disposition, EnhancedCode, ReversePath, Status};

use super::SmtpTransport;
use crate::transport::parse_error_nexthop;
use crate::{ERROR_TRANSPORT, Router};

/// Prober for recipients at their next hop.
pub struct Prober {
    router: Router,
    /// SMTP transports by name; recipients on other transports need no probe.
    transports: HashMap<String, Arc<SmtpTransport>>,
    timeout: Duration,
}

impl Prober {
    /// Creates a prober over the given transports with a time limit for each probe.
    #[must_use]
    pub fn new(router: Router, transports: HashMap<String, Arc<SmtpTransport>>, time_max: Duration) -> Self {
        Self { router, transports, timeout: time_max }
    }
}

#[async_trait]
impl AddressProbe for Prober {
    async fn probe(&self, sender: &ReversePath, recipient: &Address) -> Disposition {
        let hop = self.router.route(recipient);
        if hop.transport == ERROR_TRANSPORT {
            return parse_error_nexthop(&hop.host);
        }
        let Some(transport) = self.transports.get(&hop.transport) else {
            return Disposition::Delivered(Status::local(EnhancedCode::new(2, 1, 5), "delivered here"));
        };
        let disposition = tokio::time::timeout(self.timeout, transport.probe(&hop, sender, recipient)).await;
        disposition.ok().flatten().unwrap_or_else(|| {
            let status = Status::local(EnhancedCode::new(4, 4, 7), "the next hop gave no answer in time");
            Disposition::Deferred { status, not_before: None }
        })
    }
}
