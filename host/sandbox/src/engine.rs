//! The engine: one for the process, with one pool of instances for all plugins.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use waxwing_types::Clock;

use crate::cache::Cache;
use crate::gate::Gate;
use crate::lane::SlowLane;
use crate::meter::Meter;
use crate::ticker::Ticker;
use crate::{Limits, LoadError};

/// Octets of each linear memory that stay in RAM when an instance ends: set back by hand, which is cheaper than page faults. A plugin made by
/// our SDK has its stack, its data and the first piece of its heap in less.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// Slots of the pool that may stay warm for a plugin while they are not in use.
const UNUSED_WARM_SLOTS_MAX: u32 = 16;
/// Core modules, memories and tables that one component may have: one from Python is made of 38. Modules only count, and cost the pool
/// nothing beforehand.
const PARTS_PER_COMPONENT_MAX: u32 = 64;

/// Instances beyond the limit: for plugins that are loaded while all others are at work, and for calls that were cut off and are about to
/// end when their place is taken.
const SPARE_INSTANCES: u32 = 64;

/// Bounds of all plugins together.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Where compiled plugins are kept; none compiles them at each start.
    pub cache_directory: Option<PathBuf>,
    /// Instances of all plugins at a time: the sum of their limits. With less, transactions that hold an instance of one plugin and wait
    /// for one of another could stand in each other's way. Each reserves 4 GiB of address space (not of memory), which spares every access its
    /// bounds check.
    pub instances_max: u32,
    /// Octets of linear memory that any plugin's limit may allow.
    pub memory_bytes_max: usize,
    /// Threads for guests that compute for longer than a tick.
    pub slow_threads: usize,
    /// Counts what calls cost, fuel among it, which makes guests slower; none in a server.
    pub meter: Option<Arc<Meter>>,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self { cache_directory: None, instances_max: 500, memory_bytes_max: 1 << 30, slow_threads: 1, meter: None }
    }
}

/// Where plugins are loaded and run.
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) lane: Arc<SlowLane>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Option<Cache>,
    pub(crate) settings: SandboxSettings,
    /// Of each plugin by name, as long as some version of it is loaded.
    pub(crate) gates: Mutex<HashMap<String, Weak<Gate>>>,
}

impl Sandbox {
    /// Starts the engine and its ticker. The cache directory is made if it is not there.
    pub fn new(settings: SandboxSettings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, LoadError> {
        let engine = Engine::new(&config(&settings)).map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        let ticker = Ticker::start(&engine)?;
        let lane = Arc::new(SlowLane::start(settings.slow_threads)?);
        let cache = settings.cache_directory.clone().map(|path| Cache::open(path, &engine)).transpose()?;
        Ok(Arc::new(Self { engine, ticker, lane, clock, cache, settings, gates: Mutex::default() }))
    }
}

impl Sandbox {
    /// The gate that all versions of a plugin share; the version that is loaded last has the word on its limits.
    pub(crate) fn gate_of(&self, name: &str, limits: &Limits) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        gates.retain(|_, gate| gate.strong_count() > 0);
        let (places_max, per_client_max) = (limits.instances_max, limits.instances_per_client);
        if let Some(gate) = gates.get(name).and_then(Weak::upgrade) {
            gate.set_limits(places_max, per_client_max);
            return gate;
        }
        let gate = Gate::new(places_max, per_client_max);
        gates.insert(name.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

fn config(settings: &SandboxSettings) -> Config {
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
        // Only the pages that were written, where the kernel can tell (Linux 6.7).
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .consume_fuel(settings.meter.is_some())
        // Unfinished in this version of wasmtime, and it doubles the cost of a call.
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
        let engine = Engine::new(&config(&SandboxSettings { instances_max: 1, ..SandboxSettings::default() })).unwrap();
        for name in ["cleanup", "aliases"] {
            let component = Component::from_binary(&engine, waxwing_bundle::standard(name).unwrap()).unwrap();
            let octets = component.resources_required().unwrap().max_initial_memory_size.unwrap();
            assert!(octets <= KEEP_RESIDENT_BYTES as u64, "{name}: {octets}");
        }
    }
}
