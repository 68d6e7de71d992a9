//! The table `[plugins]`: sources, conditions, grants and limits of plugins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use toml::de::{DeTable, DeValue};
use waxwing_types::{Endpoint, Via};

use crate::kind::{
    Choice, Count, Domain, FilePath, Flag, Kind, ListOf, Maybe, Place, Size, Span, Sub, Text, Words, default_section,
};
use crate::reader::{Node, Reader, TableReader, join};
use crate::section::{Section, section};

/// Names of the plugins built into the server.
pub const BUILTIN_PLUGINS: &[&str] = &["cleanup", "aliases"];

section! {
    /// A plugin and its binding.
    pub struct Plugin (table, reader) {
        /// Component file of the plugin; not for built-in plugins.
        file: Option<PathBuf> [Maybe<FilePath>] = None;
        /// Address of a milter to call instead of a component.
        milter: Option<Endpoint> [Maybe<Place>] = None;
        /// Timeout for connecting to a milter, and for the negotiation.
        milter_connect_timeout: Duration [Span<1>] = Duration::from_secs(30);
        /// Timeout for the reply of a milter to a command, a header field or a piece of the body.
        milter_command_timeout: Duration [Span<1>] = Duration::from_secs(30);
        /// Timeout for the reply of a milter to the end of the message, and between two progress packets.
        milter_content_timeout: Duration [Span<1>] = Duration::from_secs(300);
        /// Use the built-in plugin of the same name.
        builtin: bool [Flag] = BUILTIN_PLUGINS.contains(&table.name()), derived "true for cleanup and aliases";
        /// Load and call the plugin.
        enabled: bool [Flag] = true;
        /// Position of the plugin among all plugins; plugins of equal order are sorted by name.
        order: i32 [Count<i32, -1_000_000, 1_000_000>] = default_order(table), derived "100; cleanup 10, aliases 20";
        /// Create a fresh instance for each transaction, or reuse instances.
        instance: Instance [Choice<Instance>] = if builtin { Instance::Reuse } else { Instance::Fresh },
            derived "\"reuse\" for built-in plugins, else \"fresh\"";
        /// Number of calls after which a reused instance is replaced.
        recycle_calls: u32 [Count<u32, 1, 50_000>] = 10_000;
        /// Apply the results of the plugin, only record the results, or do not call the plugin.
        mode: Mode [Choice<Mode>] = Mode::Enforce;
        /// Consequence for the message when a call of the plugin fails.
        on_fault: OnFault [Choice<OnFault>] = OnFault::Defer;
        /// Number of consecutive faults at a hook after which the hook is suspended, with the consequence of
        /// on_fault; 0: never suspended.
        breaker_faults: u32 [Count<u32, 0, 1_000_000>] = 10;
        /// Time for which a hook is suspended, before a single call tests the plugin again.
        breaker_time: Duration [Span<1>] = Duration::from_secs(30);
        /// Another version of the plugin that handles a part of the mail before general use.
        canary: Option<Canary> [Maybe<Sub<Canary>>] = None;
        /// Name of the transport implemented by the on-deliver hook of the plugin.
        transport: Option<String> [Maybe<Text>] = None;
        /// Conditions under which the plugin is called; an empty list is no condition.
        when: When [Sub<When>] = default_section(&join_own(table, "when"), reader);
        /// Limits of each call.
        limits: Limits [Sub<Limits>] = default_section(&join_own(table, "limits"), reader);
        /// Permissions of the plugin.
        grants: Grants [Sub<Grants>] = builtin_grants(table, reader), derived "what a built-in plugin needs, else nothing";
        /// Settings of the plugin, passed on unchanged; a key that the plugin never reads is an error.
        config: PluginConfig [ConfigTable] = PluginConfig::default();
    }
    extra {
        /// Name of the plugin, from `[plugins.NAME]`.
        pub name: String,
    }
}

/// Settings in the `config` table of a plugin, passed to the plugin unchanged.
pub type PluginConfig = serde_json::Map<String, serde_json::Value>;

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

