//! Delivery by the one plugin that is a transport.

use waxwing_types::{Disposition, EnhancedCode, NextHop, Status};

use crate::pipeline::Step;
use crate::{Answer, Chain, Context, ContextRecipient, Event, Pipeline};

impl Pipeline {
    /// Hands a message to the one plugin that is this transport. A fault defers all recipients, or holds the message.
    pub async fn deliver(
        &self,
        plugin: &str,
        chain: &mut Chain,
        context: &mut Context,
        hop: NextHop,
        recipients: Vec<ContextRecipient>,
    ) -> Vec<(u32, Disposition)> {
        let deferred = |text: String| {
            let status = Status::local(EnhancedCode::new(4, 3, 0), text);
            Disposition::Deferred { status, not_before: None }
        };
        let all: Vec<u32> = recipients.iter().map(|r| r.index).collect();
        let everyone = |text: &str| all.iter().map(|i| (*i, deferred(text.to_owned()))).collect();
        let Some(at) = chain.bound.place(plugin) else {
            return everyone("the plugin of this transport is not loaded");
        };
        match self.ask(at, chain, context, &Event::Deliver { hop, recipients }).await {
            Some(Step::Returned(Answer::Dispositions(list))) => all
                .iter()
                .map(|index| match list.iter().find(|(i, _)| i == index) {
                    Some(found) => found.clone(),
                    None => (*index, deferred("the transport plugin said nothing about this recipient".to_owned())),
                })
                .collect(),
            Some(Step::Faulted(_)) => everyone("the transport plugin failed"),
            Some(Step::Returned(_)) | None => everyone("the transport plugin does not take this message"),
        }
    }
}
