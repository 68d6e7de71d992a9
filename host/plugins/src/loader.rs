//! Loader: builds plugins from component files and the configuration.

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

use crate::services::http_client;
use crate::settings::{instances_max, memory_bytes_max, needs_engine, plugin_settings, server_values, to_usize};
use crate::tables::PluginTables;

/// Largest component file, in bytes.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;

/// Lookup of the built-in components by plugin name.
pub type BuiltinLookup = fn(&str) -> Option<&'static [u8]>;

/// Builds a plugin from a component file and the configuration.
pub(crate) struct PluginLoader {
    pub(crate) config: Arc<Config>,
    accounts: Arc<Accounts>,
    pub(crate) clock: Arc<dyn Clock>,
    /// WebAssembly engine; `None` without components, since milters need no engine.
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    sandbox_settings: SandboxSettings,
    server_values: Arc<BTreeMap<String, Value>>,
    services: HostServices,
    /// Tables served by plugins; usable once the pipeline is set.
    pub(crate) tables: PluginTables,
}

impl PluginLoader {
    /// Creates the loader of the first configuration, with an engine if a component is to be loaded.
    pub(crate) fn new(
        settings: SandboxSettings,
        config: &Arc<Config>,
        accounts: &Arc<Accounts>,
        clock: &Arc<dyn Clock>,
        services: HostServices,
    ) -> anyhow::Result<Self> {
        let settings = SandboxSettings { memory_bytes_max: memory_bytes_max(config), ..settings };
        Ok(Self {
            sandbox_settings: settings.clone(),
            config: Arc::clone(config),
            accounts: Arc::clone(accounts),
            clock: Arc::clone(clock),
            sandbox: match needs_engine(config) {
                true => Some(Sandbox::new(settings, Arc::clone(clock))?),
                false => None,
            },
            server_values: Arc::new(server_values(config)),
            services,
            tables: PluginTables::default(),
        })
    }

    /// Builds the loader for a new configuration. The engine is reused if large enough; otherwise a second engine runs beside the first
    /// until the last plugin of the first is dropped.
    pub(crate) fn for_config(&self, config: &Arc<Config>, accounts: &Arc<Accounts>) -> anyhow::Result<Self> {
        let settings = SandboxSettings {
            memory_bytes_max: memory_bytes_max(config),
            instances_max: instances_max(config),
            ..self.sandbox_settings.clone()
        };
        let fits = settings.memory_bytes_max <= self.sandbox_settings.memory_bytes_max
            && settings.instances_max <= self.sandbox_settings.instances_max;
        let (sandbox, settings) = match &self.sandbox {
            Some(sandbox) if fits => (Some(Arc::clone(sandbox)), self.sandbox_settings.clone()),
            _ if !needs_engine(config) => (None, settings),
            Some(_) | None => (Some(Sandbox::new(settings.clone(), Arc::clone(&self.clock))?), settings),
        };
        let mut services = self.services.clone();
        if let (None, Some(resolver)) = (&services.http_client, &services.resolver) {
            services.http_client = http_client(config, resolver)?;
        }
        Ok(Self {
            config: Arc::clone(config),
            accounts: Arc::clone(accounts),
            clock: Arc::clone(&self.clock),
            sandbox,
            sandbox_settings: settings,
            server_values: Arc::new(server_values(config)),
            services,
            tables: self.tables.clone(),
        })
    }

    /// Tells whether a plugin would be the same under the next configuration: equal settings, server values and tables.
    pub(crate) fn is_equivalent(&self, plugin: &config::PluginConfig, next: &Self, wanted: &config::PluginConfig) -> bool {
        plugin == wanted
            && self.server_values == next.server_values
            && plugin.grants.lookup.iter().all(|name| self.config.lookup_tables(name) == next.config.lookup_tables(name))
    }

    /// Compiles on a blocking thread, then applies grants and limits and runs `on-load`.
    pub(crate) async fn load(
        &self,
        plugin: &config::PluginConfig,
        source: Cow<'static, [u8]>,
    ) -> anyhow::Result<Arc<WasmPlugin>> {
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

    /// Returns the settings of a milter from the configuration of its plugin.
    pub(crate) fn milter_settings(&self, plugin: &config::PluginConfig, endpoint: Endpoint) -> MilterSettings {
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

    /// Returns the component of a built-in plugin.
    pub(crate) fn builtin_component(
        &self,
        plugin: &config::PluginConfig,
        builtin: BuiltinLookup,
    ) -> anyhow::Result<&'static [u8]> {
        let missing = || anyhow!("{}: no built-in plugin \"{}\"", self.position(plugin), plugin.name);
        builtin(&plugin.name).ok_or_else(missing)
    }

    /// Reads a component file on a blocking thread.
    pub(crate) async fn read_file(&self, plugin: &config::PluginConfig, path: &Path) -> anyhow::Result<Vec<u8>> {
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
