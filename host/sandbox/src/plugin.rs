//! Loaded plugins: compilation, linking, `on-load` and idle instances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::time::timeout;
use wasmtime::component::{Component, InstancePre, Linker};
use waxwing_pipeline::{Fault, FaultKind, Guest, Hook, HookSet, Plugin};
use waxwing_types::hex;

use crate::check::Interfaces;
use crate::engine::Sandbox;
use crate::error::LoadError;
use crate::gate::Gate;
use crate::guest::Conversation;
use crate::hooks::HookExports;
use crate::lane::{Habit, SlowLane};
use crate::live::Live;
use crate::meter::Meter;
use crate::settings::{InstanceMode, PluginSettings};
use crate::state::{Setting, Shared, State, Watch};
use crate::ticker::Ticker;
use crate::{check, host, wasi};

/// Number of hexadecimal digits of the version in logs and traces.
const VERSION_DIGITS: usize = 12;

/// Data needed to create and call instances of a plugin.
pub(crate) struct Loaded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: HookExports,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) lane: Arc<SlowLane>,
    pub(crate) count: Arc<AtomicU32>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) habits: Habits,
}

/// Call history of each hook, in the order of [`Hook::ALL`], and a spare history for an unknown hook.
pub(crate) struct Habits([Habit; Hook::ALL.len()], Habit);

impl Default for Habits {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Habit::default()), Habit::default())
    }
}

impl Habits {
    pub(crate) fn of(&self, hook: Hook) -> &Habit {
        self.0.get(hook.index()).unwrap_or(&self.1)
    }
}

/// WebAssembly component with grants, limits and instances.
pub struct WasmPlugin {
    version: String,
    hooks: HookSet,
    pub(crate) instance: InstanceMode,
    pub(crate) loaded: Loaded,
    pub(crate) idle: Mutex<Vec<Live>>,
    /// Whether the version is out of service: open hook sessions still call the plugin, and no idle instance is kept.
    is_retired: AtomicBool,
}

/// Compiled component, not yet bound to grants and limits.
pub struct Compiled {
    component: Component,
    version: String,
}

impl Sandbox {
    /// Loads a component: [`Self::compile`] followed by [`Self::load_compiled`].
    pub async fn load(&self, source: &[u8], settings: PluginSettings) -> Result<Arc<WasmPlugin>, LoadError> {
        let compiled = self.compile(&settings.name, source)?;
        self.load_compiled(compiled, settings).await
    }

    /// Compiles a component, or reads the compiled form from the cache. Blocks the thread: a large component takes seconds.
    pub fn compile(&self, name: &str, source: &[u8]) -> Result<Compiled, LoadError> {
        let component = self.component(name, source)?;
        let version = hex(blake3::hash(source).as_bytes()).chars().take(VERSION_DIGITS).collect();
        Ok(Compiled { component, version })
    }

    /// Checks imports against grants, creates an instance and runs `on-load`.
    pub async fn load_compiled(&self, compiled: Compiled, settings: PluginSettings) -> Result<Arc<WasmPlugin>, LoadError> {
        let Compiled { component, version } = compiled;
        let name = settings.name.clone();
        let interfaces = check::interfaces(&self.engine, &component, &settings)?;
        let pre = self.link(&component, &settings, &interfaces)?;
        let mismatch = |e: wasmtime::Error| LoadError::Mismatch { plugin: name.clone(), reason: format!("{e:#}") };
        let exports = HookExports::find(&pre, interfaces.hooks, interfaces.on_load).map_err(mismatch)?;
        let instance = settings.instance;
        let gate = self.gate_of(&name, &settings.limits);
        let loaded = Loaded {
            shared: Arc::new(self.shared(settings, interfaces.wasi)),
            pre,
            exports,
            ticker: Arc::clone(&self.ticker),
            lane: Arc::clone(&self.lane),
            habits: Habits::default(),
            count: Arc::default(),
            meter: self.settings.meter.clone(),
            gate,
        };
        let failed = |e: Fault| LoadError::Failed { plugin: name.clone(), reason: reason(&e) };
        let watch = Watch::default();
        let begin = async {
            let mut first = Live::new(&loaded, Arc::new(loaded.gate.enter_always()), watch.clone()).await.map_err(failed)?;
            first.check(&loaded.exports).map_err(mismatch)?;
            first.load(&loaded).await.map_err(failed)?.map_err(|reason| LoadError::Refused { plugin: name.clone(), reason })?;
            Ok(first)
        };
        let wall = loaded.shared.limits.wall;
        let first = timeout(wall, begin).await.unwrap_or_else(|_| {
            let text = format!("took longer than {} ms", wall.as_millis());
            Err(failed(Fault { kind: FaultKind::TimeLimit, text, log: watch.take_log() }))
        })?;
        let keys = loaded.shared.unread();
        if !keys.is_empty() && (interfaces.on_load || !interfaces.config) {
            return Err(LoadError::UnreadKeys { plugin: name, keys });
        }
        let plugin = WasmPlugin {
            version,
            hooks: interfaces.hooks,
            instance,
            loaded,
            idle: Mutex::default(),
            is_retired: AtomicBool::new(false),
        };
        if matches!(instance, InstanceMode::Reuse { .. }) {
            plugin.put_back(first);
        }
        Ok(Arc::new(plugin))
    }

