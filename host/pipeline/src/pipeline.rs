//! All bound plugins in order, and one call of one of them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use waxwing_types::{Address, AddressClass, Clock, Verdict};

use crate::chain::Seat;
use crate::table::Bound;
use crate::{
    Answer, Binding, BindingStatus, BreakerState, Chain, ClassOf, Context, Event, Fault, FaultKind, Hook, Mode, TraceEntry,
};

/// The plugins of a configuration, in its order. They can be replaced while mail passes: what has begun goes on with those that it
/// began with.
pub struct Pipeline {
    current: ArcSwap<Bound>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A verdict that ends what was asked about: a command, or the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended(pub Verdict);

/// One plugin's part in a call: it answered, or its fault has a consequence.
pub(crate) enum Step {
    Returned(Answer),
    Faulted(Verdict),
}

impl Pipeline {
    /// `bindings` in the order of the configuration.
    #[must_use]
    pub fn new(bindings: Vec<Arc<Binding>>, classes: Arc<dyn ClassOf>, clock: Arc<dyn Clock>) -> Self {
        Self { current: ArcSwap::from_pointee(Bound::new(bindings, classes)), clock }
    }

    /// Puts others in their place, from the next chain on.
    pub fn replace(&self, bindings: Vec<Arc<Binding>>) {
        let classes = Arc::clone(&self.current.load().classes);
        self.renew(bindings, classes);
    }

    /// The same, with the address classes of another configuration.
    pub fn renew(&self, bindings: Vec<Arc<Binding>>, classes: Arc<dyn ClassOf>) {
        self.current.store(Arc::new(Bound::new(bindings, classes)));
    }

    /// The bindings of now, in order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.current.load().bindings.clone()
    }

    /// For `waxwing plugin list`: the version in service of each, and its canary after it.
    #[must_use]
    pub fn status(&self) -> Vec<BindingStatus> {
        let bound = self.current.load();
        let versions = bound.bindings.iter().flat_map(|binding| {
            let canary = binding.canary.as_ref();
            let canary = canary.map(|c| BindingStatus { canary: Some(c.percent), ..c.binding.status() });
            std::iter::once(binding.status()).chain(canary)
        });
        versions.collect()
    }

    /// Begins the conversations of a session, a transaction or an attempt.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::new(self.current.load_full())
    }

    /// Begins others with the same plugins, whatever was loaded meanwhile.
    #[must_use]
    pub fn chain_of(&self, chain: &Chain) -> Chain {
        Chain::new(Arc::clone(&chain.bound))
    }

    /// Some plugin is bound to the hook now: a chain that is begun now has it.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        !self.current.load().at(hook).is_empty()
    }

    /// The class of an address.
    #[must_use]
    pub fn class_of(&self, address: &Address) -> AddressClass {
        self.current.load().classes.class_of(address)
    }

    /// One call: counted, traced, its changes applied if it returned and its word counts. `None`: not asked, or its word does
    /// not count.
    pub(crate) async fn ask(&self, at: usize, chain: &mut Chain, context: &mut Context, event: &Event) -> Option<Step> {
        let bound = Arc::clone(&chain.bound);
        let binding = bound.bindings.get(at)?.chosen(context.id);
        let hook = event.hook();
        let record = binding.record(hook)?;
        if !binding.wants(event, context) {
            return None;
        }
        let seat = chain.seats.get_mut(at)?;
        if matches!(seat, Seat::Empty) || matches!(seat, Seat::Open(_, version) if !Arc::ptr_eq(version, binding)) {
            *seat = Seat::Open(Arc::clone(&binding.plugin).open(), Arc::clone(binding));
        }
        let Seat::Open(guest, _) = seat else { return None };
        let began = self.clock.monotonic();
        let pass = record.breaker.enter(began);
        let result = match &pass {
            Ok(_) => guest.call(event, context).await,
            Err(fault) => Err(fault.clone()),
        };
        let micros = u64::try_from(self.clock.monotonic().since(began).as_micros()).unwrap_or(u64::MAX);
        let shadow = binding.mode == Mode::Shadow;
        let entry = TraceEntry::call(binding, hook, self.clock.now(), micros, event.subject());
        let result = result.and_then(|outcome| match shadow {
            true => Ok(outcome),
            false => match context.apply(&outcome.changes, &binding.name, &*bound.classes) {
                Ok(()) => Ok(outcome),
                Err(error) => Err(Fault { kind: FaultKind::BadAnswer, text: error.to_string(), log: outcome.log }),
            },
        });
        if let Ok(pass) = pass {
            let turned = record.breaker.report(pass, result.as_ref().err().map(|fault| fault.kind), self.clock.monotonic());
            log_breaker(binding, hook, turned);
            record.counts.call(result.is_err(), micros);
        }
        let step = match result {
            Ok(outcome) => {
                entry.returned(&outcome).join(&mut chain.trace);
                if outcome.changes.skip_rest && !shadow {
                    *seat = Seat::Left;
                }
                if shadow {
                    chain.hear(at, hook, Some(&outcome.answer));
                }
                Step::Returned(outcome.answer)
            }
            Err(fault) => {
                let consequence = binding.consequence(&fault);
                entry.faulted(&fault, consequence.as_str()).join(&mut chain.trace);
                if shadow {
                    chain.hear(at, hook, None);
                }
                Step::Faulted(consequence)
            }
        };
        (!shadow).then_some(step)
    }
}

/// An operator hears once that a plugin is left alone, and once that it is back.
fn log_breaker(binding: &Binding, hook: Hook, turned: Option<BreakerState>) {
    let (plugin, version) = (&*binding.name, &*binding.version);
    match turned {
        Some(BreakerState::Open) => {
            tracing::warn!(target: "plugins", plugin, version, %hook, "breaker open: it failed too often in a row and is not called here for now");
        }
        Some(BreakerState::Closed) => {
            tracing::info!(target: "plugins", plugin, version, %hook, "breaker closed: it is called again")
        }
        Some(BreakerState::HalfOpen) | None => {}
    }
}

#[cfg(test)]
mod tests;
