//! Session of a WebAssembly plugin: selects the instance for each call.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Context, Event, Fault, FaultKind, Guest, Outcome};

use crate::gate::{ClientKey, Place};
use crate::lane::{self, Cut};
use crate::live::{self, Live};
use crate::plugin::WasmPlugin;
use crate::settings::InstanceMode;
use crate::state::Watch;

/// Plugin session. A fresh instance lives as long as the session; a reused instance is borrowed for each call.
pub(crate) struct Conversation {
    plugin: Arc<WasmPlugin>,
    own: Option<Live>,
    /// Permit of the fresh instance. Kept after a fault ends the instance: a transaction that had to wait for a new permit,
    /// while holding permits of other plugins, could deadlock with transactions that hold this plugin's permits and wait for
    /// the others.
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
                let permit = match &self.place {
                    Some(permit) => Arc::clone(permit),
                    None => Arc::clone(self.place.insert(live::enter(&self.plugin.loaded, ClientKey::of(context)).await?)),
                };
                let instance = self.own.take().ok_or(permit);
                let (instance, outcome) = ask(&self.plugin, instance, event, context).await?;
                self.own = Some(instance);
                Ok(outcome)
            }
            InstanceMode::Reuse { recycle_calls } => {
                let idle = self.plugin.idle.lock().pop();
                // A reused instance serves many clients, each for one call, and counts for none.
                let instance = match idle {
                    Some(instance) => Ok(instance),
                    None => Err(live::enter(&self.plugin.loaded, None).await?),
                };
                let (instance, outcome) = ask(&self.plugin, instance, event, context).await?;
                if instance.calls < recycle_calls {
                    self.plugin.put_back(instance);
                }
                Ok(outcome)
            }
        }
    }
}

/// Performs one call within the limits, with the given instance or a new instance under the given permit. Returns the instance
/// only if fit for another call.
async fn ask(
    plugin: &Arc<WasmPlugin>,
    instance: Result<Live, Arc<Place>>,
    event: &Event,
    context: &Context,
) -> Result<(Live, Outcome), Fault> {
    let monitor = instance.as_ref().map_or_else(|_| Watch::default(), Live::watch);
    let hook = event.hook();
    let (event, context) = (event.clone(), context.clone());
    let (job_plugin, job_monitor) = (Arc::clone(plugin), monitor.clone());
    let job = Box::pin(async move {
        let loaded = &job_plugin.loaded;
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(permit) => Live::new(loaded, permit, job_monitor).await?,
        };
        let outcome = instance.call(loaded, &event, context).await?;
        Ok((instance, outcome))
    });
    let wall = plugin.loaded.shared.limits.wall;
    lane::run(&plugin.loaded.lane, plugin.loaded.habits.of(hook), wall, &monitor, job).await.unwrap_or_else(|aborted| {
        let (kind, text) = match aborted {
            Cut::TooLong => (FaultKind::TimeLimit, format!("took longer than {} ms", wall.as_millis())),
            Cut::Lost => (FaultKind::Host, "the server failed while it served the plugin".to_owned()),
        };
        Err(Fault { kind, text, log: monitor.take_log() })
    })
}
