//! The table `[plugins]`: sources, conditions, grants and limits of plugins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use toml::de::{DeTable, DeValue};
use waxwing_types::{Endpoint, Source};

use crate::reader::{ConfigReader, TableReader, ValueNode, join_path};
use crate::section::{Keys, section};
use crate::value::{
    BoolValue, ByteSize, DomainValue, DurationValue, EnumValue, IntegerValue, ListOf, MilterEndpoint, OptionalValue, PathValue,
    StringEnum, TableValue, TextValue, ValueType, default_section,
};

/// Names of the plugins built into the server.
pub const BUILTIN_PLUGINS: &[&str] = &["cleanup", "aliases"];

section! {
    /// A plugin and its binding.
    pub struct PluginConfig (table, reader) {
        /// Component file of the plugin; not for built-in plugins.
        file: Option<PathBuf> [OptionalValue<PathValue>] = None;
        /// Address of a milter to call instead of a component.
        milter: Option<Endpoint> [OptionalValue<MilterEndpoint>] = None;
        /// Timeout for connecting to a milter, and for the negotiation.
        milter_connect_timeout: Duration [DurationValue<1>] = Duration::from_secs(30);
        /// Timeout for the reply of a milter to a command, a header field or a piece of the body.
        milter_command_timeout: Duration [DurationValue<1>] = Duration::from_secs(30);
        /// Timeout for the reply of a milter to the end of the message, and between two progress packets.
        milter_content_timeout: Duration [DurationValue<1>] = Duration::from_secs(300);
        /// Use the built-in plugin of the same name.
        builtin: bool [BoolValue] = BUILTIN_PLUGINS.contains(&table.name()), derived "true for cleanup and aliases";
        /// Load and call the plugin.
        enabled: bool [BoolValue] = true;
        /// Position of the plugin among all plugins; plugins of equal order are sorted by name.
        order: i32 [IntegerValue<i32, -1_000_000, 1_000_000>] = default_order(table), derived "100; cleanup 10, aliases 20";
        /// Create a fresh instance for each transaction, or reuse instances.
        instance: InstanceConfig [EnumValue<InstanceConfig>] = if builtin { InstanceConfig::Reuse } else { InstanceConfig::Fresh },
            derived "\"reuse\" for built-in plugins, else \"fresh\"";
        /// Number of calls after which a reused instance is replaced.
        recycle_calls: u32 [IntegerValue<u32, 1, 50_000>] = 10_000;
        /// Apply the results of the plugin, only record the results, or do not call the plugin.
        mode: ModeConfig [EnumValue<ModeConfig>] = ModeConfig::Enforce;
        /// Consequence for the message when a call of the plugin fails.
        on_fault: OnFaultConfig [EnumValue<OnFaultConfig>] = OnFaultConfig::Defer;
        /// Number of consecutive faults at a hook after which the hook is suspended, with the consequence of
        /// on_fault; 0: never suspended.
        breaker_faults: u32 [IntegerValue<u32, 0, 1_000_000>] = 10;
        /// Time for which a hook is suspended, before a single call tests the plugin again.
        breaker_time: Duration [DurationValue<1>] = Duration::from_secs(30);
        /// Another version of the plugin that handles a part of the mail before general use.
        canary: Option<CanaryConfig> [OptionalValue<TableValue<CanaryConfig>>] = None;
        /// Name of the transport implemented by the on-deliver hook of the plugin.
        transport: Option<String> [OptionalValue<TextValue>] = None;
        /// Conditions under which the plugin is called; an empty list is no condition.
        when: ConditionsConfig [TableValue<ConditionsConfig>] = default_section(&subsection_path(table, "when"), reader);
        /// Limits of each call.
        limits: LimitsConfig [TableValue<LimitsConfig>] = default_section(&subsection_path(table, "limits"), reader);
        /// Permissions of the plugin.
        grants: GrantsConfig [TableValue<GrantsConfig>] = builtin_grants(table, reader), derived "what a built-in plugin needs, else nothing";
        /// Settings of the plugin, passed on unchanged; a key that the plugin never reads is an error.
        config: PluginOptions [AnyTable] = PluginOptions::default();
    }
    extra {
        /// Name of the plugin, from `[plugins.NAME]`.
        pub name: String = table.name().to_owned();
    }
}

/// Settings in the `config` table of a plugin, passed to the plugin unchanged.
pub type PluginOptions = serde_json::Map<String, serde_json::Value>;

/// Origin of the code of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// Code built into the server.
    Builtin,
    /// Component file at this path.
    File(PathBuf),
    /// Address of a milter, which has no component.
    Milter(Endpoint),
}

