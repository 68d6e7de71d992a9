//! Import check: compares a component's imports and exports with the contract, with the features of this server and with the
//! configured grants.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use waxwing_pipeline::{Hook, HookSet};

use crate::error::PluginLoadError;
use crate::settings::{MessageAccess, PluginSettings};

/// Package name of the contract.
pub(crate) const PACKAGE: &str = "waxwing:mail/";
/// Version of the contract served by this server.
const VERSION: (u64, u64, u64) = (0, 1, 0);
const VERSION_TEXT: &str = "0.1.0";

/// Hooks of the contract that are not implemented yet.
const UNIMPLEMENTED_HOOKS: [&str; 1] = ["on-file"];

/// Host interfaces of the contract that are not implemented yet.
const UNIMPLEMENTED_IMPORTS: [&str; 2] = ["process", "credentials"];

/// Prefix of WASI interfaces.
const WASI_PREFIX: &str = "wasi:";
/// Served interfaces of WASI 0.2, for guests whose language runtime always imports them. Linked by `wasi.rs`, where the
/// restrictions are described.
const WASI_SERVED: [&str; 27] = [
    "cli/environment",
    "cli/exit",
    "cli/stderr",
    "cli/stdin",
    "cli/stdout",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stderr",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
    "sockets/instance-network",
    "sockets/ip-name-lookup",
    "sockets/network",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
];

/// Checks whether a name is a served interface of WASI 0.2.
fn is_served_wasi(name: &str) -> bool {
    let Some((interface, version)) = name.strip_prefix(WASI_PREFIX).and_then(|name| name.split_once('@')) else { return false };
    let patch = version.strip_prefix("0.2.").unwrap_or_default();
    WASI_SERVED.contains(&interface) && !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit())
}

/// Checks whether the server calls a hook.
pub(crate) fn is_implemented(hook: Hook) -> bool {
    !UNIMPLEMENTED_HOOKS.contains(&hook.as_str())
}

/// Host interface of the contract that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostInterface {
    Log,
    Config,
    Transaction,
    Metrics,
    Action,
    Message,
    Content,
    Edit,
    Lookup,
    Kv,
    Dns,
    Http,
    Submit,
    Clock,
    Random,
}

impl HostInterface {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "log" => Self::Log,
            "config" => Self::Config,
            "transaction" => Self::Transaction,
            "metrics" => Self::Metrics,
            "action" => Self::Action,
            "message" => Self::Message,
            "content" => Self::Content,
            "edit" => Self::Edit,
            "lookup" => Self::Lookup,
            "kv" => Self::Kv,
            "dns" => Self::Dns,
            "http" => Self::Http,
            "submit" => Self::Submit,
            "clock" => Self::Clock,
            "random" => Self::Random,
            _ => return None,
        })
    }

    /// Returns the interface of an import by full name, whatever the version.
    pub(crate) fn from_import(import: &str) -> Option<Self> {
        let rest = import.strip_prefix(PACKAGE)?;
        Self::from_name(rest.split_once('@').map_or(rest, |(name, _)| name))
    }

    /// Returns the missing configuration line, if the interface is not granted.
    fn missing_grant(self, settings: &PluginSettings) -> Option<&'static str> {
        let grants = &settings.grants;
        match self {
            Self::Log | Self::Config | Self::Transaction | Self::Metrics | Self::Action => None,
            Self::Message => (grants.message < MessageAccess::Headers).then_some("message = \"headers\""),
            Self::Content => (grants.message < MessageAccess::Full).then_some("message = \"full\""),
            Self::Edit => (!grants.edit).then_some("edit = true"),
            Self::Lookup => grants.lookup.is_empty().then_some("lookup = [\"NAME-OF-A-TABLE\"]"),
            Self::Kv => grants.kv.is_none().then_some("kv = true"),
            Self::Dns => grants.dns.is_empty().then_some("dns = true"),
            Self::Http => grants.http.is_empty().then_some("http = [\"https://HOST/PATH/\"]"),
            Self::Submit => (!grants.submit).then_some("submit = true"),
            Self::Clock => (!grants.clock).then_some("clock = true"),
            Self::Random => (!grants.random).then_some("random = true"),
        }
    }
}

/// Imports and exports of a component, all granted and implemented.
pub(crate) struct ComponentInterfaces {
    pub(crate) imports: Vec<HostInterface>,
    pub(crate) hooks: HookSet,
    pub(crate) on_load: bool,
    pub(crate) imports_config: bool,
    /// Whether the component imports any WASI interface.
    pub(crate) imports_wasi: bool,
}

