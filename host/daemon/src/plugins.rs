//! Plugins of the configuration: loads and binds them in configuration order, reloads files, keeps versions.

mod file_watcher;
mod manager;
mod reload;
mod settings;
mod versions;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde_json::Value;
use waxwing_accounts::Accounts;
use waxwing_config::{self as config, Config};
use waxwing_milter::MilterSettings;
use waxwing_sandbox::{HostServices, PluginLoadError, Sandbox, SandboxSettings, WasmPlugin};
use waxwing_types::{Clock, Endpoint};

pub(crate) use manager::PluginManager;
use settings::{plugin_settings, to_usize};
use versions::PluginVersions;

use crate::plugin_tables::PluginTables;

/// Largest component file, in bytes.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Directory of compiled plugins below `queue_directory`, so that only the first start compiles.
const CACHE_DIRECTORY: &str = "plugins";

/// Lookup of the built-in components by plugin name.
pub(crate) type BuiltinLookup = fn(&str) -> Option<&'static [u8]>;

/// Builds a plugin from a component file and the configuration.
pub(crate) struct PluginLoader {
    config: Arc<Config>,
    accounts: Arc<Accounts>,
    clock: Arc<dyn Clock>,
    /// WebAssembly engine; `None` without components, since milters need no engine.
    sandbox: Option<Arc<Sandbox>>,
    sandbox_settings: SandboxSettings,
    server_values: Arc<BTreeMap<String, Value>>,
    services: HostServices,
    /// Tables served by plugins; usable once the pipeline is set.
    tables: PluginTables,
}

/// Plugins loaded at startup, in configuration order.
pub(crate) struct LoadedPlugins {
    loader: PluginLoader,
    versions: Vec<PluginVersions>,
}

