//! Transport implemented by a plugin.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use waxwing_pipeline::{Handed, Pipeline, Transport};
use waxwing_types::{Attempt, Message};

use crate::hooks::context_of;

/// Transport for delivery by a plugin binding (`on-deliver`).
pub struct PluginTransport {
    name: String,
    plugin: String,
    pipeline: Arc<Pipeline>,
    calls: Semaphore,
}

impl PluginTransport {
    /// Creates the transport `name` over the binding `plugin`, with at most `calls_max` messages at a time: others wait for an
    /// instance instead of being deferred for lack of one.
    #[must_use]
    pub fn new(name: String, plugin: String, pipeline: Arc<Pipeline>, calls_max: usize) -> Self {
        Self { name, plugin, pipeline, calls: Semaphore::new(calls_max.max(1)) }
    }
}

#[async_trait]
impl Transport for PluginTransport {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed {
        // The semaphore is never closed.
        let _permit = self.calls.acquire().await;
        let mut context = context_of(&self.pipeline, message, &attempt.recipients);
        let recipients = context.recipients.as_ref().clone();
        let mut chain = self.pipeline.chain();
        let hop = attempt.hop.clone();
        let dispositions = self.pipeline.deliver(&self.plugin, &mut chain, &mut context, hop, recipients).await;
        Handed { dispositions, hold: context.hold, ..Handed::default() }
    }
}
