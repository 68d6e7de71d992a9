//! One instance and its calls, each within its limits.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use wasmtime::component::Instance;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};
use waxwing_pipeline::{Context, Event, Fault, FaultKind, Outcome};

use crate::hooks::{Callee, Exports, Found};
use crate::plugin::Loaded;
use crate::state::{Call, State};
use crate::ticker::Ticker;

/// A place among a plugin's instances.
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(count: &Arc<AtomicU32>, max: u32) -> Option<Self> {
        let free = |n: u32| (n < max).then_some(n + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An instance that can be called. After a fault it is gone.
pub(crate) struct Live {
    store: Store<State>,
    instance: Instance,
    found: Found,
    /// Calls so far.
    pub(crate) calls: u32,
    _place: Place,
}

impl Live {
    /// Makes an instance; a start function is bounded like a call.
    pub(crate) async fn new(loaded: &Loaded) -> Result<Self, Fault> {
        let limits = &loaded.shared.limits;
        let Some(place) = Place::take(&loaded.count, limits.instances_max) else {
            let text = format!("all {} instances of the plugin are at work", limits.instances_max);
            return Err(Fault::new(FaultKind::PoolExhausted, text));
        };
        let mut store = Store::new(loaded.pre.engine(), State::new(Arc::clone(&loaded.shared)));
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().tick()?;
            Ok(UpdateDeadline::Yield(1))
        });
        let _running = loaded.ticker.call();
        match within(limits.wall, loaded.pre.instantiate_async(&mut store)).await {
            Some(Ok(instance)) => Ok(Self { store, instance, found: Found::default(), calls: 0, _place: place }),
            Some(Err(error)) if error.is::<PoolConcurrencyLimitError>() => {
                Err(Fault::new(FaultKind::PoolExhausted, "all instances of the server are at work"))
            }
            Some(Err(error)) => Err(store.data_mut().fault(&error)),
            None => Err(too_late(limits.wall, Vec::new())),
        }
    }

    /// Compares the types of the exports with the contract.
    pub(crate) fn check(&mut self, exports: &Exports) -> wasmtime::Result<()> {
        exports.check(&mut self.store, &self.instance)
    }

    /// Calls `on-load`, if it is there: its own error inside, a fault outside.
    pub(crate) async fn load(&mut self, loaded: &Loaded) -> Result<Result<(), String>, Fault> {
        let Some(indices) = &loaded.exports.load else { return Ok(Ok(())) };
        self.begin(loaded, Call::none());
        let _running = loaded.ticker.call();
        let guest = indices.load(&mut self.store, &self.instance);
        let (wall, store) = (loaded.shared.limits.wall, &mut self.store);
        let answer = match guest {
            Ok(guest) => within(wall, async { guest.call_load(&mut *store).await }).await,
            Err(error) => Some(Err(error)),
        };
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.store.data_mut().fault(&error)),
            None => Err(too_late(wall, std::mem::take(&mut self.store.data_mut().call.log))),
        }
    }

    /// Calls a hook. What it staged is in the outcome; after an error the instance must be dropped.
    pub(crate) async fn call(&mut self, loaded: &Loaded, event: &Event, context: &Context) -> Result<Outcome, Fault> {
        let wall = loaded.shared.limits.wall;
        let deadline = loaded.shared.clock.monotonic() + wall;
        self.begin(loaded, Call::new(Some(event.hook()), context.clone(), deadline));
        self.calls += 1;
        let _running = loaded.ticker.call();
        let mut callee = Callee { exports: &loaded.exports, found: &mut self.found, instance: self.instance };
        let answer = within(wall, callee.call(&mut self.store, event)).await;
        let state = self.store.data_mut();
        match answer {
            Some(Ok(Ok(answer))) => {
                let mut call = std::mem::replace(&mut state.call, Call::none());
                Ok(Outcome { answer, changes: call.take_changes(), log: call.log })
            }
            Some(Ok(Err(text))) => Err(Fault { kind: FaultKind::BadAnswer, text, log: std::mem::take(&mut state.call.log) }),
            Some(Err(error)) => Err(state.fault(&error)),
            None => Err(too_late(wall, std::mem::take(&mut state.call.log))),
        }
    }

    fn begin(&mut self, _loaded: &Loaded, call: Call) {
        let state = self.store.data_mut();
        state.call = call;
        state.ticks = 0;
        self.store.set_epoch_deadline(1);
    }
}

fn too_late(wall: Duration, log: Vec<String>) -> Fault {
    Fault { kind: FaultKind::TimeLimit, text: format!("took longer than {} ms", wall.as_millis()), log }
}

/// The result of a future, unless it takes too long. Most calls are over at their first poll and need no timer.
async fn within<T>(wall: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let first = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(result) => Some(result),
        Poll::Pending => tokio::time::timeout(wall, future).await.ok(),
    }
}

/// Keeps the ticker alive with a plugin.
pub(crate) type SharedTicker = Arc<Ticker>;