    fn component(&self, name: &str, source: &[u8]) -> Result<Component, LoadError> {
        if let Some(component) = self.cache.as_ref().and_then(|c| c.get(&self.engine, source)) {
            return Ok(component);
        }
        let broken = |e: wasmtime::Error| LoadError::NotAComponent { plugin: name.to_owned(), reason: format!("{e:#}") };
        let component = Component::from_binary(&self.engine, source).map_err(broken)?;
        if let Some(cache) = &self.cache
            && let Err(error) = component.serialize().map_err(std::io::Error::other).and_then(|code| cache.put(source, &code))
        {
            tracing::warn!(plugin = name, %error, "cannot store the compiled plugin in the cache; the next start compiles again");
        }
        Ok(component)
    }

    fn link(
        &self,
        component: &Component,
        settings: &PluginSettings,
        interfaces: &Interfaces,
    ) -> Result<InstancePre<State>, LoadError> {
        let mismatch = |e: wasmtime::Error| LoadError::Mismatch { plugin: settings.name.clone(), reason: format!("{e:#}") };
        let mut linker: Linker<State> = Linker::new(&self.engine);
        for interface in &interfaces.imports {
            host::link(&mut linker, *interface).map_err(mismatch)?;
        }
        if interfaces.wasi {
            wasi::link(&mut linker).map_err(mismatch)?;
        }
        linker.instantiate_pre(component).map_err(mismatch)
    }

    fn shared(&self, settings: PluginSettings, wasi: bool) -> Shared {
        let setting =
            |(key, value): (String, serde_json::Value)| (key, Setting { json: value.to_string(), read: AtomicBool::new(false) });
        let mut limits = settings.limits;
        limits.memory_bytes_max = limits.memory_bytes_max.min(self.settings.memory_bytes_max);
        Shared {
            name: settings.name.into(),
            grants: settings.grants,
            limits,
            config: settings.config.into_iter().map(setting).collect::<BTreeMap<_, _>>(),
            server: settings.server.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
            tables: settings.tables,
            clock: Arc::clone(&self.clock),
            ports: settings.ports,
            wasi,
            metric_names: Mutex::default(),
        }
    }
}

/// Formats a fault with the last log line of the guest, usually the panic message.
fn reason(fault: &Fault) -> String {
    match fault.log.last() {
        Some(line) => format!("{fault} ({line})"),
        None => fault.to_string(),
    }
}

impl WasmPlugin {
    /// Keeps an instance for the next call, unless calls are waiting for a permit.
    pub(crate) fn put_back(&self, live: Live) {
        if self.loaded.gate.is_awaited() {
            return drop(live);
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.loaded.shared.limits.idle_max && !self.is_retired.load(Ordering::Relaxed) {
            idle.push(live);
        }
    }
}

impl Plugin for WasmPlugin {
    fn version(&self) -> &str {
        &self.version
    }

    fn exports(&self) -> HookSet {
        self.hooks
    }

    fn open(self: Arc<Self>) -> Box<dyn Guest> {
        Box::new(Conversation::new(self))
    }

    fn retire(&self, is_retired: bool) {
        self.is_retired.store(is_retired, Ordering::Relaxed);
        if is_retired {
            // Removed from the list first: an instance must not be dropped under the lock.
            let idle = std::mem::take(&mut *self.idle.lock());
            drop(idle);
        }
    }

    fn instances(&self) -> u32 {
        self.loaded.count.load(Ordering::Relaxed)
    }
}
