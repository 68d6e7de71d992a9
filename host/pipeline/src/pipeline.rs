//! Ordered list of all bound plugins, and the procedure of a single plugin call.

use std::sync::Arc;

use arc_swap::ArcSwap;
use waxwing_types::{Address, AddressClass, Clock, Verdict};

use crate::binding_table::BindingTable;
use crate::hook_session::PluginSlot;
use crate::{
    AddressClassifier, Binding, BindingMode, BindingStatus, BreakerState, Context, Event, Fault, FaultKind, Hook, HookAnswer,
    HookSession,
};

/// Plugins of a configuration, in configured order. The list can be replaced while mail is processed: open hook sessions
/// continue with the previous list.
pub struct Pipeline {
    table: ArcSwap<BindingTable>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Final verdict on the current command or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected(pub Verdict);

/// Result of one plugin call: an answer, or the consequence of a fault.
pub(crate) enum CallResult {
    Returned(HookAnswer),
    Faulted(Verdict),
}

impl Pipeline {
    /// Creates a pipeline; `bindings` in the order of the configuration.
    #[must_use]
    pub fn new(bindings: Vec<Arc<Binding>>, classes: Arc<dyn AddressClassifier>, clock: Arc<dyn Clock>) -> Self {
        Self { table: ArcSwap::from_pointee(BindingTable::new(bindings, classes)), clock }
    }

    /// Replaces the bindings, with effect from the next hook session.
    pub fn replace(&self, bindings: Vec<Arc<Binding>>) {
        let classes = Arc::clone(&self.table.load().address_classes);
        self.replace_with_classes(bindings, classes);
    }

    /// Replaces the bindings and the address classes, after a reload of the configuration.
    pub fn replace_with_classes(&self, bindings: Vec<Arc<Binding>>, classes: Arc<dyn AddressClassifier>) {
        self.table.store(Arc::new(BindingTable::new(bindings, classes)));
    }

    /// Returns the current bindings in order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.table.load().bindings.clone()
    }

    /// Returns the status for `waxwing plugin list`: for each plugin the version in service, followed by the canary.
    #[must_use]
    pub fn status(&self) -> Vec<BindingStatus> {
        let bound = self.table.load();
        let versions = bound.bindings.iter().flat_map(|binding| {
            let canary = binding.canary.as_ref();
            let canary = canary.map(|c| BindingStatus { canary: Some(c.percent), ..c.binding.status() });
            std::iter::once(binding.status()).chain(canary)
        });
        versions.collect()
    }

    /// Opens the hook session of an SMTP session, a transaction or a delivery attempt.
    #[must_use]
    pub fn open_session(&self) -> HookSession {
        HookSession::new(self.table.load_full())
    }

    /// Opens a hook session with the same plugin versions as an existing hook session, regardless of later reloads.
    #[must_use]
    pub fn session_like(&self, chain: &HookSession) -> HookSession {
        HookSession::new(Arc::clone(&chain.table))
    }

    /// Checks whether some plugin is bound to the hook at present; a hook session opened now includes that plugin.
    #[must_use]
    pub fn has_hook(&self, hook: Hook) -> bool {
        !self.table.load().indices(hook).is_empty()
    }

    /// Returns the class of an address.
    #[must_use]
    pub fn class_of(&self, address: &Address) -> AddressClass {
        self.table.load().address_classes.class_of(address)
    }

    /// Performs one call: counts, traces, and applies the changes if the call returned and the binding enforces. `None`: plugin
    /// not called, or a shadow.
    pub(crate) async fn call_plugin(
        &self,
        at: usize,
        chain: &mut HookSession,
        context: &mut Context,
        event: &Event,
    ) -> Option<CallResult> {
        let bound = Arc::clone(&chain.table);
        let binding = bound.bindings.get(at)?.select_version(context.id);
        let hook = event.hook();
        let record = binding.hook_state(hook)?;
        if !binding.should_call(event, context) {
            return None;
        }
        let slot = chain.slots.get_mut(at)?;
        if matches!(slot, PluginSlot::Idle) || matches!(slot, PluginSlot::Active(_, version) if !Arc::ptr_eq(version, binding)) {
            *slot = PluginSlot::Active(Arc::clone(&binding.plugin).open_session(), Arc::clone(binding));
        }
        let PluginSlot::Active(guest, _) = slot else { return None };
        let began = self.clock.monotonic();
        let pass = record.breaker.permit_call(began);
        let result = match &pass {
            Ok(_) => guest.call(event, context).await,
            Err(fault) => Err(fault.clone()),
        };
        let micros = u64::try_from(self.clock.monotonic().since(began).as_micros()).unwrap_or(u64::MAX);
        let shadow = binding.mode == BindingMode::Shadow;
        let entry = binding.trace_entry(hook, self.clock.now(), micros, event.subject());
        let result = result.and_then(|outcome| match shadow {
            true => Ok(outcome),
            false => match context.apply(&outcome.changes, &binding.name, &*bound.address_classes) {
                Ok(()) => Ok(outcome),
                Err(error) => Err(Fault { kind: FaultKind::BadAnswer, text: error.to_string(), log: outcome.log }),
            },
        });
        if let Ok(pass) = pass {
            let turned =
                record.breaker.record_result(pass, result.as_ref().err().map(|fault| fault.kind), self.clock.monotonic());
            log_breaker_change(binding, hook, turned);
            record.counters.record_call(result.is_err(), micros);
        }
        let step = match result {
            Ok(outcome) => {
                entry.with_outcome(&outcome).merge_into(&mut chain.trace);
                if outcome.changes.skip_rest && !shadow {
                    *slot = PluginSlot::Skipped;
                }
                if shadow {
                    chain.record_shadow(at, hook, Some(&outcome.answer));
                }
                CallResult::Returned(outcome.answer)
            }
            Err(fault) => {
                let consequence = binding.fault_verdict(&fault);
                entry.with_fault(&fault, consequence.as_str()).merge_into(&mut chain.trace);
                if shadow {
                    chain.record_shadow(at, hook, None);
                }
                CallResult::Faulted(consequence)
            }
        };
        (!shadow).then_some(step)
    }
}

/// Logs once when a breaker opens and once when the breaker closes.
fn log_breaker_change(binding: &Binding, hook: Hook, turned: Option<BreakerState>) {
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
