//! Transport implemented by a plugin.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use waxwing_pipeline::{DeliveryResult, Pipeline, Transport};
use waxwing_types::{Attempt, Message};

use crate::attempt_hooks::hook_context;

/// Transport for delivery by a plugin binding (`on-deliver`).
pub struct PluginTransport {
    name: String,
    plugin: String,
    pipeline: Arc<Pipeline>,
    call_permits: Semaphore,
}

impl PluginTransport {
    /// Creates the transport `name` over the binding `plugin`, with at most `calls_max` messages at a time: others wait for an
    /// instance instead of being deferred for lack of one.
    #[must_use]
    pub fn new(name: String, plugin: String, pipeline: Arc<Pipeline>, calls_max: usize) -> Self {
        Self { name, plugin, pipeline, call_permits: Semaphore::new(calls_max.max(1)) }
    }
}

#[async_trait]
impl Transport for PluginTransport {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> DeliveryResult {
        // The semaphore is never closed.
        let _permit = self.call_permits.acquire().await;
        let mut context = hook_context(&self.pipeline, message, &attempt.recipients);
        let recipients = context.recipients.as_ref().clone();
        let mut chain = self.pipeline.open_session();
        let hop = attempt.next_hop.clone();
        let dispositions = self.pipeline.deliver(&self.plugin, &mut chain, &mut context, hop, recipients).await;
        DeliveryResult { dispositions, hold: context.hold, ..DeliveryResult::default() }
    }
}
