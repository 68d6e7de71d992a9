//! Checks across several keys: contradictions, and names without a definition.

use std::collections::BTreeMap;

use crate::Config;
use crate::listener::check_unix_listeners;
use crate::plugin::{BUILTIN_PLUGINS, MessageGrantConfig, PluginConfig};
use crate::reader::ConfigReader;
use crate::restriction::RestrictionKind;
use crate::route::{BUILTIN_TRANSPORTS, Route};
use crate::suggestion::closest_match;
use crate::tls::check_listener_tls;
use crate::user_source::check_authentication;

/// Prefix of a table name that refers to a plugin with the hook on-table.
pub const PLUGIN_TABLE_PREFIX: &str = "plugin:";
/// Longest chain of plugins that look up tables of other plugins for a single key.
const PLUGIN_TABLES_DEPTH_MAX: usize = 4;

/// Expands `$name` variables, then reports every contradiction.
pub(crate) fn check_config(config: &mut Config, reader: &mut ConfigReader<'_>) {
    expand_config_variables(config, reader);
    check_domains(config, reader);
    check_mailboxes(config, reader);
    check_mynetworks(config, reader);
    check_mail_owner(config, reader);
    check_listeners(config, reader);
    check_listener_tls(config, reader);
    check_unix_listeners(config, reader);
    check_limits(config, reader);
    check_authentication(config, reader);
    check_plugins(config, reader);
    check_routes(config, reader);
    check_restrictions(config, reader);
}

/// Checks that tables named in restrictions exist, and that DNS lists in restrictions have no weight.
fn check_restrictions(config: &Config, reader: &mut ConfigReader<'_>) {
    let tables: Vec<&str> = config.tables.keys().map(String::as_str).collect();
    for (list, rules) in config.restriction_lists() {
        for (index, rule) in rules.iter().enumerate() {
            let path = format!("{list}[{index}]");
            if let RestrictionKind::Access(_, table) = &rule.kind
                && config.lookup_tables(table).is_none()
            {
                let advice = match closest_match(table, tables.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("add to [tables]: {table} = \"texthash:/path\""),
                };
                reader.error_at(&path, format!("there is no table \"{table}\""), advice);
            }
            if let RestrictionKind::RejectRbl(list)
            | RestrictionKind::PermitDnswlClient(list)
            | RestrictionKind::RejectRhsbl(_, list) = &rule.kind
                && list.weight != 1
            {
                let advice = "use weights only in postscreen_dnsbl_sites".to_owned();
                reader.error_at(&path, "a DNS list has no weight in a restriction", advice);
            }
        }
    }
}

