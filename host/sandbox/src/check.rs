//! What a component imports and exports, against what the contract knows, this server implements and the configuration grants.

use wasmtime::Engine;
use wasmtime::component::Component;
use waxwing_pipeline::{Hook, HookSet};

use crate::error::LoadError;
use crate::settings::{MessageGrant, PluginSettings};

/// The contract.
const PACKAGE: &str = "waxwing:mail/";
/// Its version here.
const VERSION: (u64, u64, u64) = (0, 1, 0);
const VERSION_TEXT: &str = "0.1.0";

/// Hooks of the contract that are not called yet.
const HOOKS_TO_COME: [&str; 4] = ["on-tls", "on-credentials", "on-auth", "on-file"];

/// Host interfaces of the contract that are not served yet.
const IMPORTS_TO_COME: [&str; 8] = ["kv", "dns", "http", "process", "submit", "clock", "random", "credentials"];

/// A host interface that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    Log,
    Config,
    Transaction,
    Metrics,
    Action,
    Message,
    Content,
    Edit,
    Lookup,
}

impl Interface {
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
            _ => return None,
        })
    }

    /// The interface behind an import's full name, whatever its version.
    pub(crate) fn of_import(import: &str) -> Option<Self> {
        let rest = import.strip_prefix(PACKAGE)?;
        Self::from_name(rest.split_once('@').map_or(rest, |(name, _)| name))
    }

    /// The line of configuration that is missing, if one is.
    fn missing_grant(self, settings: &PluginSettings) -> Option<&'static str> {
        let grants = &settings.grants;
        match self {
            Self::Log | Self::Config | Self::Transaction | Self::Metrics | Self::Action => None,
            Self::Message => (grants.message < MessageGrant::Headers).then_some("message = \"headers\""),
            Self::Content => (grants.message < MessageGrant::Full).then_some("message = \"full\""),
            Self::Edit => (!grants.edit).then_some("edit = true"),
            Self::Lookup => grants.lookup.is_empty().then_some("lookup = [\"NAME-OF-A-TABLE\"]"),
        }
    }
}

/// What a component wants and offers, all of it granted and implemented.
pub(crate) struct Interfaces {
    pub(crate) imports: Vec<Interface>,
    pub(crate) hooks: HookSet,
    pub(crate) on_load: bool,
    pub(crate) config: bool,
}

/// Reads and checks them.
pub(crate) fn interfaces(engine: &Engine, component: &Component, settings: &PluginSettings) -> Result<Interfaces, LoadError> {
    let plugin = || settings.name.clone();
    let types = component.component_type();
    let mut imports = Vec::new();
    for (name, _) in types.imports(engine) {
        let Some(interface) = of_contract(name, settings)? else {
            return Err(LoadError::UnknownImport { plugin: plugin(), import: name.to_owned() });
        };
        // The words that all interfaces share: types, no functions.
        if interface == "types" {
            continue;
        }
        match Interface::from_name(interface) {
            Some(known) => match known.missing_grant(settings) {
                None => imports.push(known),
                Some(line) => return Err(LoadError::NotGranted { plugin: plugin(), import: name.to_owned(), line }),
            },
            None if IMPORTS_TO_COME.contains(&interface) => {
                return Err(LoadError::ImportNotImplemented { plugin: plugin(), import: name.to_owned() });
            }
            None => return Err(LoadError::UnknownImport { plugin: plugin(), import: name.to_owned() }),
        }
    }
    let (mut hooks, mut on_load) = (HookSet::default(), false);
    for (name, _) in types.exports(engine) {
        let hook = of_contract(name, settings)?;
        match hook.map(|name| (name, Hook::from_name(name))) {
            Some((_, Some(hook @ (Hook::OnAuth | Hook::OnCredentials)))) if !settings.grants.credentials => {
                let line = "credentials = true";
                return Err(LoadError::HookNotGranted { plugin: plugin(), hook: hook.as_str().to_owned(), line });
            }
            Some((hook, Some(_))) if HOOKS_TO_COME.contains(&hook) => {
                return Err(LoadError::HookNotImplemented { plugin: plugin(), hook: hook.to_owned() });
            }
            Some((_, Some(hook))) => hooks = hooks.with(hook),
            Some(("on-load", None)) => on_load = true,
            Some((hook, None)) if HOOKS_TO_COME.contains(&hook) => {
                return Err(LoadError::HookNotImplemented { plugin: plugin(), hook: hook.to_owned() });
            }
            Some((_, None)) | None => return Err(LoadError::UnknownExport { plugin: plugin(), export: name.to_owned() }),
        }
    }
    if hooks == HookSet::default() {
        return Err(LoadError::NoHook { plugin: plugin() });
    }
    if let Some(table) = settings.grants.lookup.iter().find(|t| !settings.tables.contains_key(*t)) {
        return Err(LoadError::NoSuchTable { plugin: plugin(), table: table.clone() });
    }
    let config = imports.contains(&Interface::Config);
    Ok(Interfaces { imports, hooks, on_load, config })
}

/// The interface's name if it is of the contract. Another version than ours is an error, unless it differs in nothing that counts: a
/// 0.1 that is not younger.
fn of_contract<'n>(name: &'n str, settings: &PluginSettings) -> Result<Option<&'n str>, LoadError> {
    let Some(rest) = name.strip_prefix(PACKAGE) else { return Ok(None) };
    let Some((interface, version)) = rest.split_once('@') else { return Ok(Some(rest)) };
    let numbers: Vec<u64> = version.split('.').map_while(|n| n.parse().ok()).collect();
    let fits = matches!(*numbers, [major, minor, patch] if (major, minor) == (VERSION.0, VERSION.1) && patch <= VERSION.2);
    if fits {
        return Ok(Some(interface));
    }
    Err(LoadError::OtherVersion {
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
        let mut known: Vec<&str> = Hook::ALL.iter().map(|h| h.as_str()).chain(HOOKS_TO_COME).chain(["on-load"]).collect();
        in_contract.sort_unstable();
        known.sort_unstable();
        known.dedup();
        assert_eq!(in_contract, known);
    }

    #[test]
    fn tells_versions_apart() {
        let settings = PluginSettings::new("x");
        assert_eq!(of_contract("waxwing:mail/log@0.1.0", &settings).unwrap(), Some("log"));
        assert_eq!(of_contract("wasi:io/poll@0.2.6", &settings).unwrap(), None);
        for other in ["0.1.1", "0.2.0", "1.0.0", "0.1", "zero"] {
            let error = of_contract(&format!("waxwing:mail/log@{other}"), &settings).unwrap_err().to_string();
            assert!(
                error.contains(&format!("version {other} of waxwing:mail")) && error.contains("speaks version 0.1.0"),
                "{error}"
            );
        }
    }
}
