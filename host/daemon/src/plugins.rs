//! Loads the configured plugins and binds them, in the order of the configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use waxwing_accounts::Accounts;
use waxwing_config::{self as config, Config, PluginSource};
use waxwing_pipeline::{Binding, BindingSettings, BreakerSettings, Mode, OnFault, When};
use waxwing_sandbox::{Grants, InstanceMode, Limits, LoadError, MessageGrant, PluginSettings, Ports, Sandbox, SandboxSettings};
use waxwing_types::Clock;
use waxwing_web::Grant;

/// Octets of a plugin's file.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Below `queue_directory`: compiled plugins, so that only the first start compiles.
const CACHE_DIRECTORY: &str = "plugins";

/// The components that are part of the program, by name.
pub(crate) type Builtin = fn(&str) -> Option<&'static [u8]>;

/// Loads all enabled plugins. The first that can't be loaded ends the start: mail must not pass without its filters.
pub(crate) async fn load(
    config: &Config,
    accounts: &Accounts,
    clock: &Arc<dyn Clock>,
    builtin: Builtin,
    ports: &Ports,
) -> anyhow::Result<Vec<Arc<Binding>>> {
    let wanted: Vec<&config::Plugin> = config.plugins.iter().filter(|plugin| plugin.enabled).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let memory_bytes_max = wanted.iter().map(|plugin| bytes(plugin.limits.memory)).max().unwrap_or_default();
    let settings = SandboxSettings {
        cache_directory: Some(config.queue_directory.join(CACHE_DIRECTORY)),
        memory_bytes_max,
        ..SandboxSettings::default()
    };
    let sandbox = Sandbox::new(settings, Arc::clone(clock))?;
    let server = Arc::new(server_values(config));
    let mut bindings = Vec::with_capacity(wanted.len());
    for plugin in wanted {
        let began = clock.monotonic();
        let source = component(config, plugin, builtin)?;
        let mut settings = settings_of(plugin, accounts, &server)?;
        settings.ports = ports.clone();
        let loaded = sandbox.load(&source, settings).await.map_err(|error| at_its_place(config, plugin, error))?;
        let micros = clock.monotonic().since(began).as_micros();
        let binding = Binding::new(&plugin.name, loaded, binding_settings(plugin));
        let hooks: Vec<&str> = binding.plugin.exports().iter().map(|hook| hook.as_str()).collect();
        tracing::info!(name = plugin.name, hooks = %hooks.join(","), micros, "plugin loaded");
        bindings.push(binding);
    }
    Ok(bindings)
}

fn binding_settings(plugin: &config::Plugin) -> BindingSettings {
    BindingSettings {
        when: when(&plugin.when),
        mode: mode(plugin.mode),
        on_fault: on_fault(plugin.on_fault),
        breaker: BreakerSettings { faults: plugin.breaker_faults, time: plugin.breaker_time },
    }
}

