//! Translation of a plugin's configuration to the settings of pipeline and sandbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use waxwing_accounts::Accounts;
use waxwing_config::{self as config, Config};
use waxwing_pipeline::{BindingConditions, BindingMode, BindingSettings, BreakerSettings, FaultPolicy};
use waxwing_sandbox::{InstanceMode, MessageAccess, PluginGrants, PluginLimits, PluginSettings};
use waxwing_web::UrlGrant;

use crate::tables::PluginTables;

/// Plugins to be loaded, in configuration order.
pub(crate) fn enabled_plugins(config: &Config) -> impl Iterator<Item = &config::PluginConfig> {
    config.plugins.iter().filter(|plugin| plugin.enabled)
}

/// Instances of all plugins together.
pub(crate) fn instances_max(config: &Config) -> u32 {
    enabled_plugins(config).map(|plugin| plugin.limits.instances).sum()
}

/// Largest memory of an instance, in bytes.
pub(crate) fn memory_bytes_max(config: &Config) -> usize {
    enabled_plugins(config).map(|plugin| to_usize(plugin.limits.memory)).max().unwrap_or_default()
}

/// Whether a component is to be loaded; milters need no engine.
pub(crate) fn needs_engine(config: &Config) -> bool {
    enabled_plugins(config).any(|plugin| plugin.milter.is_none())
}

pub(crate) fn binding_settings(plugin: &config::PluginConfig) -> BindingSettings {
    BindingSettings {
        when: when(&plugin.when),
        mode: mode(plugin.mode),
        on_fault: on_fault(plugin.on_fault),
        breaker: BreakerSettings { faults: plugin.breaker_faults, time: plugin.breaker_time },
    }
}

/// Returns the server's configuration values readable by every plugin.
pub(crate) fn server_values(config: &Config) -> BTreeMap<String, Value> {
    let values = [
        ("myhostname", json!(config.general.myhostname)),
        ("mydomain", json!(config.general.mydomain)),
        ("myorigin", json!(config.general.myorigin)),
        ("mydestination", json!(config.domains.mydestination)),
        ("virtual_alias_domains", json!(config.domains.virtual_alias_domains)),
        ("virtual_mailbox_domains", json!(config.domains.virtual_mailbox_domains)),
        ("relay_domains", json!(config.domains.relay_domains)),
        ("recipient_delimiter", json!(config.general.recipient_delimiter)),
        ("header_size_limit", json!(config.smtpd.header_size_limit)),
        ("message_size_limit", json!(config.smtpd.message_size_limit)),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(crate) fn plugin_settings(
    plugin: &config::PluginConfig,
    accounts: &Accounts,
    tables: &PluginTables,
    server: &Arc<BTreeMap<String, Value>>,
) -> anyhow::Result<PluginSettings> {
    let mut settings = PluginSettings::new(&plugin.name);
    settings.grants = PluginGrants {
        message: match plugin.grants.message {
            config::MessageGrantConfig::None => MessageAccess::None,
            config::MessageGrantConfig::Headers => MessageAccess::Headers,
            config::MessageGrantConfig::Full => MessageAccess::Full,
        },
        edit: plugin.grants.edit,
        lookup: plugin.grants.lookup.clone(),
        kv: plugin.grants.kv,
        dns: plugin.grants.dns.clone(),
        http: plugin.grants.http.clone(),
        submit: plugin.grants.submit,
        credentials: plugin.grants.credentials,
        clock: plugin.grants.clock,
        random: plugin.grants.random,
    };
    settings.limits = PluginLimits {
        wall: plugin.limits.time,
        cpu: plugin.limits.cpu,
        memory_bytes_max: to_usize(plugin.limits.memory),
        instances_max: plugin.limits.instances,
        instances_per_client: plugin.limits.instances_per_client,
        instance_wait: plugin.limits.instance_wait,
        log_lines_max: plugin.limits.log_lines as usize,
        edits_max: plugin.limits.edits as usize,
        ..PluginLimits::default()
    };
    settings.instance_mode = match plugin.instance {
        config::InstanceConfig::Fresh => InstanceMode::Fresh,
        config::InstanceConfig::Reuse => InstanceMode::Reuse { recycle_calls: plugin.recycle_calls },
    };
    for line in &plugin.grants.http {
        UrlGrant::parse(line).with_context(|| format!("plugin \"{}\": grant http", plugin.name))?;
    }
    settings.config = plugin.config.clone().into_iter().collect();
    settings.server_values = Arc::clone(server);
    for name in &plugin.grants.lookup {
        let table = tables.table(name).or_else(|| accounts.table(name));
        let table = table.with_context(|| format!("plugin \"{}\": there is no table \"{name}\"", plugin.name))?;
        settings.tables.insert(name.clone(), table);
    }
    Ok(settings)
}

pub(crate) fn to_usize(octets: u64) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

fn when(when: &config::ConditionsConfig) -> BindingConditions {
    BindingConditions {
        listeners: when.listener.clone(),
        domains: when.domain.clone(),
        sources: when.via.clone(),
        size_max: when.size_max,
        bare_addresses: when.addresses == Some(config::RewriteScope::WithoutDomain),
    }
}

fn mode(mode: config::ModeConfig) -> BindingMode {
    match mode {
        config::ModeConfig::Enforce => BindingMode::Enforce,
        config::ModeConfig::Shadow => BindingMode::Shadow,
        config::ModeConfig::Off => BindingMode::Off,
    }
}

fn on_fault(on_fault: config::OnFaultConfig) -> FaultPolicy {
    match on_fault {
        config::OnFaultConfig::Defer => FaultPolicy::Defer,
        config::OnFaultConfig::Skip => FaultPolicy::Skip,
        config::OnFaultConfig::Reject => FaultPolicy::Reject,
        config::OnFaultConfig::Hold => FaultPolicy::Hold,
    }
}