impl Plugin {
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

fn join_own(table: &TableReader<'_>, key: &str) -> String {
    join(&join("plugins", table.name()), key)
}

/// Returns whether the limits belong to a built-in plugin. Built-in plugins are trusted to terminate, so that high
/// load on the machine must not cause a fault.
fn is_standard(limits: &TableReader<'_>) -> bool {
    BUILTIN_PLUGINS.contains(&limits.parent())
}

fn builtin_grants(table: &TableReader<'_>, reader: &mut Reader<'_>) -> Grants {
    let mut grants: Grants = default_section(&join_own(table, "grants"), reader);
    match table.name() {
        "cleanup" => {
            grants.message = MessageGrant::Headers;
            grants.edit = true;
        }
        "aliases" => grants.lookup = vec!["alias_maps".to_owned(), "virtual_alias_maps".to_owned()],
        _ => {}
    }
    grants
}

/// Lifetime of plugin instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// A new instance for each transaction.
    Fresh,
    /// An instance shared by many calls.
    Reuse,
}

impl Words for Instance {
    const FORM: &'static str = "\"fresh\" or \"reuse\"";
    const WORDS: &'static [(&'static str, Self)] = &[("fresh", Self::Fresh), ("reuse", Self::Reuse)];
}

/// Effect of a plugin's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Verdicts and edits take effect.
    Enforce,
    /// Verdicts and edits are only recorded.
    Shadow,
    /// The plugin is loaded but not called.
    Off,
}

impl Words for Mode {
    const FORM: &'static str = "\"enforce\", \"shadow\" or \"off\"";
    const WORDS: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

/// Consequence of a plugin fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// The client gets 451 and retries; a delivery attempt is deferred.
    Defer,
    /// The plugin is treated as absent.
    Skip,
    /// The message is rejected with 554.
    Reject,
    /// The message is accepted into the hold queue.
    Hold,
}

impl Words for OnFault {
    const FORM: &'static str = "\"defer\", \"skip\", \"reject\" or \"hold\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("defer", Self::Defer), ("skip", Self::Skip), ("reject", Self::Reject), ("hold", Self::Hold)];
}

impl Words for Via {
    const FORM: &'static str = "\"smtp\", \"submission\", \"pickup\", \"forward\" or \"dsn\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("smtp", Self::Smtp),
        ("submission", Self::Submission),
        ("pickup", Self::Pickup),
        ("forward", Self::Forward),
        ("dsn", Self::Dsn),
    ];
}

section! {
    /// A plugin version that handles a part of the mail.
    pub struct Canary (table, reader) {
        /// Component file of the canary; required.
        file: PathBuf [FilePath] = PathBuf::new();
        /// Percentage of transactions handled by the canary; a transaction uses the same version from the first hook
        /// to the last.
        percent: u32 [Count<u32, 0, 100>] = 10;
    }
}

section! {
    /// Conditions under which a plugin is called; all given conditions must hold.
    pub struct When (table, reader) {
        /// Names of the listeners that received the message.
        listener: Vec<String> [ListOf<Text>] = Vec::new();
        /// Domains of a recipient of the message.
        domain: Vec<String> [ListOf<Domain>] = Vec::new();
        /// Sources of the message.
        via: Vec<Via> [ListOf<Choice<Via>>] = Vec::new();
        /// Maximum size of a message for which the plugin is called; none: no limit.
        size_max: Option<u64> [Maybe<Size<0>>] = None;
        /// Addresses passed to on-rewrite-address.
        addresses: Option<Addresses> [Maybe<Choice<Addresses>>] = None,
            derived "\"bare\" for the built-in cleanup unless it masquerades, else \"any\"";
    }
}

/// Selection of addresses passed to on-rewrite-address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// All addresses of a message.
    Any,
    /// Addresses without a domain.
    Bare,
}

impl Words for Addresses {
    const FORM: &'static str = "\"any\" or \"bare\"";
    const WORDS: &'static [(&'static str, Self)] = &[("any", Self::Any), ("bare", Self::Bare)];
}

