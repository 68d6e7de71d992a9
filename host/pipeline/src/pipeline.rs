//! All bound plugins in order, and one call of one of them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use waxwing_types::{Address, AddressClass, Clock, Verdict};

use crate::chain::Seat;
use crate::table::Bound;
use crate::{Answer, Binding, BindingStatus, Chain, ClassOf, Context, Event, Fault, FaultKind, Hook, Mode, TraceEntry};

/// The plugins of a configuration, in its order. They can be replaced while mail passes: what has begun goes on with those that it
/// began with.
pub struct Pipeline {
    current: ArcSwap<Bound>,
    classes: Arc<dyn ClassOf>,
    clock: Arc<dyn Clock>,
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
        Self { current: ArcSwap::from_pointee(Bound::new(bindings)), classes, clock }
    }

    /// Puts others in their place, from the next chain on.
    pub fn replace(&self, bindings: Vec<Arc<Binding>>) {
        self.current.store(Arc::new(Bound::new(bindings)));
    }

    /// The bindings of now, in order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.current.load().bindings.clone()
    }

    /// For `waxwing plugin list`.
    #[must_use]
    pub fn status(&self) -> Vec<BindingStatus> {
        self.current.load().bindings.iter().map(|b| b.status()).collect()
    }

    /// Begins the conversations of a session, a transaction or an attempt.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::new(self.current.load_full())
    }

    /// Some plugin is bound to the hook now: a chain that is begun now has it.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        !self.current.load().at(hook).is_empty()
    }

    /// Begins others with the same plugins, whatever was loaded meanwhile.
    #[must_use]
    pub fn chain_of(&self, chain: &Chain) -> Chain {
        Chain::new(Arc::clone(&chain.bound))
    }

    /// The class of an address.
    #[must_use]
    pub fn class_of(&self, address: &Address) -> AddressClass {
        self.classes.class_of(address)
    }

    /// One call: counted, traced, its changes applied if it returned and its word counts. `None`: not asked, or its word does
    /// not count.
    pub(crate) async fn ask(&self, at: usize, chain: &mut Chain, context: &mut Context, event: &Event) -> Option<Step> {
        let bound = Arc::clone(&chain.bound);
        let binding = bound.bindings.get(at)?;
        let hook = event.hook();
        let record = binding.record(hook)?;
        if !binding.wants(hook, context) {
            return None;
        }
        let seat = chain.seats.get_mut(at)?;
        if matches!(seat, Seat::Empty) {
            *seat = Seat::Open(Arc::clone(&binding.plugin).open());
        }
        let Seat::Open(guest) = seat else { return None };
        let began = self.clock.monotonic();
        let pass = record.breaker.enter(began);
        let result = match &pass {
            Ok(_) => guest.call(event, context).await,
            Err(fault) => Err(fault.clone()),
        };
        let micros = u64::try_from(self.clock.monotonic().since(began).as_micros()).unwrap_or(u64::MAX);
        let shadow = binding.mode == Mode::Shadow;
        let entry = TraceEntry::call(&binding.name, hook, self.clock.now(), micros, event.subject(), shadow);
        let result = result.and_then(|outcome| match shadow {
            true => Ok(outcome),
            false => match context.apply(&outcome.changes, &binding.name, &*self.classes) {
                Ok(()) => Ok(outcome),
                Err(error) => Err(Fault { kind: FaultKind::BadAnswer, text: error.to_string(), log: outcome.log }),
            },
        });
        if let Ok(pass) = pass {
            record.breaker.report(pass, result.as_ref().err().map(|fault| fault.kind), self.clock.monotonic());
            record.count(result.is_err(), micros);
        }
        let step = match result {
            Ok(outcome) => {
                entry.returned(&outcome).join(&mut chain.trace);
                if outcome.changes.skip_rest && !shadow {
                    *seat = Seat::Left;
                }
                Step::Returned(outcome.answer)
            }
            Err(fault) => {
                let consequence = binding.consequence(&fault);
                entry.faulted(&fault, consequence.as_str()).join(&mut chain.trace);
                Step::Faulted(consequence)
            }
        };
        (!shadow).then_some(step)
    }
}

#[cfg(test)]
mod tests;
