//! A plugin in its place: which mail it sees, in which order, and what a fault of it means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use waxwing_types::{Reply, Verdict, Via};

use crate::breaker::Breaker;
use crate::{BreakerSettings, BreakerState, Context, Fault, FaultKind, Hook, Plugin};

/// Whether a plugin's word counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It counts.
    #[default]
    Enforce,
    /// It is asked and traced, and nothing follows from it.
    Shadow,
    /// It is not asked.
    Off,
}

/// What follows from a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// 451 at this hook.
    #[default]
    Defer,
    /// As if the plugin were not there.
    Skip,
    /// 554 at this hook.
    Reject,
    /// Into the hold queue.
    Hold,
}

/// Conditions that are decided before a guest is called. An empty list means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Names of listeners.
    pub listeners: Vec<String>,
    /// Domains, in lower case, of which at least one recipient must be (before RCPT: no condition).
    pub domains: Vec<String>,
    /// Doors.
    pub via: Vec<Via>,
    /// Octets of the message; a larger one is not shown.
    pub size_max: Option<u64>,
}

impl When {
    fn holds(&self, context: &Context) -> bool {
        let listener = context.client.as_ref().map_or("", |c| &*c.listener);
        (self.listeners.is_empty() || self.listeners.iter().any(|l| l == listener))
            && (self.via.is_empty() || self.via.contains(&context.via))
            && (self.domains.is_empty() || context.recipients.is_empty() || self.some_recipient(context))
            && self.size_max.is_none_or(|max| context.size() <= max)
    }

    fn some_recipient(&self, context: &Context) -> bool {
        context.recipients.iter().any(|r| self.domains.iter().any(|d| d == r.recipient.address.domain()))
    }
}

/// One hook of one binding: how often it ran, and whether it may run now. A plugin that always fails at one hook may do well at others.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) breaker: Breaker,
    calls: AtomicU64,
    faults: AtomicU64,
    micros: AtomicU64,
}

impl Record {
    fn new(breaker: BreakerSettings) -> Self {
        Self { breaker: Breaker::new(breaker), calls: AtomicU64::new(0), faults: AtomicU64::new(0), micros: AtomicU64::new(0) }
    }

    pub(crate) fn count(&self, faulted: bool, micros: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.faults.fetch_add(u64::from(faulted), Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// The counts of one hook, as `waxwing plugin list` shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookCount {
    /// The hook.
    pub hook: Hook,
    /// Calls since the start, faults included.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// Microseconds of all calls together.
    pub micros: u64,
}

/// One binding, as `waxwing plugin list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BindingStatus {
    /// The plugin's name in the configuration.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its mode.
    pub mode: Mode,
    /// What a fault means.
    pub on_fault: OnFault,
    /// Whether it is called after its last faults, at the hook where it does worst.
    pub breaker: BreakerState,
    /// Each exported hook, zero included.
    pub hooks: Vec<HookCount>,
}

/// What the operator says of a plugin's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingSettings {
    /// Which mail it sees.
    pub when: When,
    /// Whether its word counts.
    pub mode: Mode,
    /// What a fault means.
    pub on_fault: OnFault,
    /// When it is left alone.
    pub breaker: BreakerSettings,
}

/// A plugin, bound.
pub struct Binding {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What is called.
    pub plugin: Arc<dyn Plugin>,
    /// Which mail it sees.
    pub when: When,
    /// Whether its word counts.
    pub mode: Mode,
    /// What a fault means.
    pub on_fault: OnFault,
    records: Vec<Record>,
}

impl Binding {
    /// Binds a plugin as the operator says.
    #[must_use]
    pub fn new(name: &str, plugin: Arc<dyn Plugin>, settings: BindingSettings) -> Arc<Self> {
        let BindingSettings { when, mode, on_fault, breaker } = settings;
        let records = Hook::ALL.map(|_| Record::new(breaker)).into();
        Arc::new(Self { name: name.into(), plugin, when, mode, on_fault, records })
    }

    /// Is asked at this hook about this mail.
    pub(crate) fn wants(&self, hook: Hook, context: &Context) -> bool {
        self.mode != Mode::Off
            && self.plugin.exports().contains(hook)
            && self.when.holds(context)
            && !context.authors().any(|author| author == &*self.name)
    }

    pub(crate) fn record(&self, hook: Hook) -> Option<&Record> {
        self.records.get(hook.index())
    }

    /// The verdict that follows from a fault; `Continue` means that the plugin is passed over.
    pub(crate) fn consequence(&self, fault: &Fault) -> Verdict {
        if fault.kind == FaultKind::PoolExhausted {
            return Verdict::Defer(Reply::fixed(451, (4, 3, 2), "Server is busy, try again later"));
        }
        match self.on_fault {
            OnFault::Defer => Verdict::Defer(Reply::fixed(451, (4, 3, 0), "A filter of this server failed, try again later")),
            OnFault::Skip => Verdict::Continue,
            OnFault::Reject => Verdict::Reject(Reply::fixed(554, (5, 3, 0), "A filter of this server failed")),
            OnFault::Hold => Verdict::Hold { reason: format!("plugin {} failed: {fault}", self.name) },
        }
    }

    /// For `waxwing plugin list`.
    #[must_use]
    pub fn status(&self) -> BindingStatus {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let hooks = self.plugin.exports().iter().filter_map(|hook| {
            let c = self.record(hook)?;
            Some(HookCount { hook, calls: load(&c.calls), faults: load(&c.faults), micros: load(&c.micros) })
        });
        BindingStatus {
            name: self.name.to_string(),
            version: self.plugin.version().to_owned(),
            mode: self.mode,
            on_fault: self.on_fault,
            breaker: self.records.iter().map(|r| r.breaker.state()).max().unwrap_or_default(),
            hooks: hooks.collect(),
        }
    }
}
