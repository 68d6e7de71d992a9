//! One conversation with a plugin: which instance answers.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Context, Event, Fault, Guest, Outcome};

use crate::live::Live;
use crate::plugin::WasmPlugin;
use crate::settings::InstanceMode;

/// A conversation. A fresh instance lives as long as it; a reused one is borrowed for each call.
pub(crate) struct Conversation {
    plugin: Arc<WasmPlugin>,
    own: Option<Live>,
}

impl Conversation {
    pub(crate) fn new(plugin: Arc<WasmPlugin>) -> Self {
        Self { plugin, own: None }
    }
}

#[async_trait]
impl Guest for Conversation {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<Outcome, Fault> {
        let loaded = &self.plugin.loaded;
        match self.plugin.instance {
            InstanceMode::Fresh => {
                // Taken out first: a call that is cut off must not leave a half-used instance behind.
                let mut live = match self.own.take() {
                    Some(live) => live,
                    None => Live::new(loaded).await?,
                };
                let outcome = live.call(loaded, event, context).await?;
                self.own = Some(live);
                Ok(outcome)
            }
            InstanceMode::Reuse { recycle_calls } => {
                let idle = self.plugin.idle.lock().pop();
                let mut live = match idle {
                    Some(live) => live,
                    None => Live::new(loaded).await?,
                };
                let outcome = live.call(loaded, event, context).await?;
                if live.calls < recycle_calls {
                    self.plugin.put_back(live);
                }
                Ok(outcome)
            }
        }
    }
}
