//! One conversation with a plugin: which instance answers.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Context, Event, Fault, FaultKind, Guest, Outcome};

use crate::lane::{self, Cut};
use crate::live::{self, Live};
use crate::plugin::WasmPlugin;
use crate::settings::InstanceMode;
use crate::state::Watch;

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
        match self.plugin.instance {
            InstanceMode::Fresh => {
                let (live, outcome) = ask(&self.plugin, self.own.take(), event, context).await?;
                self.own = Some(live);
                Ok(outcome)
            }
            InstanceMode::Reuse { recycle_calls } => {
                let idle = self.plugin.idle.lock().pop();
                let (live, outcome) = ask(&self.plugin, idle, event, context).await?;
                if live.calls < recycle_calls {
                    self.plugin.put_back(live);
                }
                Ok(outcome)
            }
        }
    }
}

/// One call within its limits, by this instance or a new one. The instance comes back only if it is fit for the next call.
async fn ask(plugin: &Arc<WasmPlugin>, live: Option<Live>, event: &Event, context: &Context) -> Result<(Live, Outcome), Fault> {
    let watch = live.as_ref().map_or_else(Watch::default, Live::watch);
    // Waiting for an instance does not count as the plugin's time.
    let live = match live {
        Some(live) => Ok(live),
        None => Err(live::enter(&plugin.loaded, plugin.client_of(context)).await?),
    };
    let (event, context) = (event.clone(), context.clone());
    let (theirs, their_watch) = (Arc::clone(plugin), watch.clone());
    let job = Box::pin(async move {
        let loaded = &theirs.loaded;
        let mut live = match live {
            Ok(live) => live,
            Err(place) => Live::new(loaded, place, their_watch).await?,
        };
        let outcome = live.call(loaded, &event, context).await?;
        Ok((live, outcome))
    });
    let wall = plugin.loaded.shared.limits.wall;
    lane::run(&plugin.loaded.lane, wall, &watch, job).await.unwrap_or_else(|cut| {
        let (kind, text) = match cut {
            Cut::TooLong => (FaultKind::TimeLimit, format!("took longer than {} ms", wall.as_millis())),
            Cut::Lost => (FaultKind::Host, "the server failed while it served the plugin".to_owned()),
        };
        Err(Fault { kind, text, log: watch.take_log() })
    })
}
