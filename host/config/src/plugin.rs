//! Plugins: what runs, when, with which grants and limits.

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

/// The plugins that are part of the program.
pub const BUILTIN_PLUGINS: &[&str] = &["cleanup", "aliases"];

section! {
    /// One plugin.
    pub struct Plugin (table, reader) {
        /// The component to load; not for built-in plugins.
        file: Option<PathBuf> [Maybe<FilePath>] = None;
        /// The milter to ask in the place of a component.
        milter: Option<Endpoint> [Maybe<Place>] = None;
        /// How long a milter may take to accept a connection, and to negotiate.
        milter_connect_timeout: Duration [Span<1>] = Duration::from_secs(30);
        /// How long a milter may take to answer a command, a header field or a piece of the body.
        milter_command_timeout: Duration [Span<1>] = Duration::from_secs(30);
        /// How long a milter may take to answer the end of the message, and between two signs that it is at work.
        milter_content_timeout: Duration [Span<1>] = Duration::from_secs(300);
        /// The plugin of this name that is part of the program.
        builtin: bool [Flag] = BUILTIN_PLUGINS.contains(&table.name()), derived "true for cleanup and aliases";
        /// Load and call it.
        enabled: bool [Flag] = true;
        /// Plugins are called in this order, then in that of their names.
        order: i32 [Count<i32, -1_000_000, 1_000_000>] = default_order(table), derived "100; cleanup 10, aliases 20";
        /// Make a fresh instance for each transaction, or reuse one.
        instance: Instance [Choice<Instance>] = if builtin { Instance::Reuse } else { Instance::Fresh },
            derived "\"reuse\" for built-in plugins, else \"fresh\"";
        /// Calls after which a reused instance is replaced.
        recycle_calls: u32 [Count<u32, 1, 50_000>] = 10_000;
        /// Obey it, only record what it would have done, or don't call it.
        mode: Mode [Choice<Mode>] = Mode::Enforce;
        /// What a fault of the plugin does to the message.
        on_fault: OnFault [Choice<OnFault>] = OnFault::Defer;
        /// Faults in a row at one hook after which it is not called there for a while, which has the consequence of a fault; 0: always called.
        breaker_faults: u32 [Count<u32, 0, 1_000_000>] = 10;
        /// How long it is not called then, before one call tries it again.
        breaker_time: Duration [Span<1>] = Duration::from_secs(30);
        /// Another version of it that serves a part of the mail, to be tried before it serves all.
        canary: Option<Canary> [Maybe<Sub<Canary>>] = None;
        /// Name under which its on-deliver is a transport.
        transport: Option<String> [Maybe<Text>] = None;
        /// When it is called; empty lists are no condition.
        when: When [Sub<When>] = default_section(&join_own(table, "when"), reader);
        /// Bounds of each call.
        limits: Limits [Sub<Limits>] = default_section(&join_own(table, "limits"), reader);
        /// What it may see and do.
        grants: Grants [Sub<Grants>] = builtin_grants(table, reader), derived "what a built-in plugin needs, else nothing";
        /// Its own settings, handed to it as they are; a key that it never reads is a mistake.
        config: PluginConfig [ConfigTable] = PluginConfig::default();
    }
    extra {
        /// Its name, from `[plugins.NAME]`.
        pub name: String,
    }
}

/// A plugin's own settings.
pub type PluginConfig = serde_json::Map<String, serde_json::Value>;

/// Where a plugin's component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// Part of the program.
    Builtin,
    /// A file.
    File(PathBuf),
    /// There is none: a milter has its place.
    Milter(Endpoint),
}

impl Plugin {
    /// Where its component comes from.
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

/// Whether these are limits of a plugin that is part of the server. It is trusted to end, and a busy machine must not make it a fault.
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

/// How instances of a plugin live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// One for each transaction.
    Fresh,
    /// One for many calls.
    Reuse,
}

impl Words for Instance {
    const FORM: &'static str = "\"fresh\" or \"reuse\"";
    const WORDS: &'static [(&'static str, Self)] = &[("fresh", Self::Fresh), ("reuse", Self::Reuse)];
}

/// Whether a plugin is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its verdicts and edits count.
    Enforce,
    /// They are only recorded.
    Shadow,
    /// It is loaded but not called.
    Off,
}

impl Words for Mode {
    const FORM: &'static str = "\"enforce\", \"shadow\" or \"off\"";
    const WORDS: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

/// The consequence of a plugin's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// The client tries again later (451); an attempt at delivery is deferred.
    Defer,
    /// As if the plugin was not there.
    Skip,
    /// The message is refused (554).
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
    /// A version that serves a part of the mail.
    pub struct Canary (table, reader) {
        /// The component to load; required.
        file: PathBuf [FilePath] = PathBuf::new();
        /// Of a hundred transactions so many are served by it; each transaction by one version, from its first hook to its last.
        percent: u32 [Count<u32, 0, 100>] = 10;
    }
}