fn expand_config_variables(config: &mut Config, reader: &mut ConfigReader<'_>) {
    let mut names: Vec<(&'static str, String)> = Vec::new();
    expand_variables(&mut config.general.myhostname, "myhostname", &names, reader);
    names.push(("myhostname", config.general.myhostname.clone()));
    expand_variables(&mut config.general.mydomain, "mydomain", &names, reader);
    names.push(("mydomain", config.general.mydomain.clone()));
    expand_variables(&mut config.general.myorigin, "myorigin", &names, reader);
    expand_variables(&mut config.smtp.smtp_helo_name, "smtp_helo_name", &names, reader);
    expand_variables(&mut config.smtpd.smtpd_banner, "smtpd_banner", &names, reader);
    for (key, list) in [
        ("mydestination", &mut config.domains.mydestination),
        ("relay_domains", &mut config.domains.relay_domains),
        ("virtual_alias_domains", &mut config.domains.virtual_alias_domains),
        ("virtual_mailbox_domains", &mut config.domains.virtual_mailbox_domains),
    ] {
        for (index, text) in list.iter_mut().enumerate() {
            expand_variables(text, &format!("{key}[{index}]"), &names, reader);
        }
    }
    for plugin in &mut config.plugins {
        for (index, text) in plugin.when.domain.iter_mut().enumerate() {
            expand_variables(text, &format!("plugins.{}.when.domain[{index}]", plugin.name), &names, reader);
        }
    }
}

/// Expands `$name` and `${name}` in `text`.
fn expand_variables(text: &mut String, path: &str, names: &[(&'static str, String)], reader: &mut ConfigReader<'_>) {
    if !text.contains('$') {
        return;
    }
    for (name, value) in names {
        *text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    if text.contains('$') {
        let known: Vec<String> = names.iter().map(|(name, _)| format!("${name}")).collect();
        let advice = match known.is_empty() {
            true => "write the name itself".to_owned(),
            false => format!("the available variables are {}", known.join(" and ")),
        };
        reader.error_at(path, format!("\"{text}\" has an unknown $name"), advice);
    }
}

/// Checks that each domain belongs to a single address class.
fn check_domains(config: &Config, reader: &mut ConfigReader<'_>) {
    let mut classes: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, list) in [
        ("mydestination", &config.domains.mydestination),
        ("virtual_alias_domains", &config.domains.virtual_alias_domains),
        ("virtual_mailbox_domains", &config.domains.virtual_mailbox_domains),
        ("relay_domains", &config.domains.relay_domains),
    ] {
        for (index, domain) in list.iter().enumerate() {
            match classes.insert(domain, key) {
                Some(other) if other != key => reader.error_at(
                    &format!("{key}[{index}]"),
                    format!("the domain \"{domain}\" is listed in {key} and in {other}"),
                    address_class_advice(reader, other),
                ),
                Some(_) | None => {}
            }
        }
    }
}

fn address_class_advice(reader: &ConfigReader<'_>, other: &str) -> String {
    match is_set(reader, other) {
        true => "a domain belongs to one class, which selects the transport: remove the domain from one of the keys".to_owned(),
        false => format!("{other} contains the domain by default: set {other} without the domain, or remove the domain here"),
    }
}

fn is_set(reader: &ConfigReader<'_>, path: &str) -> bool {
    reader.key_spans.get(path).is_some()
}

fn check_mailboxes(config: &Config, reader: &mut ConfigReader<'_>) {
    if !config.domains.virtual_mailbox_domains.is_empty()
        && config.domains.virtual_mailbox_maps.is_empty()
        && !is_set(reader, "virtual_mailbox_maps")
    {
        reader.error_at(
            "virtual_mailbox_domains",
            "virtual_mailbox_domains has domains, but virtual_mailbox_maps names no mailboxes",
            "add virtual_mailbox_maps = { \"user@domain\" = \"user/\" }, or \"texthash:/path\"".to_owned(),
        );
    }
    if !matches!(config.general.recipient_delimiter.len(), 0 | 1) || config.general.recipient_delimiter == "@" {
        reader.error_at(
            "recipient_delimiter",
            format!("recipient_delimiter is \"{}\"", config.general.recipient_delimiter),
            "it is one character, usually \"+\"".to_owned(),
        );
    }
}

fn check_mynetworks(config: &Config, reader: &mut ConfigReader<'_>) {
    for (index, network) in config.general.mynetworks.iter().enumerate() {
        if network.prefix() == 0 {
            reader.error_at(
                &format!("mynetworks[{index}]"),
                format!("\"{network}\" makes this server an open relay"),
                "list only networks of trusted clients".to_owned(),
            );
        }
    }
}

fn check_mail_owner(config: &Config, reader: &mut ConfigReader<'_>) {
    match config.general.mail_owner.as_deref() {
        None if reader.environment.is_root && !is_set(reader, "mail_owner") => reader.error(
            0..0,
            "the server is started as root, and no mail_owner is set",
            "add mail_owner = \"waxwing\", a user of its own without privileges; the server never serves as root".to_owned(),
        ),
        Some("root" | "0") => reader.error_at(
            "mail_owner",
            "mail_owner is root",
            "name a user without privileges; the server never serves as root".to_owned(),
        ),
        Some(_) | None => {}
    }
}

fn check_listeners(config: &Config, reader: &mut ConfigReader<'_>) {
    if config.listen.is_empty() && !is_set(reader, "listen[0]") {
        reader.error_at("listen", "there is no listener", "add a [[listen]] table with a name and an address".to_owned());
    }
    for index in 0.. {
        let table = format!("listen[{index}]");
        if !is_set(reader, &table) {
            break;
        }
        for (key, example) in [("name", "\"smtp\""), ("address", "\"127.0.0.1:2525\"")] {
            if !is_set(reader, &format!("{table}.{key}")) {
                reader.error_at(&table, format!("the listener has no {key}"), format!("add {key} = {example}"));
            }
        }
    }
    for (index, listen) in config.listen.iter().enumerate() {
        for earlier in config.listen.iter().take(index) {
            if earlier.name == listen.name && !listen.name.is_empty() {
                let message = format!("two listeners have the name \"{}\"", listen.name);
                reader.error_at(&format!("listen[{index}].name"), message, "give each a name of its own".to_owned());
            }
            if earlier.address == listen.address && listen.address.port() != Some(0) {
                let message = format!("two listeners have the address {}", listen.address);
                reader.error_at(&format!("listen[{index}].address"), message, "give each an address of its own".to_owned());
            }
        }
    }
}

fn check_limits(config: &Config, reader: &mut ConfigReader<'_>) {
    if config.queue.minimal_backoff_time > config.queue.maximal_backoff_time {
        let path = explicitly_set_of(reader, "minimal_backoff_time", "maximal_backoff_time");
        reader.error_at(
            path,
            "minimal_backoff_time is longer than maximal_backoff_time",
            "shorten it, or lengthen the other".to_owned(),
        );
    }
    if config.smtpd.header_size_limit > config.smtpd.message_size_limit {
        let path = explicitly_set_of(reader, "header_size_limit", "message_size_limit");
        reader.error_at(
            path,
            "header_size_limit is larger than message_size_limit",
            "the header is a part of the message".to_owned(),
        );
    }
    if config.queue.queue_minfree < config.smtpd.message_size_limit {
        reader.error_at(
            explicitly_set_of(reader, "queue_minfree", "message_size_limit"),
            "queue_minfree is smaller than message_size_limit",
            "one message could fill the disk: leave it out to get 1.5 * message_size_limit + 128MiB".to_owned(),
        );
    }
}

/// Returns the key that the file sets, out of two; the first if the file sets both or neither.
fn explicitly_set_of<'k>(reader: &ConfigReader<'_>, first: &'k str, second: &'k str) -> &'k str {
    if is_set(reader, first) || !is_set(reader, second) { first } else { second }
}

fn check_plugins(config: &Config, reader: &mut ConfigReader<'_>) {
    for plugin in &config.plugins {
        let table = format!("plugins.{}", plugin.name);
        check_source(plugin, &table, reader);
        check_canary(plugin, &table, reader);
        if plugin.limits.cpu > plugin.limits.time {
            let (cpu, time) = (format!("{table}.limits.cpu"), format!("{table}.limits.time"));
            let message = "the limit cpu is longer than the limit time, which contains it";
            reader.error_at(explicitly_set_of(reader, &cpu, &time), message, "lengthen time, or shorten cpu".to_owned());
        }
        for (index, name) in plugin.when.listener.iter().enumerate() {
            let names: Vec<&str> = config.listen.iter().map(|listen| listen.name.as_str()).collect();
            check_name_exists(reader, &format!("{table}.when.listener[{index}]"), "listener", name, &names);
        }
        let mut tables = vec!["alias_maps", "virtual_alias_maps", "virtual_mailbox_maps", "local_recipient_maps"];
        tables.extend(config.tables.keys().map(String::as_str));
        for (index, name) in plugin.grants.lookup.iter().enumerate() {
            let path = format!("{table}.grants.lookup[{index}]");
            match name.strip_prefix(PLUGIN_TABLE_PREFIX) {
                Some(other) => check_plugin_table(config, plugin, other, &path, reader),
                None => check_name_exists(reader, &path, "table", name, &tables),
            }
        }
    }
    check_transport_names(config, reader);
}

/// Checks a grant for the table of another plugin: the plugin exists, and its own lookups form no cycle.
fn check_plugin_table(config: &Config, plugin: &PluginConfig, other: &str, path: &str, reader: &mut ConfigReader<'_>) {
    let names: Vec<&str> = config.plugins.iter().filter(|p| p.enabled).map(|p| p.name.as_str()).collect();
    if !names.contains(&other) {
        return check_name_exists(reader, path, "plugin", other, &names);
    }
    // Length of the longest chain of plugin tables that starts here; a cycle exceeds the limit.
    let (mut depth, mut reached) = (0, vec![other]);
    while !reached.is_empty() && depth <= PLUGIN_TABLES_DEPTH_MAX {
        depth += 1;
        let asked = config.plugins.iter().filter(|p| reached.contains(&p.name.as_str()));
        reached = asked.flat_map(|p| &p.grants.lookup).filter_map(|name| name.strip_prefix(PLUGIN_TABLE_PREFIX)).collect();
    }
    if depth > PLUGIN_TABLES_DEPTH_MAX {
        reader.error_at(
            path,
            format!("the plugin \"{}\" looks up tables of other plugins in a cycle or too deeply", plugin.name),
            format!("at most {PLUGIN_TABLES_DEPTH_MAX} plugins may form a chain of lookups: remove one of the grants"),
        );
    }
}

/// Checks that the canary names a file and that the file exists.
fn check_canary(plugin: &PluginConfig, table: &str, reader: &mut ConfigReader<'_>) {
    let Some(canary) = &plugin.canary else { return };
    let path = format!("{table}.canary.file");
    if !is_set(reader, &path) {
        let advice = "add file = \"/path/to/new.wasm\"".to_owned();
        reader.error_at(&format!("{table}.canary"), format!("the canary of \"{}\" has no file", plugin.name), advice);
    } else if plugin.enabled && !(reader.environment.path_exists)(&canary.file) {
        let advice = "correct the path, or leave the canary out".to_owned();
        reader.error_at(&path, format!("the component \"{}\" does not exist", canary.file.display()), advice);
    }
}

/// Checks that a plugin has exactly one source, a component file or the built-in code, and that the file exists.
fn check_source(plugin: &PluginConfig, table: &str, reader: &mut ConfigReader<'_>) {
    let file_path = format!("{table}.file");
    if is_set(reader, &format!("{table}.milter")) {
        return check_milter(plugin, table, reader);
    }
    match (&plugin.file, plugin.builtin) {
        (Some(_), true) => reader.error_at(
            &file_path,
            format!("the plugin \"{}\" is built in and has a file", plugin.name),
            "leave the file out, or add builtin = false to replace the built-in plugin".to_owned(),
        ),
        (Some(file), false) if plugin.enabled && !(reader.environment.path_exists)(file) => reader.error_at(
            &file_path,
            format!("the component \"{}\" does not exist", file.display()),
            "correct the path, or build the plugin; enabled = false leaves it out".to_owned(),
        ),
        (None, false) if is_set(reader, &file_path) => {}
        (None, false) => {
            let advice = match closest_match(&plugin.name, BUILTIN_PLUGINS.iter().copied()) {
                Some(near) => {
                    format!("add file = \"/path/to/{}.wasm\"; or did you mean the built-in [plugins.{near}]?", plugin.name)
                }
                None => format!("add file = \"/path/to/{}.wasm\"", plugin.name),
            };
            reader.error_at(&format!("{table}.file"), format!("the plugin \"{}\" has no file", plugin.name), advice);
        }
        (None, true) if !BUILTIN_PLUGINS.contains(&plugin.name.as_str()) => reader.error_at(
            &format!("{table}.builtin"),
            format!("there is no built-in plugin \"{}\"", plugin.name),
            format!("the built-in plugins are {}", BUILTIN_PLUGINS.join(" and ")),
        ),
        (Some(_), false) | (None, true) => {}
    }
}

/// Checks the keys of a milter: no component file, and no sandbox grants, which have no meaning for a milter. Values
/// equal to the defaults pass, because `config show` prints them.
fn check_milter(plugin: &PluginConfig, table: &str, reader: &mut ConfigReader<'_>) {
    let (name, grants) = (&plugin.name, &plugin.grants);
    let is_own = BUILTIN_PLUGINS.contains(&name.as_str());
    let granted = !is_own && (grants.edit || grants.message != MessageGrantConfig::None || !grants.lookup.is_empty());
    for (given, key, message, advice) in [
        (plugin.file.is_some(), "file", "has a file and a milter", "leave one of them out"),
        (plugin.transport.is_some(), "transport", "is a milter, which is no transport", "leave it out"),
        (granted, "grants", "is a milter, which needs no grants", "remove them: it can read and change messages"),
        (
            plugin.canary.is_some(),
            "canary",
            "is a milter, which has no canary version",
            "bind the new one beside it, in mode shadow",
        ),
        (!plugin.config.is_empty(), "config", "is a milter, which is not configured here", "configure the milter itself"),
    ] {
        if given {
            reader.error_at_key(&format!("{table}.{key}"), format!("the plugin \"{name}\" {message}"), advice.to_owned());
        }
    }
    if plugin.builtin {
        reader.error_at(
            &format!("{table}.milter"),
            format!("the plugin \"{name}\" is built in and has a milter"),
            "give the milter another name, or add builtin = false to replace the built-in plugin".to_owned(),
        );
    }
}

fn check_transport_names(config: &Config, reader: &mut ConfigReader<'_>) {
    let mut seen: Vec<&str> = BUILTIN_TRANSPORTS.to_vec();
    for plugin in &config.plugins {
        let Some(name) = plugin.transport.as_deref() else { continue };
        let path = format!("plugins.{}.transport", plugin.name);
        if seen.contains(&name) {
            let advice = "give the plugin's transport a name of its own".to_owned();
            reader.error_at(&path, format!("there is a transport \"{name}\" already"), advice);
        } else if name.is_empty() || name.contains([':', '[', ']', '.', ' ']) {
            let advice = "a transport's name is one word without colon, dot and brackets".to_owned();
            reader.error_at(&path, format!("\"{name}\" is not a transport's name"), advice);
        }
        seen.push(name);
    }
}

fn check_routes(config: &Config, reader: &mut ConfigReader<'_>) {
    let mut transports: Vec<&str> = BUILTIN_TRANSPORTS.to_vec();
    transports.extend(config.plugins.iter().filter_map(|plugin| plugin.transport.as_deref()));
    let own: [(&str, &Route); 4] = [
        ("local_transport", &config.transports.local_transport),
        ("virtual_transport", &config.transports.virtual_transport),
        ("relay_transport", &config.transports.relay_transport),
        ("default_transport", &config.transports.default_transport),
    ];
    for (path, route) in own {
        check_name_exists(reader, path, "transport", &route.transport, &transports);
    }
    for (key, route) in &config.transports.transport_maps {
        check_name_exists(reader, &format!("transport_maps.{key}"), "transport", &route.transport, &transports);
        let name = key.strip_prefix('.').unwrap_or(key);
        if name != "*" && !is_route_key(name) {
            let message = format!("\"{key}\" is neither an address nor a domain");
            reader.error_at_key(&format!("transport_maps.{key}"), message, "write user@domain, domain, .domain or *".to_owned());
        }
    }
}

fn is_route_key(name: &str) -> bool {
    match name.contains('@') {
        true => waxwing_types::Address::parse(name).is_ok_and(|address| !address.has_no_domain()),
        false => waxwing_types::Address::new("x", name).is_ok_and(|address| !address.has_no_domain()),
    }
}

fn check_name_exists(reader: &mut ConfigReader<'_>, path: &str, what: &str, name: &str, known: &[&str]) {
    if known.contains(&name) {
        return;
    }
    let advice = match closest_match(name, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("there are {}", known.join(", ")),
    };
    reader.error_at(path, format!("there is no {what} \"{name}\""), advice);
}