impl PluginConfig {
    /// Returns the origin of the plugin's code.
    #[must_use]
    pub fn source(&self) -> PluginSource {
        match (&self.milter, &self.file) {
            (Some(milter), _) => PluginSource::Milter(milter.clone()),
            (None, Some(file)) => PluginSource::File(file.clone()),
            (None, None) => PluginSource::Builtin,
        }
    }
}

fn default_order(table: &TableReader<'_>) -> i32 {
    match table.name() {
        "cleanup" => 10,
        "aliases" => 20,
        _ => 100,
    }
}

fn subsection_path(table: &TableReader<'_>, key: &str) -> String {
    join_path(&join_path("plugins", table.name()), key)
}

/// Returns whether the limits belong to a built-in plugin. Built-in plugins are trusted to terminate, so that high
/// load on the machine must not cause a fault.
fn is_builtin_plugin(limits: &TableReader<'_>) -> bool {
    BUILTIN_PLUGINS.contains(&limits.parent())
}

fn builtin_grants(table: &TableReader<'_>, reader: &mut ConfigReader<'_>) -> GrantsConfig {
    let mut grants: GrantsConfig = default_section(&subsection_path(table, "grants"), reader);
    match table.name() {
        "cleanup" => {
            grants.message = MessageGrantConfig::Headers;
            grants.edit = true;
        }
        "aliases" => grants.lookup = vec!["alias_maps".to_owned(), "virtual_alias_maps".to_owned()],
        _ => {}
    }
    grants
}

/// Lifetime of plugin instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceConfig {
    /// A new instance for each transaction.
    Fresh,
    /// An instance shared by many calls.
    Reuse,
}

impl StringEnum for InstanceConfig {
    const FORM: &'static str = "\"fresh\" or \"reuse\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[("fresh", Self::Fresh), ("reuse", Self::Reuse)];
}

/// Effect of a plugin's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeConfig {
    /// Verdicts and edits take effect.
    Enforce,
    /// Verdicts and edits are only recorded.
    Shadow,
    /// The plugin is loaded but not called.
    Off,
}

impl StringEnum for ModeConfig {
    const FORM: &'static str = "\"enforce\", \"shadow\" or \"off\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

/// Consequence of a plugin fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFaultConfig {
    /// The client gets 451 and retries; a delivery attempt is deferred.
    Defer,
    /// The plugin is treated as absent.
    Skip,
    /// The message is rejected with 554.
    Reject,
    /// The message is accepted into the hold queue.
    Hold,
}

impl StringEnum for OnFaultConfig {
    const FORM: &'static str = "\"defer\", \"skip\", \"reject\" or \"hold\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("defer", Self::Defer), ("skip", Self::Skip), ("reject", Self::Reject), ("hold", Self::Hold)];
}

impl StringEnum for Source {
    const FORM: &'static str = "\"smtp\", \"submission\", \"pickup\", \"forward\" or \"dsn\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[
        ("smtp", Self::Smtp),
        ("submission", Self::Submission),
        ("pickup", Self::Pickup),
        ("forward", Self::Forward),
        ("dsn", Self::Dsn),
    ];
}

section! {
    /// A plugin version that handles a part of the mail.
    pub struct CanaryConfig (table, reader) {
        /// Component file of the canary; required.
        file: PathBuf [PathValue] = PathBuf::new();
        /// Percentage of transactions handled by the canary; a transaction uses the same version from the first hook
        /// to the last.
        percent: u32 [IntegerValue<u32, 0, 100>] = 10;
    }
}

section! {
    /// Conditions under which a plugin is called; all given conditions must hold.
    pub struct ConditionsConfig (table, reader) {
        /// Names of the listeners that received the message.
        listener: Vec<String> [ListOf<TextValue>] = Vec::new();
        /// Domains of a recipient of the message.
        domain: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Sources of the message.
        via: Vec<Source> [ListOf<EnumValue<Source>>] = Vec::new();
        /// Maximum size of a message for which the plugin is called; none: no limit.
        size_max: Option<u64> [OptionalValue<ByteSize<0>>] = None;
        /// Addresses passed to on-rewrite-address.
        addresses: Option<RewriteScope> [OptionalValue<EnumValue<RewriteScope>>] = None,
            derived "\"bare\" for the built-in cleanup unless it masquerades, else \"any\"";
    }
}

/// Selection of addresses passed to on-rewrite-address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteScope {
    /// All addresses of a message.
    All,
    /// Addresses without a domain.
    WithoutDomain,
}

impl StringEnum for RewriteScope {
    const FORM: &'static str = "\"any\" or \"bare\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[("any", Self::All), ("bare", Self::WithoutDomain)];
}

