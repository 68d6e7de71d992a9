//! Loaded plugins: compilation, linking, `on-load` and idle instances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::time::timeout;
use wasmtime::component::{Component, InstancePre, Linker};
use waxwing_pipeline::{Fault, FaultKind, Hook, HookSet, Plugin, PluginSession};
use waxwing_types::hex;

use crate::engine::Sandbox;
use crate::error::PluginLoadError;
use crate::executor::{CallHistory, SlowCallPool};
use crate::hooks::HookExports;
use crate::instance::PluginInstance;
use crate::limiter::InstanceLimiter;
use crate::linking::ComponentInterfaces;
use crate::meter::Meter;
use crate::session::WasmSession;
use crate::settings::{InstanceMode, PluginSettings};
use crate::state::{CallMonitor, ConfigEntry, InstanceState, PluginShared};
use crate::ticker::Ticker;
use crate::{imports, linking, wasi};

/// Number of hexadecimal digits of the version in logs and traces.
const VERSION_DIGITS: usize = 12;

/// Data needed to create and call instances of a plugin.
pub(crate) struct LoadedPlugin {
    pub(crate) shared: Arc<PluginShared>,
    pub(crate) instance_pre: InstancePre<InstanceState>,
    pub(crate) exports: HookExports,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) slow_calls: Arc<SlowCallPool>,
    pub(crate) instance_count: Arc<AtomicU32>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) limiter: Arc<InstanceLimiter>,
    pub(crate) call_histories: CallHistories,
}

/// Call history of each hook, in the order of [`Hook::ALL`], and a spare history for an unknown hook.
pub(crate) struct CallHistories([CallHistory; Hook::ALL.len()], CallHistory);

impl Default for CallHistories {
    fn default() -> Self {
        Self(std::array::from_fn(|_| CallHistory::default()), CallHistory::default())
    }
}

impl CallHistories {
    pub(crate) fn for_hook(&self, hook: Hook) -> &CallHistory {
        self.0.get(hook.index()).unwrap_or(&self.1)
    }
}

/// WebAssembly component with grants, limits and instances.
pub struct WasmPlugin {
    version: String,
    hooks: HookSet,
    pub(crate) instance_mode: InstanceMode,
    pub(crate) loaded: LoadedPlugin,
    pub(crate) idle_instances: Mutex<Vec<PluginInstance>>,
    /// Whether the version is out of service: open hook sessions still call the plugin, and no idle instance is kept.
    is_retired: AtomicBool,
}

/// Compiled component, not yet bound to grants and limits.
pub struct CompiledPlugin {
    component: Component,
    version: String,
}

impl Sandbox {
    /// Loads a component: [`Self::compile`] followed by [`Self::load_compiled`].
    pub async fn load(&self, source: &[u8], settings: PluginSettings) -> Result<Arc<WasmPlugin>, PluginLoadError> {
        let compiled = self.compile(&settings.name, source)?;
        self.load_compiled(compiled, settings).await
    }

    /// Compiles a component, or reads the compiled form from the cache. Blocks the thread: a large component takes seconds.
    pub fn compile(&self, name: &str, source: &[u8]) -> Result<CompiledPlugin, PluginLoadError> {
        let component = self.compile_component(name, source)?;
        let version = hex(blake3::hash(source).as_bytes()).chars().take(VERSION_DIGITS).collect();
        Ok(CompiledPlugin { component, version })
    }

