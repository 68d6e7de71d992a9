//! Inspection of a component without running any code, for plugin authors.

use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel};
use waxwing_pipeline::{Hook, Table, TableError};

use crate::error::PluginLoadError;
use crate::imports;
use crate::linking::{self, ComponentInterfaces, HostInterface};
use crate::settings::{MessageAccess, PluginGrants, PluginSettings};
use crate::state::InstanceState;
use crate::wasi;

/// First bytes of every WebAssembly file.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer bytes of a core module.
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
/// Placeholder for a table name in a proposed configuration.
const PLACEHOLDER_TABLE: &str = "NAME-OF-A-TABLE";
/// Placeholder for a server URL in a proposed configuration.
const PLACEHOLDER_URL: &str = "https://HOST/PATH/";
/// Size in bytes of the store in a proposed configuration.
const PLACEHOLDER_KV_BYTES: u64 = 64 << 20;

/// Export names of hooks that need `credentials = true`.
const CREDENTIAL_HOOKS: [&str; 2] = ["/on-auth@", "/on-credentials@"];

/// Imports, exports and required grants of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Exported hooks, in the order of the path of a message.
    pub hooks: Vec<Hook>,
    /// Whether the component exports `on-load`.
    pub on_load: bool,
    /// Full names of all imports.
    pub imports: Vec<String>,
    /// Minimal grants for loading; a table name is a placeholder.
    pub grants: PluginGrants,
    /// Contract version that the component was built for.
    pub contract: String,
    /// Size of the component in bytes.
    pub size: usize,
}

impl Inspection {
    /// Returns the configuration lines under `[plugins.NAME.grants]`; empty if no grant is needed.
    #[must_use]
    pub fn grant_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.grants.message {
            MessageAccess::None => {}
            MessageAccess::Headers => lines.push("message = \"headers\"".to_owned()),
            MessageAccess::Full => lines.push("message = \"full\"".to_owned()),
        }
        if self.grants.edit {
            lines.push("edit = true".to_owned());
        }
        if !self.grants.lookup.is_empty() {
            lines.push(format!("lookup = [\"{PLACEHOLDER_TABLE}\"]"));
        }
        let more = [
            (self.grants.kv.is_some(), "kv = true".to_owned()),
            (!self.grants.dns.is_empty(), "dns = true".to_owned()),
            (!self.grants.http.is_empty(), format!("http = [\"{PLACEHOLDER_URL}\"]")),
            (self.grants.submit, "submit = true".to_owned()),
            (self.grants.clock, "clock = true".to_owned()),
            (self.grants.random, "random = true".to_owned()),
        ];
        lines.extend(more.into_iter().filter(|(wanted, _)| *wanted).map(|(_, line)| line));
        if self.grants.credentials {
            lines.push("credentials = true".to_owned());
        }
        lines
    }
}

/// Reads a component and compares imports and exports with the contract, without running any code. Checks that need an instance
/// (types of exports, result of `on-load`) are left to [`Sandbox::load`](crate::Sandbox::load). `name` is the plugin name for
/// error messages. Returns the first load error.
pub fn inspect(name: &str, source: &[u8]) -> Result<Inspection, PluginLoadError> {
    check_is_component(name, source)?;
    let mut config = Config::new();
    // Compiled only for inspection, hence without optimisation.
    config.cranelift_opt_level(OptLevel::None).concurrency_support(false);
    let engine = Engine::new(&config).map_err(|e| PluginLoadError::Engine(format!("{e:#}")))?;
    let broken = |e: wasmtime::Error| PluginLoadError::NotAComponent { plugin: name.to_owned(), reason: format!("{e:#}") };
    let component = Component::from_binary(&engine, source).map_err(broken)?;
    let types = component.component_type();
    let imports: Vec<String> = types.imports(&engine).map(|(import, _)| import.to_owned()).collect();
    let mut settings = PluginSettings::new(name);
    let exports: Vec<String> = types.exports(&engine).map(|(export, _)| export.to_owned()).collect();
    settings.grants = required_grants(&imports, &exports);
    for table in &settings.grants.lookup {
        settings.tables.insert(table.clone(), Arc::new(EmptyTable));
    }
    let interfaces = linking::check_component(&engine, &component, &settings)?;
    check_import_types(&engine, &component, &interfaces)
        .map_err(|e| PluginLoadError::Mismatch { plugin: name.to_owned(), reason: format!("{e:#}") })?;
    let names = imports.iter().map(String::as_str).chain(types.exports(&engine).map(|(export, _)| export));
    let contract = names
        .filter_map(|n| n.strip_prefix(linking::PACKAGE)?.rsplit_once('@'))
        .map(|(_, version)| version.to_owned())
        .next()
        .unwrap_or_default();
    Ok(Inspection {
        hooks: interfaces.hooks.iter().collect(),
        on_load: interfaces.on_load,
        imports,
        grants: settings.grants,
        contract,
        size: source.len(),
    })
}