section! {
    /// Limits of each call.
    pub struct LimitsConfig (table, reader) {
        /// Time limit of a call, including waiting time.
        time: Duration [DurationValue<1>] = if is_builtin_plugin(table) { Duration::from_secs(5) } else { Duration::from_millis(100) },
            derived "100ms; 5s for cleanup and aliases";
        /// CPU time limit of a call.
        cpu: Duration [DurationValue<1>] = if is_builtin_plugin(table) { Duration::from_secs(1) } else { Duration::from_millis(50) },
            derived "50ms; 1s for cleanup and aliases";
        /// Maximum number of simultaneous instances, over all versions; further calls wait.
        instances: u32 [IntegerValue<u32, 1, 10_000>] = 200;
        /// Maximum number of simultaneous fresh instances for the same client (an IPv4 address, an IPv6 /64); further
        /// calls wait.
        instances_per_client: u32 [IntegerValue<u32, 1, 10_000>] = 50;
        /// Longest time that a call waits for an instance; after that the client gets 451, independent of on_fault.
        instance_wait: Duration [DurationValue<0>] = Duration::from_secs(2);
        /// Memory limit of an instance.
        memory: u64 [ByteSize<65536>] = 16 << 20;
        /// Maximum number of log lines of a call.
        log_lines: u32 [IntegerValue<u32, 0, 100_000>] = 100;
        /// Maximum number of edits staged by a call.
        edits: u32 [IntegerValue<u32, 0, 100_000>] = 1000;
    }
}

section! {
    /// Permissions of a plugin.
    pub struct GrantsConfig (table, reader) {
        /// Part of the message that the plugin may read.
        message: MessageGrantConfig [EnumValue<MessageGrantConfig>] = MessageGrantConfig::None;
        /// Permission to change the message and the envelope.
        edit: bool [BoolValue] = false;
        /// Tables for lookups, by name: a ..._maps key, an entry of the section tables, or "plugin:NAME" for the on-table hook
        /// of a plugin.
        lookup: Vec<String> [ListOf<TextValue>] = Vec::new();
        /// Quota of the plugin's key-value store in bytes, over all entries; true is 64MiB.
        kv: Option<u64> [KvGrantValue] = None;
        /// Names for DNS lookups: "NAME", or "*.ZONE" for all names below a zone; true for any name.
        dns: Vec<String> [DnsGrantValue] = Vec::new();
        /// URL prefixes for HTTP requests: "https://HOST/PATH/", optionally preceded by a method and by the keyword
        /// private for a host with a private address.
        http: Vec<String> [ListOf<TextValue>] = Vec::new();
        /// Permission to submit mail.
        submit: bool [BoolValue] = false;
        /// Permission to decide about logins; the plugin receives user names and passwords.
        credentials: bool [BoolValue] = false;
        /// Permission to read the time of day.
        clock: bool [BoolValue] = false;
        /// Permission to read random bytes.
        random: bool [BoolValue] = false;
    }
}

/// Quota of a key-value store in bytes where the grant is only `true`.
const KV_BYTES_DEFAULT: u64 = 64 << 20;

/// The value `true`, a size, or a table with the key `bytes`.
pub(crate) struct KvGrantValue;

impl ValueType for KvGrantValue {
    type Value = Option<u64>;
    const FORM: &'static str = "true, or octets: a number, or text with a unit, \"64MiB\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Option<u64>> {
        if let Some(granted) = node.value.as_bool() {
            return Some(granted.then_some(KV_BYTES_DEFAULT));
        }
        let Some(table) = node.value.as_table() else { return ByteSize::<1024>::read(node, reader).map(Some) };
        reader.open_table(&node.path, table, &["bytes"]);
        match table.get("bytes") {
            Some(size) => {
                let size = ValueNode { path: join_path(&node.path, "bytes"), value: size.get_ref(), span: size.span() };
                ByteSize::<1024>::read(&size, reader).map(Some)
            }
            None => Some(Some(KV_BYTES_DEFAULT)),
        }
    }

    fn show(value: &Option<u64>) -> Option<Value> {
        ByteSize::<1024>::show(value.as_ref()?)
    }
}

/// The value `true`, or a list of names.
pub(crate) struct DnsGrantValue;

impl ValueType for DnsGrantValue {
    type Value = Vec<String>;
    const FORM: &'static str = "true, or array of names";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Vec<String>> {
        match node.value.as_bool() {
            Some(true) => Some(vec!["*".to_owned()]),
            Some(false) => Some(Vec::new()),
            None => ListOf::<TextValue>::read(node, reader),
        }
    }

    fn show(value: &Vec<String>) -> Option<Value> {
        ListOf::<TextValue>::show(value)
    }
}