    /// Checks imports against grants, creates an instance and runs `on-load`.
    pub async fn load_compiled(
        &self,
        compiled: CompiledPlugin,
        settings: PluginSettings,
    ) -> Result<Arc<WasmPlugin>, PluginLoadError> {
        let CompiledPlugin { component, version } = compiled;
        let name = settings.name.clone();
        let interfaces = linking::check_component(&self.engine, &component, &settings)?;
        let pre = self.link(&component, &settings, &interfaces)?;
        let mismatch = |e: wasmtime::Error| PluginLoadError::Mismatch { plugin: name.clone(), reason: format!("{e:#}") };
        let exports = HookExports::find(&pre, interfaces.hooks, interfaces.on_load).map_err(mismatch)?;
        let instance = settings.instance_mode;
        let gate = self.limiter_for(&name, &settings.limits);
        let loaded = LoadedPlugin {
            shared: Arc::new(self.plugin_shared(settings, interfaces.imports_wasi)),
            instance_pre: pre,
            exports,
            ticker: Arc::clone(&self.ticker),
            slow_calls: Arc::clone(&self.slow_calls),
            call_histories: CallHistories::default(),
            instance_count: Arc::default(),
            meter: self.settings.meter.clone(),
            limiter: gate,
        };
        let failed = |e: Fault| PluginLoadError::Failed { plugin: name.clone(), reason: fault_text(&e) };
        let watch = CallMonitor::default();
        let begin = async {
            let mut first = PluginInstance::new(&loaded, Arc::new(loaded.limiter.acquire_unbounded()), watch.clone())
                .await
                .map_err(failed)?;
            first.check_exports(&loaded.exports).map_err(mismatch)?;
            first
                .call_on_load(&loaded)
                .await
                .map_err(failed)?
                .map_err(|reason| PluginLoadError::Refused { plugin: name.clone(), reason })?;
            Ok(first)
        };
        let wall = loaded.shared.limits.wall;
        let first = timeout(wall, begin).await.unwrap_or_else(|_| {
            let text = format!("took longer than {} ms", wall.as_millis());
            Err(failed(Fault { kind: FaultKind::TimeLimit, text, log: watch.take_log() }))
        })?;
        let keys = loaded.shared.unread_keys();
        if !keys.is_empty() && (interfaces.on_load || !interfaces.imports_config) {
            return Err(PluginLoadError::UnreadKeys { plugin: name, keys });
        }
        let plugin = WasmPlugin {
            version,
            hooks: interfaces.hooks,
            instance_mode: instance,
            loaded,
            idle_instances: Mutex::default(),
            is_retired: AtomicBool::new(false),
        };
        if matches!(instance, InstanceMode::Reuse { .. }) {
            plugin.return_instance(first);
        }
        Ok(Arc::new(plugin))
    }

    fn compile_component(&self, name: &str, source: &[u8]) -> Result<Component, PluginLoadError> {
        if let Some(component) = self.cache.as_ref().and_then(|c| c.get(&self.engine, source)) {
            return Ok(component);
        }
        let broken = |e: wasmtime::Error| PluginLoadError::NotAComponent { plugin: name.to_owned(), reason: format!("{e:#}") };
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
        interfaces: &ComponentInterfaces,
    ) -> Result<InstancePre<InstanceState>, PluginLoadError> {
        let mismatch = |e: wasmtime::Error| PluginLoadError::Mismatch { plugin: settings.name.clone(), reason: format!("{e:#}") };
        let mut linker: Linker<InstanceState> = Linker::new(&self.engine);
        for interface in &interfaces.imports {
            imports::link(&mut linker, *interface).map_err(mismatch)?;
        }
        if interfaces.imports_wasi {
            wasi::link(&mut linker).map_err(mismatch)?;
        }
        linker.instantiate_pre(component).map_err(mismatch)
    }

    fn plugin_shared(&self, settings: PluginSettings, wasi: bool) -> PluginShared {
        let setting = |(key, value): (String, serde_json::Value)| {
            (key, ConfigEntry { json: value.to_string(), was_read: AtomicBool::new(false) })
        };
        let mut limits = settings.limits;
        limits.memory_bytes_max = limits.memory_bytes_max.min(self.settings.memory_bytes_max);
        PluginShared {
            name: settings.name.into(),
            grants: settings.grants,
            limits,
            config: settings.config.into_iter().map(setting).collect::<BTreeMap<_, _>>(),
            server_values: settings.server_values.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
            tables: settings.tables,
            clock: Arc::clone(&self.clock),
            services: settings.services,
            imports_wasi: wasi,
            metric_names: Mutex::default(),
        }
    }
}

/// Formats a fault with the last log line of the guest, usually the panic message.
fn fault_text(fault: &Fault) -> String {
    match fault.log.last() {
        Some(line) => format!("{fault} ({line})"),
        None => fault.to_string(),
    }
}

impl WasmPlugin {
    /// Keeps an instance for the next call, unless calls are waiting for a permit.
    pub(crate) fn return_instance(&self, live: PluginInstance) {
        if self.loaded.limiter.has_waiters() {
            return drop(live);
        }
        let mut idle = self.idle_instances.lock();
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

    fn open_session(self: Arc<Self>) -> Box<dyn PluginSession> {
        Box::new(WasmSession::new(self))
    }

    fn set_retired(&self, is_retired: bool) {
        self.is_retired.store(is_retired, Ordering::Relaxed);
        if is_retired {
            // Removed from the list first: an instance must not be dropped under the lock.
            let idle = std::mem::take(&mut *self.idle_instances.lock());
            drop(idle);
        }
    }

    fn instances(&self) -> u32 {
        self.loaded.instance_count.load(Ordering::Relaxed)
    }
}
