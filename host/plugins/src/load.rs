//! Loading of the plugins at startup.

use std::sync::Arc;

use waxwing_accounts::Accounts;
use waxwing_config::Config;
use waxwing_pipeline::Binding;
use waxwing_sandbox::{HostServices, SandboxSettings};
use waxwing_types::Clock;

use crate::loader::{BuiltinLookup, PluginLoader};
use crate::settings::{enabled_plugins, instances_max};
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

/// Engine settings of a server: the cache below `queue_directory`, and as many instances as the plugins may have in all.
#[must_use]
pub fn sandbox_settings(config: &Config) -> SandboxSettings {
    let cache_directory = Some(config.general.queue_directory.join(CACHE_DIRECTORY));
    SandboxSettings { cache_directory, instances_max: instances_max(config), ..SandboxSettings::default() }
}

/// Loads all enabled plugins. The first failure ends the startup: mail must not pass without its filters.
pub async fn load(
    settings: SandboxSettings,
    config: &Arc<Config>,
    accounts: &Arc<Accounts>,
    clock: &Arc<dyn Clock>,
    builtin: BuiltinLookup,
    services: HostServices,
) -> anyhow::Result<LoadedPlugins> {
    let loader = PluginLoader::new(settings, config, accounts, clock, services)?;
    let mut versions = Vec::new();
    for plugin in enabled_plugins(config) {
        versions.push(PluginVersions::load(&loader, plugin, builtin).await?);
    }
    Ok(LoadedPlugins { loader, versions })
}

#[cfg(test)]
mod tests;
