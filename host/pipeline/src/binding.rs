//! Bindings: a plugin with the conditions, mode and fault policy that the operator configured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use waxwing_types::{QueueId, Reply, Source, Timestamp, Verdict};

use crate::breaker::Breaker;
use crate::{BreakerSettings, BreakerState, Context, Event, Fault, FaultKind, Hook, Plugin, TraceEntry};

/// Number of characters of the plugin's hash in a version label.
const VERSION_DIGITS: usize = 8;

/// Effect of a plugin's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BindingMode {
    /// Answers take effect.
    #[default]
    Enforce,
    /// Answers are traced and compared, without any effect on mail.
    Shadow,
    /// Plugin not called.
    Off,
}

/// Consequence of a fault for the message or command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultPolicy {
    /// Reply 451 at the current hook.
    #[default]
    Defer,
    /// Plugin skipped for the current hook.
    Skip,
    /// Reply 554 at the current hook.
    Reject,
    /// Message placed in the hold queue.
    Hold,
}

/// Conditions checked before a plugin is called. An empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingConditions {
    /// Names of listeners.
    pub listeners: Vec<String>,
    /// Recipient domains, in lower case; at least one recipient must match. Before RCPT the condition always holds.
    pub domains: Vec<String>,
    /// Sources of mail (SMTP, submission, LMTP, …).
    pub sources: Vec<Source>,
    /// Maximum message size in bytes; the plugin is not called for a larger message.
    pub size_max: Option<u64>,
    /// Restricts on-rewrite-address to addresses without a domain.
    pub bare_addresses: bool,
}

impl BindingConditions {
    fn matches(&self, event: &Event, context: &Context) -> bool {
        let listener = context.client.as_ref().map_or("", |c| &*c.listener);
        (self.listeners.is_empty() || self.listeners.iter().any(|l| l == listener))
            && (self.sources.is_empty() || self.sources.contains(&context.source))
            && (self.domains.is_empty() || context.recipients.is_empty() || self.matches_recipient(context))
            && self.size_max.is_none_or(|max| context.size() <= max)
            && !(self.bare_addresses && matches!(event, Event::RewriteAddress(address, _) if !address.has_no_domain()))
    }

    fn matches_recipient(&self, context: &Context) -> bool {
        context.recipients.iter().any(|r| self.domains.iter().any(|d| d == r.recipient.address.domain()))
    }
}

/// Counters of one hook of one plugin. Successive versions share the counters, so the counts continue after a reload.
#[derive(Debug, Default)]
pub(crate) struct CallCounters {
    calls: AtomicU64,
    faults: AtomicU64,
    micros: AtomicU64,
    agreed: AtomicU64,
    differed: AtomicU64,
}