/// Part of a message that a plugin may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageGrantConfig {
    /// No access to the message.
    None,
    /// Access to the header block.
    Headers,
    /// Access to the complete message.
    Full,
}

impl StringEnum for MessageGrantConfig {
    const FORM: &'static str = "\"none\", \"headers\" or \"full\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[("none", Self::None), ("headers", Self::Headers), ("full", Self::Full)];
}

/// The table `[plugins]`.
pub(crate) struct PluginsValue;

impl PluginsValue {
    /// Returns the built-in plugins with default settings.
    pub(crate) fn builtin_defaults(reader: &mut ConfigReader<'_>) -> Vec<PluginConfig> {
        BUILTIN_PLUGINS.iter().map(|name| with_name(name, default_section(&join_path("plugins", name), reader))).collect()
    }
}

fn with_name(name: &str, mut plugin: PluginConfig) -> PluginConfig {
    name.clone_into(&mut plugin.name);
    // Saves four calls per typical message without any effect on the message.
    let only_completes = name == "cleanup" && plugin.builtin && !plugin.config.contains_key("masquerade_domains");
    plugin.when.addresses.get_or_insert(if only_completes { RewriteScope::WithoutDomain } else { RewriteScope::All });
    plugin
}

impl ValueType for PluginsValue {
    type Value = Vec<PluginConfig>;
    const FORM: &'static str = "table";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Vec<PluginConfig>> {
        let Some(table) = node.value.as_table() else {
            reader.type_error(node, "a table: [plugins.NAME]");
            return None;
        };
        let mut plugins: BTreeMap<String, PluginConfig> =
            PluginsValue::builtin_defaults(reader).into_iter().map(|plugin| (plugin.name.clone(), plugin)).collect();
        let names: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
        reader.open_table(&node.path, table, &names);
        for (key, value) in table {
            let name: &str = key.get_ref();
            if !is_plugin_name(name) {
                let advice = "a plugin's name has small letters, digits, hyphens and underscores".to_owned();
                reader.error(key.span(), format!("\"{name}\" is not a plugin's name"), advice);
                continue;
            }
            let node = ValueNode { path: join_path(&node.path, name), value: value.get_ref(), span: value.span() };
            if let Some(plugin) = TableValue::<PluginConfig>::read(&node, reader) {
                plugins.insert(name.to_owned(), with_name(name, plugin));
            }
        }
        let mut plugins: Vec<PluginConfig> = plugins.into_values().collect();
        plugins.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Some(plugins)
    }

    fn show(value: &Vec<PluginConfig>) -> Option<Value> {
        let show = |plugin: &PluginConfig| Some((plugin.name.clone(), TableValue::<PluginConfig>::show(plugin)?));
        Some(Value::Table(value.iter().filter_map(show).collect()))
    }
}

fn is_plugin_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// A table with arbitrary content.
pub(crate) struct AnyTable;

impl ValueType for AnyTable {
    type Value = PluginOptions;
    const FORM: &'static str = "table of any content";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<PluginOptions> {
        let Some(table) = node.value.as_table() else {
            reader.type_error(node, "a table");
            return None;
        };
        Some(to_json_table(&node.path, table, reader))
    }

    fn show(value: &PluginOptions) -> Option<Value> {
        if value.is_empty() { None } else { Value::try_from(value).ok() }
    }
}

fn to_json_table(path: &str, table: &DeTable<'_>, reader: &mut ConfigReader<'_>) -> PluginOptions {
    let names: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
    reader.open_table(path, table, &names);
    let entry = |key: &str, value: &DeValue<'_>, reader: &mut ConfigReader<'_>| to_json(&join_path(path, key), value, reader);
    table.iter().map(|(key, v)| (key.get_ref().to_string(), entry(key.get_ref(), v.get_ref(), reader))).collect()
}

fn to_json(path: &str, value: &DeValue<'_>, reader: &mut ConfigReader<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).map_or(Json::Null, Json::from),
        DeValue::Float(n) => n.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(b) => Json::Bool(*b),
        DeValue::Datetime(date) => Json::String(date.to_string()),
        DeValue::Array(array) => {
            let item = |(i, item): (usize, &toml::Spanned<DeValue<'_>>)| to_json(&format!("{path}[{i}]"), item.get_ref(), reader);
            Json::Array(array.iter().enumerate().map(item).collect())
        }
        DeValue::Table(table) => Json::Object(to_json_table(path, table, reader)),
    }
}

/// Keys of a plugin table, for the reference.
pub(crate) const PLUGIN_KEYS: &[crate::section::KeyInfo] = PluginConfig::KEYS;