/// Reads and checks the imports and exports of a component.
pub(crate) fn check_component(
    engine: &Engine,
    component: &Component,
    settings: &PluginSettings,
) -> Result<ComponentInterfaces, PluginLoadError> {
    let plugin = || settings.name.clone();
    let types = component.component_type();
    let (mut imports, mut wasi) = (Vec::new(), false);
    for (name, _) in types.imports(engine) {
        if name.starts_with(WASI_PREFIX) {
            if !is_served_wasi(name) {
                return Err(PluginLoadError::WasiNotServed { plugin: plugin(), import: name.to_owned() });
            }
            wasi = true;
            continue;
        }
        let Some(interface) = contract_interface(name, settings)? else {
            return Err(PluginLoadError::UnknownImport { plugin: plugin(), import: name.to_owned() });
        };
        // The interface `types` has no functions and needs no linking.
        if interface == "types" {
            continue;
        }
        match HostInterface::from_name(interface) {
            Some(granted) => match granted.missing_grant(settings) {
                None => imports.push(granted),
                Some(line) => return Err(PluginLoadError::NotGranted { plugin: plugin(), import: name.to_owned(), line }),
            },
            None if UNIMPLEMENTED_IMPORTS.contains(&interface) => {
                return Err(PluginLoadError::ImportNotImplemented { plugin: plugin(), import: name.to_owned() });
            }
            None => return Err(PluginLoadError::UnknownImport { plugin: plugin(), import: name.to_owned() }),
        }
    }
    let (mut hooks, mut on_load) = (HookSet::default(), false);
    for (name, export) in types.exports(engine) {
        if is_componentize_py_init(engine, name, &export.ty) {
            continue;
        }
        let hook = contract_interface(name, settings)?;
        match hook.map(|name| (name, Hook::from_name(name))) {
            Some((_, Some(hook @ (Hook::OnAuth | Hook::OnCredentials)))) if !settings.grants.credentials => {
                let line = "credentials = true";
                return Err(PluginLoadError::HookNotGranted { plugin: plugin(), hook: hook.as_str().to_owned(), line });
            }
            Some((hook, Some(_))) if UNIMPLEMENTED_HOOKS.contains(&hook) => {
                return Err(PluginLoadError::HookNotImplemented { plugin: plugin(), hook: hook.to_owned() });
            }
            Some((_, Some(hook))) => hooks = hooks.with(hook),
            Some(("on-load", None)) => on_load = true,
            Some((hook, None)) if UNIMPLEMENTED_HOOKS.contains(&hook) => {
                return Err(PluginLoadError::HookNotImplemented { plugin: plugin(), hook: hook.to_owned() });
            }
            Some((_, None)) | None => return Err(PluginLoadError::UnknownExport { plugin: plugin(), export: name.to_owned() }),
        }
    }
    if hooks == HookSet::default() {
        return Err(PluginLoadError::NoHook { plugin: plugin() });
    }
    if let Some(table) = settings.grants.lookup.iter().find(|t| !settings.tables.contains_key(*t)) {
        return Err(PluginLoadError::NoSuchTable { plugin: plugin(), table: table.clone() });
    }
    let config = imports.contains(&HostInterface::Config);
    Ok(ComponentInterfaces { imports, hooks, on_load, imports_config: config, imports_wasi: wasi })
}

/// Recognises the export `exports` with the function `init`, which componentize-py uses to start Python at build time and
/// leaves in the component. The server never calls the function. Only this exact interface is accepted; any other export that
/// is no hook is an error.
fn is_componentize_py_init(engine: &Engine, name: &str, item: &ComponentItem) -> bool {
    let ComponentItem::ComponentInstance(interface) = item else { return false };
    let mut started = false;
    name == "exports"
        && interface.exports(engine).all(|(name, export)| match export.ty {
            ComponentItem::Type(_) => true,
            ComponentItem::ComponentFunc(function) => {
                started = true;
                name == "init" && function.params().map(|(name, _)| name).eq(["app-name", "symbols", "stub-wasi"])
            }
            ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::ComponentInstance(_)
            | ComponentItem::Resource(_) => false,
        })
        && started
}

/// Returns the interface name if the import or export belongs to the contract. A version other than the server's is an error,
/// except an older patch version of 0.1.
fn contract_interface<'n>(name: &'n str, settings: &PluginSettings) -> Result<Option<&'n str>, PluginLoadError> {
    let Some(rest) = name.strip_prefix(PACKAGE) else { return Ok(None) };
    let Some((interface, version)) = rest.split_once('@') else { return Ok(Some(rest)) };
    let numbers: Vec<u64> = version.split('.').map_while(|n| n.parse().ok()).collect();
    let fits = matches!(*numbers, [major, minor, patch] if (major, minor) == (VERSION.0, VERSION.1) && patch <= VERSION.2);
    if fits {
        return Ok(Some(interface));
    }
    Err(PluginLoadError::OtherVersion {
        plugin: settings.name.clone(),
        name: name.to_owned(),
        theirs: version.to_owned(),
        ours: VERSION_TEXT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS_WIT: &str = include_str!("../../../wit/mail/0.1.0/hooks.wit");

    #[test]
    fn knows_every_hook_of_the_contract() {
        let in_contract = HOOKS_WIT.lines().filter_map(|l| l.strip_prefix("interface ")).filter_map(|l| l.split(' ').next());
        let mut in_contract: Vec<&str> = in_contract.collect();
        let mut known: Vec<&str> = Hook::ALL.iter().map(|h| h.as_str()).chain(UNIMPLEMENTED_HOOKS).chain(["on-load"]).collect();
        in_contract.sort_unstable();
        known.sort_unstable();
        known.dedup();
        assert_eq!(in_contract, known);
    }

    #[test]
    fn knows_the_wasi_that_is_served() {
        assert!(is_served_wasi("wasi:io/poll@0.2.6") && is_served_wasi("wasi:cli/stdout@0.2.0"));
        for other in ["wasi:io/poll", "wasi:io/poll@0.3.0", "wasi:io/poll@0.2.0-rc", "wasi:http/types@0.2.0", "wasi:io/poll@0.2."]
        {
            assert!(!is_served_wasi(other), "{other}");
        }
    }

    #[test]
    fn tells_versions_apart() {
        let settings = PluginSettings::new("x");
        assert_eq!(contract_interface("waxwing:mail/log@0.1.0", &settings).unwrap(), Some("log"));
        assert_eq!(contract_interface("wasi:io/poll@0.2.6", &settings).unwrap(), None);
        for other in ["0.1.1", "0.2.0", "1.0.0", "0.1", "zero"] {
            let error = contract_interface(&format!("waxwing:mail/log@{other}"), &settings).unwrap_err().to_string();
            assert!(
                error.contains(&format!("version {other} of waxwing:mail")) && error.contains("speaks version 0.1.0"),
                "{error}"
            );
        }
    }
}