impl CallCounters {
    pub(crate) fn record_call(&self, faulted: bool, micros: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.faults.fetch_add(u64::from(faulted), Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn record_comparison(&self, agrees: bool) {
        let counter = if agrees { &self.agreed } else { &self.differed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Breaker and counters of one hook of one version. Each hook has a breaker of its own: a plugin that always fails at one hook
/// may work at others.
#[derive(Clone, Copy)]
pub(crate) struct HookState<'b> {
    pub(crate) breaker: &'b Breaker,
    pub(crate) counters: &'b CallCounters,
}

/// Counters of one hook, as shown by `waxwing plugin list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookCounts {
    /// Hook of the counters.
    pub hook: Hook,
    /// Calls since the start, faults included.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// Total duration of all calls in microseconds.
    pub micros: u64,
    /// Answers of a shadow that agree with the decision of the enforcing plugins.
    pub agreed: u64,
    /// Answers of a shadow that differ from the decision.
    pub differed: u64,
}

/// Status of one binding, as shown by `waxwing plugin list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BindingStatus {
    /// Name of the plugin in the configuration.
    pub name: String,
    /// Version label, as in traces.
    pub version: String,
    /// Load time of this version.
    pub loaded_at: Timestamp,
    /// Share of transactions in percent, for a canary.
    pub canary: Option<u8>,
    /// Number of live instances of this version.
    pub instances: u32,
    /// Mode of the binding.
    pub mode: BindingMode,
    /// Consequence of a fault.
    pub on_fault: FaultPolicy,
    /// Worst breaker state of all hooks.
    pub breaker: BreakerState,
    /// Counters of each exported hook, zero counts included.
    pub hooks: Vec<HookCounts>,
}

/// Settings of a binding, as the operator configured them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingSettings {
    /// Conditions of the calls.
    pub when: BindingConditions,
    /// Effect of the answers.
    pub mode: BindingMode,
    /// Consequence of a fault.
    pub on_fault: FaultPolicy,
    /// Thresholds of the circuit breaker.
    pub breaker: BreakerSettings,
}

/// Version of a plugin that serves a share of the transactions, on trial before replacing the stable version.
#[derive(Clone)]
pub struct Canary {
    /// Canary version. Has the settings of the stable version and counters of its own.
    pub binding: Arc<Binding>,
    /// Share of transactions in percent, 0 to 100.
    pub percent: u8,
}

/// Version of a plugin, bound to conditions, mode and fault policy.
#[derive(Clone)]
pub struct Binding {
    /// Name of the plugin in the configuration.
    pub name: Arc<str>,
    /// Plugin to call.
    pub plugin: Arc<dyn Plugin>,
    /// Version label of lists and traces: the load number of this plugin and the first digits of the content hash.
    pub version: Arc<str>,
    /// Load time of this version.
    pub loaded_at: Timestamp,
    /// Conditions of the calls.
    pub when: BindingConditions,
    /// Effect of the answers.
    pub mode: BindingMode,
    /// Consequence of a fault.
    pub on_fault: FaultPolicy,
    /// Canary version for a share of the transactions.
    pub canary: Option<Canary>,
    breaker_settings: BreakerSettings,
    breakers: Arc<[Breaker]>,
    counters: Arc<[CallCounters]>,
}

impl Binding {
    /// Creates a binding with the given settings, loaded at time zero.
    #[must_use]
    pub fn new(name: &str, plugin: Arc<dyn Plugin>, settings: BindingSettings) -> Arc<Self> {
        Self::initial(name, plugin, settings, Timestamp::default())
    }

    /// Creates the binding of the first version of a plugin, loaded at the given time.
    #[must_use]
    pub fn initial(name: &str, plugin: Arc<dyn Plugin>, settings: BindingSettings, loaded_at: Timestamp) -> Arc<Self> {
        let BindingSettings { when, mode, on_fault, breaker } = settings;
        Arc::new(Self {
            name: name.into(),
            version: version_label(1, &*plugin),
            plugin,
            loaded_at,
            when,
            mode,
            on_fault,
            canary: None,
            breaker_settings: breaker,
            breakers: new_breakers(breaker),
            counters: Hook::ALL.map(|_| CallCounters::default()).into(),
        })
    }

    /// Returns the binding of the next version, load `number` of this plugin. The counters continue; the breakers start closed,
    /// without the faults of the previous version. The new binding has no canary.
    #[must_use]
    pub fn replaced_by(&self, plugin: Arc<dyn Plugin>, number: u32, loaded_at: Timestamp) -> Arc<Self> {
        let version = version_label(number, &*plugin);
        Arc::new(Self { plugin, version, loaded_at, canary: None, breakers: new_breakers(self.breaker_settings), ..self.clone() })
    }

    /// Returns a binding for a canary version, load `number` of this plugin, with counters of its own.
    #[must_use]
    pub fn as_canary(&self, plugin: Arc<dyn Plugin>, number: u32, loaded_at: Timestamp) -> Arc<Self> {
        let counts = Hook::ALL.map(|_| CallCounters::default()).into();
        Arc::new(Self { counters: counts, ..(*self.replaced_by(plugin, number, loaded_at)).clone() })
    }

    /// Returns this binding with the given canary, or without a canary.
    #[must_use]
    pub fn with_canary(&self, canary: Option<Canary>) -> Arc<Self> {
        Arc::new(Self { canary, ..self.clone() })
    }

