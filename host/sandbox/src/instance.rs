//! Plugin instance: creation, calls and metering.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::Instance;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};
use waxwing_pipeline::{CallOutcome, Context, Event, Fault, FaultKind, Hook};

use crate::hooks::{HookCaller, HookExports, ResolvedExports};
use crate::limiter::{ClientKey, InstancePermit, LimitReached};
use crate::meter::{Meter, MeteredCall};
use crate::plugin::LoadedPlugin;
use crate::state::{CallMonitor, CallState, InstanceState};

/// Waits for a permit to create an instance, as long as the limits of the plugin allow.
pub(crate) async fn acquire_permit(loaded: &LoadedPlugin, client: Option<ClientKey>) -> Result<Arc<InstancePermit>, Fault> {
    let limits = &loaded.shared.limits;
    loaded.limiter.acquire(client, limits.instance_wait).await.map(Arc::new).map_err(|refusal| {
        let text = match refusal {
            LimitReached::Plugin => format!("all {} instances of the plugin are busy", limits.instances_max),
            LimitReached::Client => format!("{} instances of the plugin serve this client already", limits.instances_per_client),
        };
        Fault::new(FaultKind::PoolExhausted, text)
    })
}

/// Guard that counts an instance until dropped.
struct InstanceCountGuard(Arc<AtomicU32>);

impl InstanceCountGuard {
    fn increment(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for InstanceCountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Instance ready for a call. Moved into each call and returned with the outcome; dropped after a fault or an abort.
pub(crate) struct PluginInstance {
    store: Box<Store<InstanceState>>,
    instance: Instance,
    resolved: Box<ResolvedExports>,
    /// Number of calls so far.
    pub(crate) calls: u32,
    /// Remaining fuel before the next call, if metered.
    fuel_left: u64,
    _count_guard: InstanceCountGuard,
    _permit: Arc<InstancePermit>,
}

impl PluginInstance {
    /// Creates an instance. `monitor` observes the instantiation and all later calls.
    pub(crate) async fn new(loaded: &LoadedPlugin, permit: Arc<InstancePermit>, monitor: CallMonitor) -> Result<Self, Fault> {
        let counted = InstanceCountGuard::increment(&loaded.instance_count);
        let mut state = InstanceState::new(Arc::clone(&loaded.shared), monitor);
        state.host_calls = loaded.meter.as_ref().map(|_| BTreeMap::new());
        let mut store = Box::new(Store::new(loaded.instance_pre.engine(), state));
        if loaded.meter.is_some() {
            // Fuel is counted, not limited: the limit is time.
            store.set_fuel(u64::MAX).map_err(|e| Fault::new(FaultKind::Host, e.to_string()))?;
        }
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().tick()?;
            // Wasmtime's built-in yield is ready again at once, and would keep the runtime from polling the sockets.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let _running = loaded.ticker.begin_call();
        match loaded.instance_pre.instantiate_async(&mut *store).await {
            Ok(instance) => Ok(Self {
                store,
                instance,
                resolved: Box::default(),
                calls: 0,
                fuel_left: u64::MAX,
                _count_guard: counted,
                _permit: permit,
            }),
            // Components with several core instances may exhaust the pool before the instance limit is reached.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                Err(Fault::new(FaultKind::PoolExhausted, "all instances of the server are busy"))
            }
            Err(error) => Err(store.data_mut().take_fault(&error)),
        }
    }

    /// Returns the monitor of the current or next call.
    pub(crate) fn monitor(&self) -> CallMonitor {
        self.store.data().monitor.clone()
    }

    /// Compares the types of the exports with the contract.
    pub(crate) fn check_exports(&mut self, exports: &HookExports) -> wasmtime::Result<()> {
        exports.check(&mut self.store, &self.instance)
    }

    /// Calls `on-load`, if exported: the inner error comes from the plugin, the outer error is a fault.
    pub(crate) async fn call_on_load(&mut self, loaded: &LoadedPlugin) -> Result<Result<(), String>, Fault> {
        let Some(indices) = &loaded.exports.load else { return Ok(Ok(())) };
        self.begin_call(CallState::idle());
        let _running = loaded.ticker.begin_call();
        let called = match indices.load(&mut *self.store, &self.instance) {
            Ok(guest) => guest.call_load(&mut *self.store).await,
            Err(error) => Err(error),
        };
        let state = self.store.data_mut();
        if let Some(wasi) = &state.wasi {
            wasi.end_call();
        }
        called.map_err(|error| state.take_fault(&error))
    }

    /// Calls a hook and returns the answer with the staged changes.
    pub(crate) async fn call(&mut self, loaded: &LoadedPlugin, event: &Event, context: Context) -> Result<CallOutcome, Fault> {
        let deadline = loaded.shared.clock.monotonic() + loaded.shared.limits.wall;
        self.begin_call(CallState::new(Some(event.hook()), context, deadline));
        self.calls += 1;
        let _running = loaded.ticker.begin_call();
        let mut callee = HookCaller { exports: &loaded.exports, resolved: &mut self.resolved, instance: self.instance };
        let answer = callee.call(&mut self.store, event).await;
        if let Some(meter) = &loaded.meter {
            self.record_metering(meter, event.hook());
        }
        let state = self.store.data_mut();
        if let Some(wasi) = &state.wasi {
            wasi.end_call();
        }
        match answer {
            Ok(Ok(answer)) => {
                let mut call = std::mem::replace(&mut state.call, CallState::idle());
                let log = state.monitor.take_log();
                match call.take_changes() {
                    Ok(changes) => Ok(CallOutcome { answer, changes, log }),
                    Err(error) => Err(Fault { kind: FaultKind::Host, text: format!("parts: {error}"), log }),
                }
            }
            Ok(Err(text)) => Err(Fault { kind: FaultKind::BadAnswer, text, log: state.monitor.take_log() }),
            Err(error) => Err(state.take_fault(&error)),
        }
    }

    /// Records the finished call in the meter.
    fn record_metering(&mut self, meter: &Meter, hook: Hook) {
        let before = std::mem::replace(&mut self.fuel_left, self.store.get_fuel().unwrap_or_default());
        let state = self.store.data_mut();
        meter.add(MeteredCall {
            plugin: Arc::clone(&state.shared.name),
            hook,
            fuel: before.saturating_sub(self.fuel_left),
            host_calls: state.host_calls.replace(BTreeMap::new()).unwrap_or_default(),
            memory_bytes: state.memory.bytes as u64,
        });
    }

    fn begin_call(&mut self, call: CallState) {
        let state = self.store.data_mut();
        state.monitor.begin_call(call.context.id);
        state.call = call;
        state.begin_wasi_call();
        self.store.set_epoch_deadline(1);
    }
}
