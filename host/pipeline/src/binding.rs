//! A plugin in its place: which mail it sees, in which order, and what a fault of it means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use waxwing_types::{QueueId, Reply, Timestamp, Verdict, Via};

use crate::breaker::Breaker;
use crate::{BreakerSettings, BreakerState, Context, Event, Fault, FaultKind, Hook, Plugin};

/// Characters of a plugin's own version in the name of a version.
const VERSION_DIGITS: usize = 8;

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
    /// on-rewrite-address is asked about addresses without a domain only.
    pub bare_addresses: bool,
}

impl When {
    fn holds(&self, event: &Event, context: &Context) -> bool {
        let listener = context.client.as_ref().map_or("", |c| &*c.listener);
        (self.listeners.is_empty() || self.listeners.iter().any(|l| l == listener))
            && (self.via.is_empty() || self.via.contains(&context.via))
            && (self.domains.is_empty() || context.recipients.is_empty() || self.some_recipient(context))
            && self.size_max.is_none_or(|max| context.size() <= max)
            && !(self.bare_addresses && matches!(event, Event::RewriteAddress(address, _) if !address.is_bare()))
    }

    fn some_recipient(&self, context: &Context) -> bool {
        context.recipients.iter().any(|r| self.domains.iter().any(|d| d == r.recipient.address.domain()))
    }
}

/// One hook of one plugin: how often it ran. Versions that follow each other go on counting in the same place.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    faults: AtomicU64,
    micros: AtomicU64,
    agreed: AtomicU64,
    differed: AtomicU64,
}

