//! Ordered list of all bound plugins, and the procedure of a single plugin call.

use std::sync::Arc;

use arc_swap::ArcSwap;
use waxwing_types::{Address, AddressClass, Clock, Verdict};

use crate::chain::Seat;
use crate::table::Bound;
use crate::{
    Answer, Binding, BindingStatus, BreakerState, Chain, ClassOf, Context, Event, Fault, FaultKind, Hook, Mode, TraceEntry,
};

/// Plugins of a configuration, in configured order. The list can be replaced while mail is processed: open hook sessions
/// continue with the previous list.
pub struct Pipeline {
    current: ArcSwap<Bound>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Final verdict on the current command or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended(pub Verdict);

/// Result of one plugin call: an answer, or the consequence of a fault.
pub(crate) enum Step {
    Returned(Answer),
    Faulted(Verdict),
}

impl Pipeline {
    /// Creates a pipeline; `bindings` in the order of the configuration.
    #[must_use]
    pub fn new(bindings: Vec<Arc<Binding>>, classes: Arc<dyn ClassOf>, clock: Arc<dyn Clock>) -> Self {
        Self { current: ArcSwap::from_pointee(Bound::new(bindings, classes)), clock }
    }

    /// Replaces the bindings, with effect from the next hook session.
    pub fn replace(&self, bindings: Vec<Arc<Binding>>) {
        let classes = Arc::clone(&self.current.load().classes);
        self.renew(bindings, classes);
    }

    /// Replaces the bindings and the address classes, after a reload of the configuration.
    pub fn renew(&self, bindings: Vec<Arc<Binding>>, classes: Arc<dyn ClassOf>) {
        self.current.store(Arc::new(Bound::new(bindings, classes)));
    }

    /// Returns the current bindings in order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.current.load().bindings.clone()
    }

    /// Returns the status for `waxwing plugin list`: for each plugin the version in service, followed by the canary.
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

    /// Opens the hook session of an SMTP session, a transaction or a delivery attempt.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::new(self.current.load_full())
    }

    /// Opens a hook session with the same plugin versions as an existing hook session, regardless of later reloads.
    #[must_use]
    pub fn chain_of(&self, chain: &Chain) -> Chain {
        Chain::new(Arc::clone(&chain.bound))
    }

    /// Checks whether some plugin is bound to the hook at present; a hook session opened now includes that plugin.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        !self.current.load().at(hook).is_empty()
    }

    /// Returns the class of an address.
    #[must_use]
    pub fn class_of(&self, address: &Address) -> AddressClass {
        self.current.load().classes.class_of(address)
    }

    /// Performs one call: counts, traces, and applies the changes if the call returned and the binding enforces. `None`: plugin
    /// not called, or a shadow.
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

/// Logs once when a breaker opens and once when the breaker closes.
fn log_breaker(binding: &Binding, hook: Hook, turned: Option<BreakerState>) {
    let (plugin, version) = (&*binding.name, &*binding.version);
    match turned {
        Some(BreakerState::Open) => {
            tracing::warn!(target: "plugins", plugin, version, %hook, "breaker open: too many consecutive faults, calls suspended at this hook");
        }
        Some(BreakerState::Closed) => {
            tracing::info!(target: "plugins", plugin, version, %hook, "breaker closed: calls resumed at this hook")
        }
        Some(BreakerState::HalfOpen) | None => {}
    }
}

#[cfg(test)]
mod tests;