fn component(config: &Config, plugin: &config::Plugin, builtin: Builtin) -> anyhow::Result<Cow<'static, [u8]>> {
    match plugin.source() {
        PluginSource::Builtin => match builtin(&plugin.name) {
            Some(source) => Ok(Cow::Borrowed(source)),
            None => Err(anyhow!("{}: this program has no plugin \"{}\" built in", position(config, plugin), plugin.name)),
        },
        PluginSource::File(path) => {
            let source = read(&path).with_context(|| format!("{}: plugin \"{}\"", position(config, plugin), plugin.name))?;
            Ok(Cow::Owned(source))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let of = || path.display().to_string();
    let size = std::fs::metadata(path).with_context(of)?.len();
    anyhow::ensure!(size <= COMPONENT_BYTES_MAX, "{} is larger than 64 MiB", path.display());
    std::fs::read(path).with_context(of)
}

fn position(config: &Config, plugin: &config::Plugin) -> config::Position {
    config.position(&format!("plugins.{}", plugin.name))
}

/// With the place in the configuration that is to be changed.
fn at_its_place(config: &Config, plugin: &config::Plugin, error: LoadError) -> anyhow::Error {
    let path = if let LoadError::UnreadKeys { keys, .. } = &error {
        format!("plugins.{}.config.{}", plugin.name, keys.first().map_or("", String::as_str))
    } else if matches!(error, LoadError::NotGranted { .. }) {
        format!("plugins.{}.grants", plugin.name)
    } else {
        format!("plugins.{}", plugin.name)
    };
    anyhow::Error::from(error).context(config.position(&path).to_string())
}

/// What every plugin may ask of the server's own settings.
fn server_values(config: &Config) -> BTreeMap<String, Value> {
    let values = [
        ("myhostname", json!(config.myhostname)),
        ("mydomain", json!(config.mydomain)),
        ("myorigin", json!(config.myorigin)),
        ("mydestination", json!(config.mydestination)),
        ("virtual_alias_domains", json!(config.virtual_alias_domains)),
        ("virtual_mailbox_domains", json!(config.virtual_mailbox_domains)),
        ("relay_domains", json!(config.relay_domains)),
        ("recipient_delimiter", json!(config.recipient_delimiter)),
        ("header_size_limit", json!(config.header_size_limit)),
        ("message_size_limit", json!(config.message_size_limit)),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn settings_of(
    plugin: &config::Plugin,
    accounts: &Accounts,
    server: &Arc<BTreeMap<String, Value>>,
) -> anyhow::Result<PluginSettings> {
    let mut settings = PluginSettings::new(&plugin.name);
    settings.grants = Grants {
        message: match plugin.grants.message {
            config::MessageGrant::None => MessageGrant::None,
            config::MessageGrant::Headers => MessageGrant::Headers,
            config::MessageGrant::Full => MessageGrant::Full,
        },
        edit: plugin.grants.edit,
        lookup: plugin.grants.lookup.clone(),
        kv: plugin.grants.kv,
        dns: plugin.grants.dns.clone(),
        http: plugin.grants.http.clone(),
        submit: plugin.grants.submit,
        clock: plugin.grants.clock,
        random: plugin.grants.random,
        ..Grants::default()
    };
    settings.limits = Limits {
        wall: plugin.limits.time,
        cpu: plugin.limits.cpu,
        memory_bytes_max: bytes(plugin.limits.memory),
        log_lines_max: plugin.limits.log_lines as usize,
        edits_max: plugin.limits.edits as usize,
        ..Limits::default()
    };
    settings.instance = match plugin.instance {
        config::Instance::Fresh => InstanceMode::Fresh,
        config::Instance::Reuse => InstanceMode::Reuse { recycle_calls: plugin.recycle_calls },
    };
    for line in &plugin.grants.http {
        Grant::parse(line).with_context(|| format!("plugin \"{}\": grant http", plugin.name))?;
    }
    settings.config = plugin.config.clone().into_iter().collect();
    settings.server = Arc::clone(server);
    for name in &plugin.grants.lookup {
        let table = accounts.table(name).with_context(|| format!("plugin \"{}\": there is no table \"{name}\"", plugin.name))?;
        settings.tables.insert(name.clone(), table);
    }
    Ok(settings)
}

fn bytes(octets: u64) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

fn when(when: &config::When) -> When {
    When { listeners: when.listener.clone(), domains: when.domain.clone(), via: when.via.clone(), size_max: when.size_max }
}

fn mode(mode: config::Mode) -> Mode {
    match mode {
        config::Mode::Enforce => Mode::Enforce,
        config::Mode::Shadow => Mode::Shadow,
        config::Mode::Off => Mode::Off,
    }
}

fn on_fault(on_fault: config::OnFault) -> OnFault {
    match on_fault {
        config::OnFault::Defer => OnFault::Defer,
        config::OnFault::Skip => OnFault::Skip,
        config::OnFault::Reject => OnFault::Reject,
        config::OnFault::Hold => OnFault::Hold,
    }
}

#[cfg(test)]
mod tests {
    use waxwing_config::Facts;
    use waxwing_types::ManualClock;

    use super::*;

    async fn load_text(text: &str) -> anyhow::Result<Vec<Arc<Binding>>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("w.toml");
        let facts = Facts { hostname: "h.example".into(), root: false, exists: |_| true };
        let text = format!("queue_directory = \"q\"\nalias_maps = {{ a = \"b\" }}\n{text}");
        let config = Config::parse(&file, &text, &facts)?;
        std::fs::create_dir(&config.queue_directory)?;
        std::fs::write(dir.path().join("empty.wasm"), "")?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let accounts = Accounts::open(&config, &clock)?;
        load(&config, &accounts, &clock, |_| None, &Ports::default()).await
    }

    #[tokio::test]
    async fn without_plugins_no_engine_is_needed() {
        let text = "[plugins.cleanup]\nenabled = false\n[plugins.aliases]\nenabled = false\n";
        assert!(load_text(text).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_plugin_that_cannot_be_loaded_is_named_with_its_place() {
        let off = "[plugins.cleanup]\nenabled = false\n[plugins.aliases]\nenabled = false\n";
        for (text, words) in [
            ("".to_owned(), "no plugin \"cleanup\" built in"),
            (format!("{off}[plugins.x]\nfile = \"gone.wasm\"\n"), "gone.wasm"),
            (format!("{off}[plugins.x]\nfile = \"empty.wasm\"\n"), "w.toml:7:"),
        ] {
            let Err(error) = load_text(&text).await else { panic!("{text} was loaded") };
            let error = format!("{error:#}");
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
    }
}
