//! Wasmtime engine: one for the process, with one instance pool for all plugins.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use waxwing_types::Clock;

use crate::cache::CompileCache;
use crate::executor::SlowCallPool;
use crate::limiter::InstanceLimiter;
use crate::meter::Meter;
use crate::ticker::Ticker;
use crate::{PluginLimits, PluginLoadError};

/// Number of bytes of each linear memory that stay resident after an instance ends: cleared by hand, which is cheaper than page
/// faults. A plugin built with the SDK needs less for stack, data and the first part of the heap.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// Maximum number of unused pool slots kept warm for a plugin.
const UNUSED_WARM_SLOTS_MAX: u32 = 16;
/// Maximum number of core modules, memories and tables of one component: a component from Python has 38. The number costs the
/// pool nothing in advance.
const PARTS_PER_COMPONENT_MAX: u32 = 64;

/// Instances over the configured limit: for plugins loaded while all instances are busy, and for aborted calls that are about
/// to end when the permit is reused.
const SPARE_INSTANCES: u32 = 64;

/// Limits shared by all plugins.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Directory of compiled plugins; none compiles plugins at each start.
    pub cache_directory: Option<PathBuf>,
    /// Maximum number of instances of all plugins: the sum of the plugin limits. With a lower limit, transactions that hold an
    /// instance of one plugin and wait for an instance of another could deadlock. Each instance reserves 4 GiB of address space
    /// (not of memory), which saves the bounds check of memory accesses.
    pub instances_max: u32,
    /// Maximum linear memory in bytes that a plugin's limit may allow.
    pub memory_bytes_max: usize,
    /// Number of threads of the pool for slow calls.
    pub slow_call_threads: usize,
    /// Meter for the cost of calls, including fuel, which slows down guests; none in a server.
    pub meter: Option<Arc<Meter>>,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self { cache_directory: None, instances_max: 500, memory_bytes_max: 1 << 30, slow_call_threads: 1, meter: None }
    }
}

/// Engine that loads and runs plugins.
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) slow_calls: Arc<SlowCallPool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Option<CompileCache>,
    pub(crate) settings: SandboxSettings,
    /// Instance limiters by plugin name, as long as a version of the plugin is loaded.
    pub(crate) limiters: Mutex<HashMap<String, Weak<InstanceLimiter>>>,
}

impl Sandbox {
    /// Starts the engine and the ticker. The cache directory is created if missing.
    pub fn new(settings: SandboxSettings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, PluginLoadError> {
        let engine = Engine::new(&engine_config(&settings)).map_err(|e| PluginLoadError::Engine(format!("{e:#}")))?;
        let ticker = Ticker::start(&engine)?;
        let slow_calls = Arc::new(SlowCallPool::start(settings.slow_call_threads)?);
        let cache = settings.cache_directory.clone().map(|path| CompileCache::open(path, &engine)).transpose()?;
        Ok(Arc::new(Self { engine, ticker, slow_calls, clock, cache, settings, limiters: Mutex::default() }))
    }
}

impl Sandbox {
    /// Returns the limiter shared by all versions of a plugin; the most recently loaded version sets the limits.
    pub(crate) fn limiter_for(&self, name: &str, limits: &PluginLimits) -> Arc<InstanceLimiter> {
        let mut gates = self.limiters.lock();
        gates.retain(|_, gate| gate.strong_count() > 0);
        let (places_max, per_client_max) = (limits.instances_max, limits.instances_per_client);
        if let Some(gate) = gates.get(name).and_then(Weak::upgrade) {
            gate.set_limits(places_max, per_client_max);
            return gate;
        }
        let gate = InstanceLimiter::new(places_max, per_client_max);
        gates.insert(name.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

fn engine_config(settings: &SandboxSettings) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let count = settings.instances_max.max(1).saturating_add(SPARE_INSTANCES);
    pool.total_component_instances(count)
        .total_stacks(count)
        .total_memories(count)
        .total_core_instances(count.saturating_mul(PARTS_PER_COMPONENT_MAX))
        .total_tables(count.saturating_mul(2))
        .max_core_instances_per_component(PARTS_PER_COMPONENT_MAX)
        .max_memories_per_component(PARTS_PER_COMPONENT_MAX)
        .max_tables_per_component(PARTS_PER_COMPONENT_MAX)
        .max_memory_size(settings.memory_bytes_max)
        .max_unused_warm_slots(UNUSED_WARM_SLOTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        // Resets only written pages, where the kernel reports them (Linux 6.7).
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .consume_fuel(settings.meter.is_some())
        // Incomplete in this version of wasmtime, and doubles the cost of a call.
        .concurrency_support(false)
        .memory_init_cow(true)
        .cranelift_opt_level(OptLevel::Speed);
    config
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;

    #[test]
    fn standard_plugins_stay_resident() {
        let engine = Engine::new(&engine_config(&SandboxSettings { instances_max: 1, ..SandboxSettings::default() })).unwrap();
        for name in ["cleanup", "aliases"] {
            let component = Component::from_binary(&engine, waxwing_bundle::standard_component(name).unwrap()).unwrap();
            let octets = component.resources_required().unwrap().max_initial_memory_size.unwrap();
            assert!(octets <= KEEP_RESIDENT_BYTES as u64, "{name}: {octets}");
        }
    }
}