impl Counts {
    pub(crate) fn call(&self, faulted: bool, micros: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.faults.fetch_add(u64::from(faulted), Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn comparison(&self, agrees: bool) {
        let counter = if agrees { &self.agreed } else { &self.differed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where one hook of one version is counted, and whether it may run now. A plugin that always fails at one hook may do well at others.
#[derive(Clone, Copy)]
pub(crate) struct Record<'b> {
    pub(crate) breaker: &'b Breaker,
    pub(crate) counts: &'b Counts,
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
    /// For a shadow: answers that were those of the chain.
    pub agreed: u64,
    /// For a shadow: answers that were not.
    pub differed: u64,
}

/// One binding, as `waxwing plugin list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BindingStatus {
    /// The plugin's name in the configuration.
    pub name: String,
    /// Its version, as in traces.
    pub version: String,
    /// When this version was loaded.
    pub loaded_at: Timestamp,
    /// For a canary, the percentage of the transactions that it gets.
    pub canary: Option<u8>,
    /// Instances of this version that exist now.
    pub instances: u32,
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

/// A version of a plugin that serves some of the transactions, to be tried before it serves all.
#[derive(Clone)]
pub struct Canary {
    /// The version; it has the settings of the one that it stands beside, and counts for itself.
    pub binding: Arc<Binding>,
    /// Of a hundred transactions so many, 0 to 100.
    pub percent: u8,
}

/// A version of a plugin, bound.
#[derive(Clone)]
pub struct Binding {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What is called.
    pub plugin: Arc<dyn Plugin>,
    /// Its version as lists and traces name it: which load of this plugin it is, and the beginning of its content's hash.
    pub version: Arc<str>,
    /// When it was loaded.
    pub loaded_at: Timestamp,
    /// Which mail it sees.
    pub when: When,
    /// Whether its word counts.
    pub mode: Mode,
    /// What a fault means.
    pub on_fault: OnFault,
    /// Another version, for some of the transactions.
    pub canary: Option<Canary>,
    breaker: BreakerSettings,
    breakers: Arc<[Breaker]>,
    counts: Arc<[Counts]>,
}

impl Binding {
    /// Binds a plugin as the operator says.
    #[must_use]
    pub fn new(name: &str, plugin: Arc<dyn Plugin>, settings: BindingSettings) -> Arc<Self> {
        Self::first(name, plugin, settings, Timestamp::default())
    }

    /// Binds the first version of a plugin, loaded at that time.
    #[must_use]
    pub fn first(name: &str, plugin: Arc<dyn Plugin>, settings: BindingSettings, loaded_at: Timestamp) -> Arc<Self> {
        let BindingSettings { when, mode, on_fault, breaker } = settings;
        Arc::new(Self {
            name: name.into(),
            version: label(1, &*plugin),
            plugin,
            loaded_at,
            when,
            mode,
            on_fault,
            canary: None,
            breaker,
            breakers: breakers(breaker),
            counts: Hook::ALL.map(|_| Counts::default()).into(),
        })
    }

    /// The next version in the place of this one, load `number` of this plugin. It goes on with the counts, while its breakers know nothing
    /// of the faults of the one before. There is no canary beside it.
    #[must_use]
    pub fn successor(&self, plugin: Arc<dyn Plugin>, number: u32, loaded_at: Timestamp) -> Arc<Self> {
        let version = label(number, &*plugin);
        Arc::new(Self { plugin, version, loaded_at, canary: None, breakers: breakers(self.breaker), ..self.clone() })
    }

    /// Another version to stand beside this one, load `number` of this plugin, with counts of its own.
    #[must_use]
    pub fn beside(&self, plugin: Arc<dyn Plugin>, number: u32, loaded_at: Timestamp) -> Arc<Self> {
        let counts = Hook::ALL.map(|_| Counts::default()).into();
        Arc::new(Self { counts, ..(*self.successor(plugin, number, loaded_at)).clone() })
    }

    /// This version, with that canary or without one.
    #[must_use]
    pub fn with_canary(&self, canary: Option<Canary>) -> Arc<Self> {
        Arc::new(Self { canary, ..self.clone() })
    }

    /// The version that serves a transaction: the same at each of its hooks and attempts. What belongs to no transaction is not the canary's.
    pub(crate) fn chosen(self: &Arc<Self>, id: Option<QueueId>) -> &Arc<Self> {
        match (&self.canary, id) {
            (Some(canary), Some(id)) if percentile(id) < u64::from(canary.percent) => &canary.binding,
            (Some(_) | None, _) => self,
        }
    }

    /// Some version of it wants this hook.
    pub(crate) fn has(&self, hook: Hook) -> bool {
        let exports = |binding: &Self| binding.plugin.exports().contains(hook);
        self.mode != Mode::Off && (exports(self) || self.canary.as_ref().is_some_and(|canary| exports(&canary.binding)))
    }

    /// Is asked this about this mail.
    pub(crate) fn wants(&self, event: &Event, context: &Context) -> bool {
        self.mode != Mode::Off
            && self.plugin.exports().contains(event.hook())
            && self.when.holds(event, context)
            && !context.authors().any(|author| author == &*self.name)
    }

    pub(crate) fn record(&self, hook: Hook) -> Option<Record<'_>> {
        Some(Record { breaker: self.breakers.get(hook.index())?, counts: self.counts.get(hook.index())? })
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
            let c = self.counts.get(hook.index())?;
            let (calls, faults, micros) = (load(&c.calls), load(&c.faults), load(&c.micros));
            Some(HookCount { hook, calls, faults, micros, agreed: load(&c.agreed), differed: load(&c.differed) })
        });
        BindingStatus {
            name: self.name.to_string(),
            version: self.version.to_string(),
            loaded_at: self.loaded_at,
            canary: None,
            instances: self.plugin.instances(),
            mode: self.mode,
            on_fault: self.on_fault,
            breaker: self.breakers.iter().map(Breaker::state).max().unwrap_or_default(),
            hooks: hooks.collect(),
        }
    }
}

fn breakers(settings: BreakerSettings) -> Arc<[Breaker]> {
    Hook::ALL.map(|_| Breaker::new(settings)).into()
}

/// `v3:1a2b3c4d`.
fn label(number: u32, plugin: &dyn Plugin) -> Arc<str> {
    let hash: String = plugin.version().chars().take(VERSION_DIGITS).collect();
    format!("v{number}:{hash}").into()
}

/// Where a transaction stands among a hundred. Ids that follow each other differ in few bits: all bits are mixed (the end of splitmix64).
fn percentile(id: QueueId) -> u64 {
    let mut bits = id.as_u64();
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        bits = (bits ^ (bits >> shift)).wrapping_mul(factor);
    }
    (bits ^ (bits >> 31)) % 100
}
