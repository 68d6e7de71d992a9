//! A transport that is a plugin.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Context, ContextRecipient, Handed, Pipeline, Transport};
use waxwing_types::{Attempt, Message};

use crate::header_of;

/// Hands messages to the plugin of one binding by `on-deliver`.
pub struct PluginTransport {
    name: String,
    plugin: String,
    pipeline: Arc<Pipeline>,
}

impl PluginTransport {
    /// `name` is the transport's, `plugin` the binding's.
    #[must_use]
    pub fn new(name: String, plugin: String, pipeline: Arc<Pipeline>) -> Self {
        Self { name, plugin, pipeline }
    }
}

#[async_trait]
impl Transport for PluginTransport {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed {
        let envelope = &message.envelope;
        let mut context = Context::new(envelope.origin.via, None);
        context.id = Some(message.id);
        context.helo = envelope.origin.helo.as_deref().map(Into::into);
        context.sender = Some(Arc::new(envelope.sender.clone()));
        context.head = Some(Arc::new(header_of(message)));
        context.body = Some(Arc::clone(&message.body));
        context.tags = Arc::clone(&message.tags);
        let recipient = |index: &u32| {
            let recipient = envelope.recipients.get(*index as usize)?.clone();
            let class = self.pipeline.class_of(&recipient.address);
            Some(ContextRecipient { index: *index, recipient, class, parameters: Vec::new() })
        };
        let recipients: Vec<ContextRecipient> = attempt.recipients.iter().filter_map(recipient).collect();
        context.recipients = Arc::new(recipients.clone());
        let mut chain = self.pipeline.chain();
        let hop = attempt.hop.clone();
        let dispositions = self.pipeline.deliver(&self.plugin, &mut chain, &mut context, hop, recipients).await;
        Handed { dispositions, ..Handed::default() }
    }
}
