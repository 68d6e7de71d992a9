//! Plugin instance: creation, calls and metering.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::Instance;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};
use waxwing_pipeline::{Context, Event, Fault, FaultKind, Hook, Outcome};

use crate::gate::{ClientKey, NoPlace, Place};
use crate::hooks::{Callee, HookExports, ResolvedExports};
use crate::meter::{Meter, Metered};
use crate::plugin::Loaded;
use crate::state::{Call, State, Watch};

/// Waits for a permit to create an instance, as long as the limits of the plugin allow.
pub(crate) async fn enter(loaded: &Loaded, client: Option<ClientKey>) -> Result<Arc<Place>, Fault> {
    let limits = &loaded.shared.limits;
    loaded.gate.enter(client, limits.instance_wait).await.map(Arc::new).map_err(|refusal| {
        let text = match refusal {
            NoPlace::All => format!("all {} instances of the plugin are busy", limits.instances_max),
            NoPlace::Client => format!("{} instances of the plugin serve this client already", limits.instances_per_client),
        };
        Fault::new(FaultKind::PoolExhausted, text)
    })
}

/// Guard that counts an instance until dropped.
struct Counted(Arc<AtomicU32>);

impl Counted {
    fn one(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Instance ready for a call. Moved into each call and returned with the outcome; dropped after a fault or an abort.
pub(crate) struct Live {
    store: Box<Store<State>>,
    instance: Instance,
    found: Box<ResolvedExports>,
    /// Number of calls so far.
    pub(crate) calls: u32,
    /// Remaining fuel before the next call, if metered.
    fuel: u64,
    _counted: Counted,
    _place: Arc<Place>,
}

impl Live {
    /// Creates an instance. `monitor` observes the instantiation and all later calls.
    pub(crate) async fn new(loaded: &Loaded, permit: Arc<Place>, monitor: Watch) -> Result<Self, Fault> {
        let counted = Counted::one(&loaded.count);
        let mut state = State::new(Arc::clone(&loaded.shared), monitor);
        state.host_calls = loaded.meter.as_ref().map(|_| BTreeMap::new());
        let mut store = Box::new(Store::new(loaded.pre.engine(), state));
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
        let _running = loaded.ticker.call();
        match loaded.pre.instantiate_async(&mut *store).await {
            Ok(instance) => {
                Ok(Self { store, instance, found: Box::default(), calls: 0, fuel: u64::MAX, _counted: counted, _place: permit })
            }
            // Components with several core instances may exhaust the pool before the instance limit is reached.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                Err(Fault::new(FaultKind::PoolExhausted, "all instances of the server are busy"))
            }
            Err(error) => Err(store.data_mut().fault(&error)),
        }
    }

    /// Returns the monitor of the current or next call.
    pub(crate) fn watch(&self) -> Watch {
        self.store.data().watch.clone()
    }

    /// Compares the types of the exports with the contract.
    pub(crate) fn check(&mut self, exports: &HookExports) -> wasmtime::Result<()> {
        exports.check(&mut self.store, &self.instance)
    }

    /// Calls `on-load`, if exported: the inner error comes from the plugin, the outer error is a fault.
    pub(crate) async fn load(&mut self, loaded: &Loaded) -> Result<Result<(), String>, Fault> {
        let Some(indices) = &loaded.exports.load else { return Ok(Ok(())) };
        self.begin(Call::none());
        let _running = loaded.ticker.call();
        let called = match indices.load(&mut *self.store, &self.instance) {
            Ok(guest) => guest.call_load(&mut *self.store).await,
            Err(error) => Err(error),
        };
        let state = self.store.data_mut();
        if let Some(wasi) = &state.wasi {
            wasi.end();
        }
        called.map_err(|error| state.fault(&error))
    }

    /// Calls a hook and returns the answer with the staged changes.
    pub(crate) async fn call(&mut self, loaded: &Loaded, event: &Event, context: Context) -> Result<Outcome, Fault> {
        let deadline = loaded.shared.clock.monotonic() + loaded.shared.limits.wall;
        self.begin(Call::new(Some(event.hook()), context, deadline));
        self.calls += 1;
        let _running = loaded.ticker.call();
        let mut callee = Callee { exports: &loaded.exports, found: &mut self.found, instance: self.instance };
        let answer = callee.call(&mut self.store, event).await;
        if let Some(meter) = &loaded.meter {
            self.count(meter, event.hook());
        }
        let state = self.store.data_mut();
        if let Some(wasi) = &state.wasi {
            wasi.end();
        }
        match answer {
            Ok(Ok(answer)) => {
                let mut call = std::mem::replace(&mut state.call, Call::none());
                let log = state.watch.take_log();
                match call.take_changes() {
                    Ok(changes) => Ok(Outcome { answer, changes, log }),
                    Err(error) => Err(Fault { kind: FaultKind::Host, text: format!("parts: {error}"), log }),
                }
            }
            Ok(Err(text)) => Err(Fault { kind: FaultKind::BadAnswer, text, log: state.watch.take_log() }),
            Err(error) => Err(state.fault(&error)),
        }
    }

    /// Records the finished call in the meter.
    fn count(&mut self, meter: &Meter, hook: Hook) {
        let before = std::mem::replace(&mut self.fuel, self.store.get_fuel().unwrap_or_default());
        let state = self.store.data_mut();
        meter.add(Metered {
            plugin: Arc::clone(&state.shared.name),
            hook,
            fuel: before.saturating_sub(self.fuel),
            host_calls: state.host_calls.replace(BTreeMap::new()).unwrap_or_default(),
            memory_bytes: state.memory.bytes as u64,
        });
    }

    fn begin(&mut self, call: Call) {
        let state = self.store.data_mut();
        state.watch.begin(call.context.id);
        state.call = call;
        state.begin_wasi();
        self.store.set_epoch_deadline(1);
    }
}
