//! One conversation with a plugin: which instance answers.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Context, Event, Fault, FaultKind, Guest, Outcome};

use crate::gate::{ClientKey, Place};
use crate::lane::{self, Cut};
use crate::live::{self, Live};
use crate::plugin::WasmPlugin;
use crate::settings::InstanceMode;
use crate::state::Watch;

/// A conversation. A fresh instance lives as long as it; a reused one is borrowed for each call.
pub(crate) struct Conversation {
    plugin: Arc<WasmPlugin>,
    own: Option<Live>,
    /// That of the fresh instance. It is kept when a fault ends the instance: a transaction that had to wait for another one, while it holds
    /// those of other plugins, would stand in the way of those who hold this plugin's and wait for the others'.
    place: Option<Arc<Place>>,
}

impl Conversation {
    pub(crate) fn new(plugin: Arc<WasmPlugin>) -> Self {
        Self { plugin, own: None, place: None }
    }
}

#[async_trait]
impl Guest for Conversation {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<Outcome, Fault> {
        match self.plugin.instance {
            InstanceMode::Fresh => {
                let place = match &self.place {
                    Some(place) => Arc::clone(place),
                    None => Arc::clone(self.place.insert(live::enter(&self.plugin.loaded, ClientKey::of(context)).await?)),
                };
                let live = self.own.take().ok_or(place);
                let (live, outcome) = ask(&self.plugin, live, event, context).await?;
                self.own = Some(live);
                Ok(outcome)
            }
            InstanceMode::Reuse { recycle_calls } => {
                let idle = self.plugin.idle.lock().pop();
                // It serves many clients, each for the length of a call, and counts for none.
                let live = match idle {
                    Some(live) => Ok(live),
                    None => Err(live::enter(&self.plugin.loaded, None).await?),
                };
                let (live, outcome) = ask(&self.plugin, live, event, context).await?;
                if live.calls < recycle_calls {
                    self.plugin.put_back(live);
                }
                Ok(outcome)
            }
        }
    }
}

/// One call within its limits, by this instance or by a new one in this place. The instance comes back only if it is fit for the next call.
async fn ask(
    plugin: &Arc<WasmPlugin>,
    live: Result<Live, Arc<Place>>,
    event: &Event,
    context: &Context,
) -> Result<(Live, Outcome), Fault> {
    let watch = live.as_ref().map_or_else(|_| Watch::default(), Live::watch);
    let hook = event.hook();
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
    lane::run(&plugin.loaded.lane, plugin.loaded.habits.of(hook), wall, &watch, job).await.unwrap_or_else(|cut| {
        let (kind, text) = match cut {
            Cut::TooLong => (FaultKind::TimeLimit, format!("took longer than {} ms", wall.as_millis())),
            Cut::Lost => (FaultKind::Host, "the server failed while it served the plugin".to_owned()),
        };
        Err(Fault { kind, text, log: watch.take_log() })
    })
}
