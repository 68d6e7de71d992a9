//! Loading of the plugins at startup.

use std::sync::Arc;

use waxwing_accounts::Accounts;
use waxwing_config::Config;
use waxwing_pipeline::Binding;
use waxwing_sandbox::{HostServices, SandboxSettings};
use waxwing_types::Clock;

use crate::loader::{BuiltinLookup, PluginLoader};
use crate::versions::PluginVersions;

/// Directory of compiled plugins below `queue_directory`, so that only the first start compiles.
const CACHE_DIRECTORY: &str = "plugins";

/// Plugins loaded at startup, in configuration order.
pub struct LoadedPlugins {
    pub(crate) loader: PluginLoader,
    pub(crate) versions: Vec<PluginVersions>,
}

impl LoadedPlugins {
    /// Returns the bindings, in configuration order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.versions.iter().map(PluginVersions::binding).collect()
    }
}

/// Loads all enabled plugins. The first failure ends the startup: mail must not pass without its filters.
pub async fn load(
    config: &Arc<Config>,
    accounts: &Arc<Accounts>,
    clock: &Arc<dyn Clock>,
    builtin: BuiltinLookup,
    ports: HostServices,
) -> anyhow::Result<LoadedPlugins> {
    let settings = SandboxSettings {
        cache_directory: Some(config.general.queue_directory.join(CACHE_DIRECTORY)),
        instances_max: config.plugins.iter().filter(|plugin| plugin.enabled).map(|plugin| plugin.limits.instances).sum(),
        ..SandboxSettings::default()
    };
    load_with(settings, config, accounts, clock, builtin, ports).await
}

/// Loads all enabled plugins with explicit engine settings.
pub async fn load_with(
    settings: SandboxSettings,
    config: &Arc<Config>,
    accounts: &Arc<Accounts>,
    clock: &Arc<dyn Clock>,
    builtin: BuiltinLookup,
    ports: HostServices,
) -> anyhow::Result<LoadedPlugins> {
    let loader = PluginLoader::new(settings, config, accounts, clock, ports)?;
    let mut slots = Vec::new();
    for plugin in config.plugins.iter().filter(|plugin| plugin.enabled) {
        slots.push(PluginVersions::load(&loader, plugin, builtin).await?);
    }
    Ok(LoadedPlugins { loader, versions: slots })
}

#[cfg(test)]
mod tests;
