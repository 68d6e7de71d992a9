//! A plugin that is loaded.

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
use crate::hooks::Exports;
use crate::lane::{Habit, SlowLane};
use crate::live::Live;
use crate::meter::Meter;
use crate::settings::{InstanceMode, PluginSettings};
use crate::state::{Setting, Shared, State, Watch};
use crate::ticker::Ticker;
use crate::{check, host, wasi};

/// Hexadecimal digits of the version that logs and traces show.
const VERSION_DIGITS: usize = 12;

/// What is needed to make and call instances.
pub(crate) struct Loaded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: Exports,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) lane: Arc<SlowLane>,
    pub(crate) count: Arc<AtomicU32>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) habits: Habits,
}

/// Where the calls of each hook begin: in the order of [`Hook::ALL`], and one that no hook has.
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

/// A component with its grants, limits and instances.
pub struct WasmPlugin {
    version: String,
    hooks: HookSet,
    pub(crate) instance: InstanceMode,
    pub(crate) loaded: Loaded,
    pub(crate) idle: Mutex<Vec<Live>>,
    /// Out of service: chains that began with it still call it, and no instance waits for more.
    is_retired: AtomicBool,
}

/// A component as the engine runs it, not yet bound to grants and limits.
pub struct Compiled {
    component: Component,
    version: String,
}

impl Sandbox {
    /// Loads a component: [`Self::compile`] and [`Self::load_compiled`].
    pub async fn load(&self, source: &[u8], settings: PluginSettings) -> Result<Arc<WasmPlugin>, LoadError> {
        let compiled = self.compile(&settings.name, source)?;
        self.load_compiled(compiled, settings).await
    }

    /// Compiles a component or takes it from the cache. A large one takes seconds, and this does not give way meanwhile.
    pub fn compile(&self, name: &str, source: &[u8]) -> Result<Compiled, LoadError> {
        let component = self.component(name, source)?;
        let version = hex(blake3::hash(source).as_bytes()).chars().take(VERSION_DIGITS).collect();
        Ok(Compiled { component, version })
    }

    /// Compares what a component imports with what is granted, makes an instance, runs `on-load`.
    pub async fn load_compiled(&self, compiled: Compiled, settings: PluginSettings) -> Result<Arc<WasmPlugin>, LoadError> {
        let Compiled { component, version } = compiled;
        let name = settings.name.clone();
        let interfaces = check::interfaces(&self.engine, &component, &settings)?;
        let pre = self.link(&component, &settings, &interfaces)?;
        let mismatch = |e: wasmtime::Error| LoadError::Mismatch { plugin: name.clone(), reason: format!("{e:#}") };
        let exports = Exports::find(&pre, interfaces.hooks, interfaces.on_load).map_err(mismatch)?;
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
            tracing::warn!(plugin = name, %error, "the compiled plugin could not be kept; it is compiled again at the next start");
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

/// A fault and the last words of the guest, which are those of its panic.
fn reason(fault: &Fault) -> String {
    match fault.log.last() {
        Some(line) => format!("{fault} ({line})"),
        None => fault.to_string(),
    }
}

impl WasmPlugin {
    /// Keeps an instance for the next call, unless somebody waits for its place.
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
            // Taken out first: an instance is not dropped under the lock.
            let idle = std::mem::take(&mut *self.idle.lock());
            drop(idle);
        }
    }

    fn instances(&self) -> u32 {
        self.loaded.count.load(Ordering::Relaxed)
    }
}