/// Loads all enabled plugins. The first failure ends the startup: mail must not pass without its filters.
pub(crate) async fn load(
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
pub(crate) async fn load_with(
    settings: SandboxSettings,
    config: &Arc<Config>,
    accounts: &Arc<Accounts>,
    clock: &Arc<dyn Clock>,
    builtin: BuiltinLookup,
    ports: HostServices,
) -> anyhow::Result<LoadedPlugins> {
    let wanted: Vec<&config::PluginConfig> = config.plugins.iter().filter(|plugin| plugin.enabled).collect();
    let memory_bytes_max = wanted.iter().map(|plugin| to_usize(plugin.limits.memory)).max().unwrap_or_default();
    let settings = SandboxSettings { memory_bytes_max, ..settings };
    let loader = PluginLoader {
        sandbox_settings: settings.clone(),
        config: Arc::clone(config),
        accounts: Arc::clone(accounts),
        clock: Arc::clone(clock),
        sandbox: match wanted.iter().all(|plugin| plugin.milter.is_some()) {
            true => None,
            false => Some(Sandbox::new(settings.clone(), Arc::clone(clock))?),
        },
        server_values: Arc::new(settings::server_values(config)),
        services: ports,
        tables: PluginTables::default(),
    };
    let mut slots = Vec::with_capacity(wanted.len());
    for plugin in wanted {
        slots.push(PluginVersions::load(&loader, plugin, builtin).await?);
    }
    Ok(LoadedPlugins { loader, versions: slots })
}

impl PluginLoader {
    /// Builds the loader for a new configuration. The engine is reused if large enough; otherwise a second engine runs beside the first
    /// until the last plugin of the first is dropped.
    fn for_config(&self, config: &Arc<Config>, accounts: &Arc<Accounts>) -> anyhow::Result<Self> {
        let wanted = || config.plugins.iter().filter(|plugin| plugin.enabled);
        let settings = SandboxSettings {
            memory_bytes_max: wanted().map(|plugin| to_usize(plugin.limits.memory)).max().unwrap_or_default(),
            instances_max: wanted().map(|plugin| plugin.limits.instances).sum(),
            ..self.sandbox_settings.clone()
        };
        let fits = settings.memory_bytes_max <= self.sandbox_settings.memory_bytes_max
            && settings.instances_max <= self.sandbox_settings.instances_max;
        let (sandbox, settings) = match &self.sandbox {
            Some(sandbox) if fits => (Some(Arc::clone(sandbox)), self.sandbox_settings.clone()),
            _ if wanted().all(|plugin| plugin.milter.is_some()) => (None, settings),
            Some(_) | None => (Some(Sandbox::new(settings.clone(), Arc::clone(&self.clock))?), settings),
        };
        let mut ports = self.services.clone();
        if ports.http_client.is_none() && wanted().any(|plugin| !plugin.grants.http.is_empty()) {
            let resolver = ports.resolver.as_ref().context("there is no resolver")?;
            ports.http_client = Some(Arc::new(waxwing_web::WebClient::new(resolver).context("[plugins.NAME.grants] http")?));
        }
        Ok(Self {
            config: Arc::clone(config),
            accounts: Arc::clone(accounts),
            clock: Arc::clone(&self.clock),
            sandbox,
            sandbox_settings: settings,
            server_values: Arc::new(settings::server_values(config)),
            services: ports,
            tables: self.tables.clone(),
        })
    }

    /// Tells whether a plugin would be the same under the next configuration: equal settings, server values and tables.
    fn is_equivalent(&self, plugin: &config::PluginConfig, next: &Self, wanted: &config::PluginConfig) -> bool {
        let tables = |loader: &Self, name: &str| format!("{:?}", loader.config.lookup_tables(name));
        format!("{plugin:?}") == format!("{wanted:?}")
            && self.server_values == next.server_values
            && plugin.grants.lookup.iter().all(|name| tables(self, name) == tables(next, name))
    }

    /// Compiles on a blocking thread, then applies grants and limits and runs `on-load`.
    async fn load(&self, plugin: &config::PluginConfig, source: Cow<'static, [u8]>) -> anyhow::Result<Arc<WasmPlugin>> {
        let sandbox = self.sandbox.as_ref().context("the server was started without plugins")?;
        let mut settings = plugin_settings(plugin, &self.accounts, &self.tables, &self.server_values)?;
        settings.services = self.services.clone();
        let (compiler, name) = (Arc::clone(sandbox), plugin.name.clone());
        let compiled = tokio::task::spawn_blocking(move || compiler.compile(&name, &source)).await?;
        let loaded = match compiled {
            Ok(compiled) => sandbox.load_compiled(compiled, settings).await,
            Err(error) => Err(error),
        };
        loaded.map_err(|error| self.with_config_position(plugin, error))
    }

    fn milter_settings(&self, plugin: &config::PluginConfig, endpoint: Endpoint) -> MilterSettings {
        MilterSettings {
            origin: self.config.general.myorigin.clone(),
            connect_timeout: plugin.milter_connect_timeout,
            command_timeout: plugin.milter_command_timeout,
            content_timeout: plugin.milter_content_timeout,
            body_bytes_max: to_usize(self.config.smtpd.message_size_limit),
            ..MilterSettings::new(endpoint, &self.config.general.myhostname)
        }
    }

    fn position(&self, plugin: &config::PluginConfig) -> config::Position {
        self.config.position(&format!("plugins.{}", plugin.name))
    }

    /// Adds the position of the configuration key at fault to a load error.
    fn with_config_position(&self, plugin: &config::PluginConfig, error: PluginLoadError) -> anyhow::Error {
        let path = if let PluginLoadError::UnreadKeys { keys, .. } = &error {
            format!("plugins.{}.config.{}", plugin.name, keys.first().map_or("", String::as_str))
        } else if matches!(error, PluginLoadError::NotGranted { .. }) {
            format!("plugins.{}.grants", plugin.name)
        } else {
            format!("plugins.{}", plugin.name)
        };
        anyhow::Error::from(error).context(self.config.position(&path).to_string())
    }

    fn builtin_component(&self, plugin: &config::PluginConfig, builtin: BuiltinLookup) -> anyhow::Result<&'static [u8]> {
        let missing = || anyhow!("{}: no built-in plugin \"{}\"", self.position(plugin), plugin.name);
        builtin(&plugin.name).ok_or_else(missing)
    }

    /// Reads a component file on a blocking thread.
    async fn read_file(&self, plugin: &config::PluginConfig, path: &Path) -> anyhow::Result<Vec<u8>> {
        let from = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read_component(&from)).await?;
        read.with_context(|| format!("{}: plugin \"{}\"", self.position(plugin), plugin.name))
    }
}

fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let of = || path.display().to_string();
    let size = std::fs::metadata(path).with_context(of)?.len();
    anyhow::ensure!(size <= COMPONENT_BYTES_MAX, "{} is larger than 64 MiB", path.display());
    std::fs::read(path).with_context(of)
}

/// Joins an error and its causes into a line, without causes already contained in an earlier text.
pub(crate) fn error_chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests;