section! {
    /// Limits of each call.
    pub struct Limits (table, reader) {
        /// Time limit of a call, including waiting time.
        time: Duration [Span<1>] = if is_standard(table) { Duration::from_secs(5) } else { Duration::from_millis(100) },
            derived "100ms; 5s for cleanup and aliases";
        /// CPU time limit of a call.
        cpu: Duration [Span<1>] = if is_standard(table) { Duration::from_secs(1) } else { Duration::from_millis(50) },
            derived "50ms; 1s for cleanup and aliases";
        /// Maximum number of simultaneous instances, over all versions; further calls wait.
        instances: u32 [Count<u32, 1, 10_000>] = 200;
        /// Maximum number of simultaneous fresh instances for the same client (an IPv4 address, an IPv6 /64); further
        /// calls wait.
        instances_per_client: u32 [Count<u32, 1, 10_000>] = 50;
        /// Longest time that a call waits for an instance; after that the client gets 451, independent of on_fault.
        instance_wait: Duration [Span<0>] = Duration::from_secs(2);
        /// Memory limit of an instance.
        memory: u64 [Size<65536>] = 16 << 20;
        /// Maximum number of log lines of a call.
        log_lines: u32 [Count<u32, 0, 100_000>] = 100;
        /// Maximum number of edits staged by a call.
        edits: u32 [Count<u32, 0, 100_000>] = 1000;
    }
}

section! {
    /// Permissions of a plugin.
    pub struct Grants (table, reader) {
        /// Part of the message that the plugin may read.
        message: MessageGrant [Choice<MessageGrant>] = MessageGrant::None;
        /// Permission to change the message and the envelope.
        edit: bool [Flag] = false;
        /// Tables for lookups, by name: a ..._maps key, an entry of [tables], or "plugin:NAME" for the on-table hook
        /// of a plugin.
        lookup: Vec<String> [ListOf<Text>] = Vec::new();
        /// Quota of the plugin's key-value store in bytes, over all entries; true is 64MiB.
        kv: Option<u64> [KvGrant] = None;
        /// Names for DNS lookups: "NAME", or "*.ZONE" for all names below a zone; true for any name.
        dns: Vec<String> [DnsGrant] = Vec::new();
        /// URL prefixes for HTTP requests: "https://HOST/PATH/", optionally preceded by a method and by the keyword
        /// private for a host with a private address.
        http: Vec<String> [ListOf<Text>] = Vec::new();
        /// Permission to submit mail.
        submit: bool [Flag] = false;
        /// Permission to decide about logins; the plugin receives user names and passwords.
        credentials: bool [Flag] = false;
        /// Permission to read the time of day.
        clock: bool [Flag] = false;
        /// Permission to read random bytes.
        random: bool [Flag] = false;
    }
}

/// Quota of a key-value store in bytes where the grant is only `true`.
const KV_BYTES: u64 = 64 << 20;

/// The value `true`, a size, or a table with the key `bytes`.
pub(crate) struct KvGrant;

impl Kind for KvGrant {
    type Value = Option<u64>;
    const FORM: &'static str = "true, or octets: a number, or text with a unit, \"64MiB\"";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Option<u64>> {
        if let Some(granted) = node.value.as_bool() {
            return Some(granted.then_some(KV_BYTES));
        }
        let Some(table) = node.value.as_table() else { return Size::<1024>::read(node, reader).map(Some) };
        reader.table(&node.path, table, &["bytes"]);
        match table.get("bytes") {
            Some(size) => {
                let size = Node { path: join(&node.path, "bytes"), value: size.get_ref(), span: size.span() };
                Size::<1024>::read(&size, reader).map(Some)
            }
            None => Some(Some(KV_BYTES)),
        }
    }

    fn show(value: &Option<u64>) -> Option<Value> {
        Size::<1024>::show(value.as_ref()?)
    }
}

/// The value `true`, or a list of names.
pub(crate) struct DnsGrant;

