//! One instance and its calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::Instance;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};
use waxwing_pipeline::{Context, Event, Fault, FaultKind, Hook, Outcome};

use crate::gate::{ClientKey, NoPlace, Place};
use crate::hooks::{Callee, Exports, Found};
use crate::meter::{Meter, Metered};
use crate::plugin::Loaded;
use crate::state::{Call, State, Watch};

/// Waits for the right to make an instance, as long as the limits of the plugin allow.
pub(crate) async fn enter(loaded: &Loaded, client: Option<ClientKey>) -> Result<Arc<Place>, Fault> {
    let limits = &loaded.shared.limits;
    loaded.gate.enter(client, limits.instance_wait).await.map(Arc::new).map_err(|refusal| {
        let text = match refusal {
            NoPlace::All => format!("all {} instances of the plugin are at work", limits.instances_max),
            NoPlace::Client => format!("{} instances of the plugin serve this client already", limits.instances_per_client),
        };
        Fault::new(FaultKind::PoolExhausted, text)
    })
}

/// Counted as long as it lives.
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

/// An instance that can be called. It is moved into each call and comes back with the outcome: one that met a fault, or was cut off, is
/// gone.
pub(crate) struct Live {
    store: Box<Store<State>>,
    instance: Instance,
    found: Box<Found>,
    /// Calls so far.
    pub(crate) calls: u32,
    /// What was left of the fuel before the next call, where it is counted.
    fuel: u64,
    _counted: Counted,
    _place: Arc<Place>,
}

impl Live {
    /// Makes an instance. `watch` sees what it does, here and in all its calls.
    pub(crate) async fn new(loaded: &Loaded, place: Arc<Place>, watch: Watch) -> Result<Self, Fault> {
        let counted = Counted::one(&loaded.count);
        let mut state = State::new(Arc::clone(&loaded.shared), watch);
        state.host_calls = loaded.meter.as_ref().map(|_| BTreeMap::new());
        let mut store = Box::new(Store::new(loaded.pre.engine(), state));
        if loaded.meter.is_some() {
            // Counted, not limited: time is what is limited.
            store.set_fuel(u64::MAX).map_err(|e| Fault::new(FaultKind::Host, e.to_string()))?;
        }
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().tick()?;
            // Not wasmtime's own yield: that one is ready again at once, and would keep the runtime from looking at its sockets.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let _running = loaded.ticker.call();
        match loaded.pre.instantiate_async(&mut *store).await {
            Ok(instance) => {
                Ok(Self { store, instance, found: Box::default(), calls: 0, fuel: u64::MAX, _counted: counted, _place: place })
            }
            // Plugins of several parts may use up the pool before the number of instances does.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                Err(Fault::new(FaultKind::PoolExhausted, "all instances of the server are at work"))
            }
            Err(error) => Err(store.data_mut().fault(&error)),
        }
    }

    /// Sees its current or next call.
    pub(crate) fn watch(&self) -> Watch {
        self.store.data().watch.clone()
    }

    /// Compares the types of the exports with the contract.
    pub(crate) fn check(&mut self, exports: &Exports) -> wasmtime::Result<()> {
        exports.check(&mut self.store, &self.instance)
    }

    /// Calls `on-load`, if it is there: its own error inside, a fault outside.
    pub(crate) async fn load(&mut self, loaded: &Loaded) -> Result<Result<(), String>, Fault> {
        let Some(indices) = &loaded.exports.load else { return Ok(Ok(())) };
        self.begin(Call::none());
        let _running = loaded.ticker.call();
        let called = match indices.load(&mut *self.store, &self.instance) {
            Ok(guest) => guest.call_load(&mut *self.store).await,
            Err(error) => Err(error),
        };
        called.map_err(|error| self.store.data_mut().fault(&error))
    }

    /// Calls a hook. What it staged is in the outcome.
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

    /// Tells the meter of the call that has just ended.
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
        state.call = call;
        state.watch.begin();
        self.store.set_epoch_deadline(1);
    }
}
