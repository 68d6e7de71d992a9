//! Binding table: the bindings of a configuration in configured order, indexed by hook.

use std::sync::Arc;

use crate::{AddressClassifier, Binding, Hook};

/// All bindings at one point in time. Immutable: a reload creates a new table.
pub(crate) struct BindingTable {
    pub(crate) bindings: Vec<Arc<Binding>>,
    by_hook: Vec<Vec<usize>>,
    /// Address classes of the same configuration.
    pub(crate) address_classes: Arc<dyn AddressClassifier>,
}

impl BindingTable {
    pub(crate) fn new(bindings: Vec<Arc<Binding>>, classes: Arc<dyn AddressClassifier>) -> Self {
        let places = |hook: Hook| {
            let wanted = |(i, b): (usize, &Arc<Binding>)| b.has_hook(hook).then_some(i);
            bindings.iter().enumerate().filter_map(wanted).collect()
        };
        let by_hook = Hook::ALL.into_iter().map(places).collect();
        Self { bindings, by_hook, address_classes: classes }
    }

    /// Returns the indices of the bindings that export a hook, in order.
    pub(crate) fn indices(&self, hook: Hook) -> &[usize] {
        self.by_hook.get(hook.index()).map_or(&[], Vec::as_slice)
    }

    /// Returns the index of the binding with the given name.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.bindings.iter().position(|b| &*b.name == name)
    }
}