section! {
    /// Conditions under which a plugin is called; all that are given must hold.
    pub struct When (table, reader) {
        /// Names of listeners by which the message came.
        listener: Vec<String> [ListOf<Text>] = Vec::new();
        /// Domains of a recipient.
        domain: Vec<String> [ListOf<Domain>] = Vec::new();
        /// Doors by which the message came.
        via: Vec<Via> [ListOf<Choice<Via>>] = Vec::new();
        /// Largest message for which it is called; none: any.
        size_max: Option<u64> [Maybe<Size<0>>] = None;
        /// Addresses that on-rewrite-address is asked about.
        addresses: Option<Addresses> [Maybe<Choice<Addresses>>] = None,
            derived "\"bare\" for the built-in cleanup unless it masquerades, else \"any\"";
    }
}

/// Which addresses a plugin that rewrites them sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// All.
    Any,
    /// Those without a domain.
    Bare,
}

impl Words for Addresses {
    const FORM: &'static str = "\"any\" or \"bare\"";
    const WORDS: &'static [(&'static str, Self)] = &[("any", Self::Any), ("bare", Self::Bare)];
}

section! {
    /// Bounds of each call.
    pub struct Limits (table, reader) {
        /// Time that a call may take, waiting included.
        time: Duration [Span<1>] = if is_standard(table) { Duration::from_secs(5) } else { Duration::from_millis(100) },
            derived "100ms; 5s for cleanup and aliases";
        /// Time that a call may compute.
        cpu: Duration [Span<1>] = if is_standard(table) { Duration::from_secs(1) } else { Duration::from_millis(50) },
            derived "50ms; 1s for cleanup and aliases";
        /// Instances at once, of all versions together; a call that needs one more waits.
        instances: u32 [Count<u32, 1, 10_000>] = 200;
        /// Fresh instances at once for one client (an IPv4 address, or a /64 network of IPv6); a call that needs one more waits.
        instances_per_client: u32 [Count<u32, 1, 10_000>] = 50;
        /// How long a call waits for an instance before the client gets 451, whatever on_fault says.
        instance_wait: Duration [Span<0>] = Duration::from_secs(2);
        /// Memory of an instance.
        memory: u64 [Size<65536>] = 16 << 20;
        /// Lines that a call may log.
        log_lines: u32 [Count<u32, 0, 100_000>] = 100;
        /// Changes that a call may stage.
        edits: u32 [Count<u32, 0, 100_000>] = 1000;
    }
}

section! {
    /// What a plugin may see and do.
    pub struct Grants (table, reader) {
        /// How much of the message it may read.
        message: MessageGrant [Choice<MessageGrant>] = MessageGrant::None;
        /// It may change the message and its envelope.
        edit: bool [Flag] = false;
        /// Tables that it may look up, by name: a ..._maps key, one of the tables section, or "plugin:NAME" for the on-table of a plugin.
        lookup: Vec<String> [ListOf<Text>] = Vec::new();
        /// It may keep pairs of its own, so many octets in all; true is 64MiB.
        kv: Option<u64> [KvGrant] = None;
        /// Names that it may look up in the DNS: "NAME", "*.ZONE" for whatever lies below; true for any.
        dns: Vec<String> [DnsGrant] = Vec::new();
        /// URLs that it may ask, with all that lies below: "https://HOST/PATH/", before it perhaps a method, and the word private for a host with a private address.
        http: Vec<String> [ListOf<Text>] = Vec::new();
        /// It may send mail of its own.
        submit: bool [Flag] = false;
        /// It may say who may log in: it sees names and passwords.
        credentials: bool [Flag] = false;
        /// It may know the time of day.
        clock: bool [Flag] = false;
        /// It may have unpredictable octets.
        random: bool [Flag] = false;
    }
}

/// Octets of a store where the grant is only `true`.
const KV_BYTES: u64 = 64 << 20;

/// `true`, a size, or a table with the key `bytes`.
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

/// `true`, or a list of names.
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

/// How much of a message a plugin may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageGrant {
    /// Nothing.
    None,
    /// The header block.
    Headers,
    /// All of it.
    Full,
}

impl Words for MessageGrant {
    const FORM: &'static str = "\"none\", \"headers\" or \"full\"";
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None), ("headers", Self::Headers), ("full", Self::Full)];
}

/// The table `[plugins]`.
pub(crate) struct Plugins;

impl Plugins {
    /// The built-in plugins with their defaults.
    pub(crate) fn only_builtin(reader: &mut Reader<'_>) -> Vec<Plugin> {
        BUILTIN_PLUGINS.iter().map(|name| named(name, default_section(&join("plugins", name), reader))).collect()
    }
}

fn named(name: &str, mut plugin: Plugin) -> Plugin {
    name.clone_into(&mut plugin.name);
    // Four calls of a usual message that could change nothing.
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

/// A table with any content.
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

/// The names of a plugin's keys, for the reference.
pub(crate) const PLUGIN_KEYS: &[crate::section::Key] = Plugin::KEYS;
