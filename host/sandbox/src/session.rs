//! Session of a WebAssembly plugin: selects the instance for each call.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{CallOutcome, Context, Event, Fault, FaultKind, PluginSession};

use crate::executor::{self, CallAborted};
use crate::instance::{self, PluginInstance};
use crate::limiter::{ClientKey, InstancePermit};
use crate::plugin::WasmPlugin;
use crate::settings::InstanceMode;
use crate::state::CallMonitor;

/// Plugin session. A fresh instance lives as long as the session; a reused instance is borrowed for each call.
pub(crate) struct WasmSession {
    plugin: Arc<WasmPlugin>,
    instance: Option<PluginInstance>,
    /// Permit of the fresh instance. Kept after a fault ends the instance: a transaction that had to wait for a new permit,
    /// while holding permits of other plugins, could deadlock with transactions that hold this plugin's permits and wait for
    /// the others.
    permit: Option<Arc<InstancePermit>>,
}

impl WasmSession {
    pub(crate) fn new(plugin: Arc<WasmPlugin>) -> Self {
        Self { plugin, instance: None, permit: None }
    }
}

#[async_trait]
impl PluginSession for WasmSession {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<CallOutcome, Fault> {
        match self.plugin.instance_mode {
            InstanceMode::Fresh => {
                let permit = match &self.permit {
                    Some(permit) => Arc::clone(permit),
                    None => Arc::clone(
                        self.permit
                            .insert(instance::acquire_permit(&self.plugin.loaded, ClientKey::from_context(context)).await?),
                    ),
                };
                let instance = self.instance.take().ok_or(permit);
                let (instance, outcome) = run_call(&self.plugin, instance, event, context).await?;
                self.instance = Some(instance);
                Ok(outcome)
            }
            InstanceMode::Reuse { recycle_calls } => {
                let idle = self.plugin.idle_instances.lock().pop();
                // A reused instance serves many clients, each for one call, and counts for none.
                let instance = match idle {
                    Some(instance) => Ok(instance),
                    None => Err(instance::acquire_permit(&self.plugin.loaded, None).await?),
                };
                let (instance, outcome) = run_call(&self.plugin, instance, event, context).await?;
                if instance.calls < recycle_calls {
                    self.plugin.return_instance(instance);
                }
                Ok(outcome)
            }
        }
    }
}

/// Performs one call within the limits, with the given instance or a new instance under the given permit. Returns the instance
/// only if fit for another call.
async fn run_call(
    plugin: &Arc<WasmPlugin>,
    instance: Result<PluginInstance, Arc<InstancePermit>>,
    event: &Event,
    context: &Context,
) -> Result<(PluginInstance, CallOutcome), Fault> {
    let monitor = instance.as_ref().map_or_else(|_| CallMonitor::default(), PluginInstance::monitor);
    let hook = event.hook();
    let (event, context) = (event.clone(), context.clone());
    let (job_plugin, job_monitor) = (Arc::clone(plugin), monitor.clone());
    let job = Box::pin(async move {
        let loaded = &job_plugin.loaded;
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(permit) => PluginInstance::new(loaded, permit, job_monitor).await?,
        };
        let outcome = instance.call(loaded, &event, context).await?;
        Ok((instance, outcome))
    });
    let wall = plugin.loaded.shared.limits.wall;
    executor::run(&plugin.loaded.slow_calls, plugin.loaded.call_histories.for_hook(hook), wall, &monitor, job)
        .await
        .unwrap_or_else(|aborted| {
            let (kind, text) = match aborted {
                CallAborted::TimedOut => (FaultKind::TimeLimit, format!("took longer than {} ms", wall.as_millis())),
                CallAborted::HostFailed => (FaultKind::Host, "the server failed while it served the plugin".to_owned()),
            };
            Err(Fault { kind, text, log: monitor.take_log() })
        })
}