    /// Returns the version that serves a transaction: the same at all hooks and attempts of a transaction. Calls outside any
    /// transaction go to the stable version.
    pub(crate) fn select_version(self: &Arc<Self>, id: Option<QueueId>) -> &Arc<Self> {
        match (&self.canary, id) {
            (Some(canary), Some(id)) if transaction_percentile(id) < u64::from(canary.percent) => &canary.binding,
            (Some(_) | None, _) => self,
        }
    }

    /// Creates the trace entry of a call, still without its result.
    pub(crate) fn trace_entry(&self, hook: Hook, at: Timestamp, micros: u64, subject: String) -> TraceEntry {
        let step = TraceEntry::server_step(at, Arc::clone(&self.name), hook.as_str(), subject, "");
        TraceEntry { version: Arc::clone(&self.version), micros, shadow: self.mode == BindingMode::Shadow, ..step }
    }

    /// Checks whether the stable version or the canary exports a hook and the mode is not `Off`.
    pub(crate) fn has_hook(&self, hook: Hook) -> bool {
        let exports = |binding: &Self| binding.plugin.exports().contains(hook);
        self.mode != BindingMode::Off && (exports(self) || self.canary.as_ref().is_some_and(|canary| exports(&canary.binding)))
    }

    /// Checks whether the plugin is to be called with this event in this context.
    pub(crate) fn should_call(&self, event: &Event, context: &Context) -> bool {
        self.mode != BindingMode::Off
            && self.plugin.exports().contains(event.hook())
            && self.when.matches(event, context)
            && !context.submitters().any(|author| author == &*self.name)
    }

    pub(crate) fn hook_state(&self, hook: Hook) -> Option<HookState<'_>> {
        Some(HookState { breaker: self.breakers.get(hook.index())?, counters: self.counters.get(hook.index())? })
    }

    /// Returns the verdict that follows from a fault; `Next` skips the plugin.
    pub(crate) fn fault_verdict(&self, fault: &Fault) -> Verdict {
        if fault.kind == FaultKind::PoolExhausted {
            return Verdict::Defer(Reply::fixed(451, (4, 3, 2), "Server is busy, try again later"));
        }
        match self.on_fault {
            FaultPolicy::Defer => Verdict::Defer(Reply::fixed(451, (4, 3, 0), "A filter of this server failed, try again later")),
            FaultPolicy::Skip => Verdict::Next,
            FaultPolicy::Reject => Verdict::Reject(Reply::fixed(554, (5, 3, 0), "A filter of this server failed")),
            FaultPolicy::Hold => Verdict::Hold { reason: format!("plugin {} failed: {fault}", self.name) },
        }
    }

    /// Returns the status for `waxwing plugin list`.
    #[must_use]
    pub fn status(&self) -> BindingStatus {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let hooks = self.plugin.exports().iter().filter_map(|hook| {
            let c = self.counters.get(hook.index())?;
            let (calls, faults, micros) = (load(&c.calls), load(&c.faults), load(&c.micros));
            Some(HookCounts { hook, calls, faults, micros, agreed: load(&c.agreed), differed: load(&c.differed) })
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

fn new_breakers(settings: BreakerSettings) -> Arc<[Breaker]> {
    Hook::ALL.map(|_| Breaker::new(settings)).into()
}

/// Formats a version label such as `v3:1a2b3c4d`.
fn version_label(number: u32, plugin: &dyn Plugin) -> Arc<str> {
    let hash: String = plugin.version().chars().take(VERSION_DIGITS).collect();
    format!("v{number}:{hash}").into()
}

/// Maps a transaction to a number from 0 to 99. Consecutive ids differ in few bits, so all bits are mixed (finalizer of
/// splitmix64).
fn transaction_percentile(id: QueueId) -> u64 {
    let mut bits = id.as_u64();
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        bits = (bits ^ (bits >> shift)).wrapping_mul(factor);
    }
    (bits ^ (bits >> 31)) % 100
}