impl Kind for DnsGrant {
    type Value = Vec<String>;
    const FORM: &'static str = "true, or array of names";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        match node.value.as_bool() {
            Some(true) => Some(vec!["*".to_owned()]),
            Some(false) => Some(Vec::new()),
            None => ListOf::<Text>::read(node, reader),
        }
    }

    fn show(value: &Vec<String>) -> Option<Value> {
        ListOf::<Text>::show(value)
    }
}

/// Part of a message that a plugin may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageGrant {
    /// No access to the message.
    None,
    /// Access to the header block.
    Headers,
    /// Access to the complete message.
    Full,
}

impl Words for MessageGrant {
    const FORM: &'static str = "\"none\", \"headers\" or \"full\"";
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None), ("headers", Self::Headers), ("full", Self::Full)];
}

/// The table `[plugins]`.
pub(crate) struct Plugins;

impl Plugins {
    /// Returns the built-in plugins with default settings.
    pub(crate) fn only_builtin(reader: &mut Reader<'_>) -> Vec<Plugin> {
        BUILTIN_PLUGINS.iter().map(|name| named(name, default_section(&join("plugins", name), reader))).collect()
    }
}

fn named(name: &str, mut plugin: Plugin) -> Plugin {
    name.clone_into(&mut plugin.name);
    // Saves four calls per typical message without any effect on the message.
    let only_completes = name == "cleanup" && plugin.builtin && !plugin.config.contains_key("masquerade_domains");
    plugin.when.addresses.get_or_insert(if only_completes { Addresses::Bare } else { Addresses::Any });
    plugin
}

impl Kind for Plugins {
    type Value = Vec<Plugin>;
    const FORM: &'static str = "table";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Plugin>> {
        let Some(table) = node.value.as_table() else {
            reader.wrong_type(node, "a table: [plugins.NAME]");
            return None;
        };
        let mut plugins: BTreeMap<String, Plugin> =
            Plugins::only_builtin(reader).into_iter().map(|plugin| (plugin.name.clone(), plugin)).collect();
        let names: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
        reader.table(&node.path, table, &names);
        for (key, value) in table {
            let name: &str = key.get_ref();
            if !is_plugin_name(name) {
                let advice = "a plugin's name has small letters, digits, hyphens and underscores".to_owned();
                reader.wrong(key.span(), format!("\"{name}\" is not a plugin's name"), advice);
                continue;
            }
            let node = Node { path: join(&node.path, name), value: value.get_ref(), span: value.span() };
            if let Some(plugin) = Sub::<Plugin>::read(&node, reader) {
                plugins.insert(name.to_owned(), named(name, plugin));
            }
        }
        let mut plugins: Vec<Plugin> = plugins.into_values().collect();
        plugins.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Some(plugins)
    }

    fn show(value: &Vec<Plugin>) -> Option<Value> {
        let show = |plugin: &Plugin| Some((plugin.name.clone(), Sub::<Plugin>::show(plugin)?));
        Some(Value::Table(value.iter().filter_map(show).collect()))
    }
}

fn is_plugin_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// A table with arbitrary content.
pub(crate) struct ConfigTable;

impl Kind for ConfigTable {
    type Value = PluginConfig;
    const FORM: &'static str = "table of any content";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<PluginConfig> {
        let Some(table) = node.value.as_table() else {
            reader.wrong_type(node, "a table");
            return None;
        };
        Some(to_json_table(&node.path, table, reader))
    }

    fn show(value: &PluginConfig) -> Option<Value> {
        if value.is_empty() { None } else { Value::try_from(value).ok() }
    }
}

fn to_json_table(path: &str, table: &DeTable<'_>, reader: &mut Reader<'_>) -> PluginConfig {
    let names: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
    reader.table(path, table, &names);
    let entry = |key: &str, value: &DeValue<'_>, reader: &mut Reader<'_>| to_json(&join(path, key), value, reader);
    table.iter().map(|(key, v)| (key.get_ref().to_string(), entry(key.get_ref(), v.get_ref(), reader))).collect()
}

fn to_json(path: &str, value: &DeValue<'_>, reader: &mut Reader<'_>) -> serde_json::Value {
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
pub(crate) const PLUGIN_KEYS: &[crate::section::Key] = Plugin::KEYS;