/// Detects common wrong file types before the engine does, with clearer messages.
fn check_is_component(name: &str, source: &[u8]) -> Result<(), PluginLoadError> {
    let plugin = || name.to_owned();
    match source.strip_prefix(MAGIC) {
        None => Err(PluginLoadError::NotWebAssembly { plugin: plugin() }),
        Some(rest) if rest.starts_with(CORE_MODULE) => Err(PluginLoadError::CoreModule { plugin: plugin() }),
        Some(_) => Ok(()),
    }
}

fn required_grants(imports: &[String], exports: &[String]) -> PluginGrants {
    let mut grants = PluginGrants::default();
    for interface in imports.iter().filter_map(|import| HostInterface::from_import(import)) {
        match interface {
            HostInterface::Log
            | HostInterface::Config
            | HostInterface::Transaction
            | HostInterface::Metrics
            | HostInterface::Action => {}
            HostInterface::Message => grants.message = grants.message.max(MessageAccess::Headers),
            HostInterface::Content => grants.message = MessageAccess::Full,
            HostInterface::Edit => grants.edit = true,
            HostInterface::Lookup => grants.lookup = vec![PLACEHOLDER_TABLE.to_owned()],
            HostInterface::Kv => grants.kv = Some(PLACEHOLDER_KV_BYTES),
            HostInterface::Dns => grants.dns = vec!["*".to_owned()],
            HostInterface::Http => grants.http = vec![PLACEHOLDER_URL.to_owned()],
            HostInterface::Submit => grants.submit = true,
            HostInterface::Clock => grants.clock = true,
            HostInterface::Random => grants.random = true,
        }
    }
    grants.credentials = exports.iter().any(|export| CREDENTIAL_HOOKS.iter().any(|hook| export.contains(hook)));
    grants
}

/// Compares the types of all imports with the host's types.
fn check_import_types(engine: &Engine, component: &Component, interfaces: &ComponentInterfaces) -> wasmtime::Result<()> {
    let mut linker: Linker<InstanceState> = Linker::new(engine);
    for interface in &interfaces.imports {
        imports::link(&mut linker, *interface)?;
    }
    if interfaces.imports_wasi {
        wasi::link(&mut linker)?;
    }
    linker.instantiate_pre(component).map(drop)
}

/// Placeholder for a configured table; never queried.
struct EmptyTable;

#[async_trait]
impl Table for EmptyTable {
    async fn get(&self, _key: &str) -> Result<Option<String>, TableError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(source: &[u8]) -> String {
        inspect("x", source).unwrap_err().to_string()
    }

    #[test]
    fn wrong_files_are_told_apart() {
        assert!(sentence(b"#!/bin/sh").contains("not a WebAssembly file"));
        assert!(sentence(b"\0asm\x01\0\0\0").contains("core module"));
        assert!(sentence(b"\0asm\x0d\0\x01\0").contains("exports no hook"));
        assert!(sentence(b"\0asm\x0d\0\x01\0\xff\xff").contains("is not a component that can be run"));
    }

    #[test]
    fn the_greater_grant_includes_the_lesser() {
        let import = |name: &str| format!("waxwing:mail/{name}@0.1.0");
        let both = required_grants(&["log", "content", "message", "lookup"].map(import), &[]);
        assert_eq!((both.message, both.edit, both.lookup.len()), (MessageAccess::Full, false, 1));
        let less = required_grants(&["message", "edit"].map(import), &[import("on-auth")]);
        assert_eq!((less.message, less.edit, less.lookup.len()), (MessageAccess::Headers, true, 0));
        assert!(less.credentials && !both.credentials);
        assert_eq!(required_grants(&["wasi:io/poll@0.2.6".to_owned()], &[]).message, MessageAccess::None);
    }
}
