//! What a component is, told without running it: for those who write plugins.

use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel};
use waxwing_pipeline::{Hook, Table, TableError};

use crate::check::{self, Interface};
use crate::error::LoadError;
use crate::host;
use crate::settings::{Grants, MessageGrant, PluginSettings};
use crate::state::State;

/// The first octets of every WebAssembly file.
const MAGIC: &[u8] = b"\0asm";
/// What follows in a core module.
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
/// What a configuration has until the operator names a table.
const SOME_TABLE: &str = "NAME-OF-A-TABLE";

/// Hooks that need `credentials = true`, as they stand in the name of an export.
const CREDENTIAL_HOOKS: [&str; 2] = ["/on-auth@", "/on-credentials@"];

/// What a component offers and wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The hooks that it exports, in the order of a message's way.
    pub hooks: Vec<Hook>,
    /// It has a say when it is loaded.
    pub on_load: bool,
    /// What it imports, by full names.
    pub imports: Vec<String>,
    /// The least grants that it can be loaded with; a table's name is a placeholder.
    pub grants: Grants,
    /// The version of the contract that it was built for.
    pub contract: String,
    /// Octets of the component.
    pub size: usize,
}

impl Inspection {
    /// The lines of configuration under `[plugins.NAME.grants]`; none if it needs no grant.
    #[must_use]
    pub fn grant_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.grants.message {
            MessageGrant::None => {}
            MessageGrant::Headers => lines.push("message = \"headers\"".to_owned()),
            MessageGrant::Full => lines.push("message = \"full\"".to_owned()),
        }
        if self.grants.edit {
            lines.push("edit = true".to_owned());
        }
        if !self.grants.lookup.is_empty() {
            lines.push(format!("lookup = [\"{SOME_TABLE}\"]"));
        }
        if self.grants.credentials {
            lines.push("credentials = true".to_owned());
        }
        lines
    }
}

/// Reads a component and compares it with the contract. Nothing of it runs: what only shows in an instance (the types of exports,
/// what `on-load` says) is left to [`Sandbox::load`](crate::Sandbox::load). `name` is the plugin's in the errors.
pub fn inspect(name: &str, source: &[u8]) -> Result<Inspection, LoadError> {
    is_component(name, source)?;
    let mut config = Config::new();
    // Compiled only to be looked at.
    config.cranelift_opt_level(OptLevel::None).concurrency_support(false);
    let engine = Engine::new(&config).map_err(|e| LoadError::Engine(format!("{e:#}")))?;
    let broken = |e: wasmtime::Error| LoadError::NotAComponent { plugin: name.to_owned(), reason: format!("{e:#}") };
    let component = Component::from_binary(&engine, source).map_err(broken)?;
    let types = component.component_type();
    let imports: Vec<String> = types.imports(&engine).map(|(import, _)| import.to_owned()).collect();
    let mut settings = PluginSettings::new(name);
    let exports: Vec<String> = types.exports(&engine).map(|(export, _)| export.to_owned()).collect();
    settings.grants = least_grants(&imports, &exports);
    for table in &settings.grants.lookup {
        settings.tables.insert(table.clone(), Arc::new(NoTable));
    }
    let interfaces = check::interfaces(&engine, &component, &settings)?;
    fits(&engine, &component, &interfaces.imports)
        .map_err(|e| LoadError::Mismatch { plugin: name.to_owned(), reason: format!("{e:#}") })?;
    let names = imports.iter().map(String::as_str).chain(types.exports(&engine).map(|(export, _)| export));
    let contract = names.filter_map(|n| n.rsplit_once('@')).map(|(_, version)| version.to_owned()).next().unwrap_or_default();
    Ok(Inspection {
        hooks: interfaces.hooks.iter().collect(),
        on_load: interfaces.on_load,
        imports,
        grants: settings.grants,
        contract,
        size: source.len(),
    })
}

/// Tells the usual wrong files from components, before the engine does so in its own words.
fn is_component(name: &str, source: &[u8]) -> Result<(), LoadError> {
    let plugin = || name.to_owned();
    match source.strip_prefix(MAGIC) {
        None => Err(LoadError::NotWebAssembly { plugin: plugin() }),
        Some(rest) if rest.starts_with(CORE_MODULE) => Err(LoadError::CoreModule { plugin: plugin() }),
        Some(_) => Ok(()),
    }
}

fn least_grants(imports: &[String], exports: &[String]) -> Grants {
    let mut grants = Grants::default();
    for interface in imports.iter().filter_map(|import| Interface::of_import(import)) {
        match interface {
            Interface::Log | Interface::Config | Interface::Transaction | Interface::Metrics | Interface::Action => {}
            Interface::Message => grants.message = grants.message.max(MessageGrant::Headers),
            Interface::Content => grants.message = MessageGrant::Full,
            Interface::Edit => grants.edit = true,
            Interface::Lookup => grants.lookup = vec![SOME_TABLE.to_owned()],
        }
    }
    grants.credentials = exports.iter().any(|export| CREDENTIAL_HOOKS.iter().any(|hook| export.contains(hook)));
    grants
}

/// Compares the types of all imports with the host's.
fn fits(engine: &Engine, component: &Component, imports: &[Interface]) -> wasmtime::Result<()> {
    let mut linker: Linker<State> = Linker::new(engine);
    for interface in imports {
        host::link(&mut linker, *interface)?;
    }
    linker.instantiate_pre(component).map(drop)
}

/// Stands for a table of the operator's; nobody asks it.
struct NoTable;

#[async_trait]
impl Table for NoTable {
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
        let both = least_grants(&["log", "content", "message", "lookup"].map(import), &[]);
        assert_eq!((both.message, both.edit, both.lookup.len()), (MessageGrant::Full, false, 1));
        let less = least_grants(&["message", "edit"].map(import), &[import("on-auth")]);
        assert_eq!((less.message, less.edit, less.lookup.len()), (MessageGrant::Headers, true, 0));
        assert!(less.credentials && !both.credentials);
        assert_eq!(least_grants(&["wasi:io/poll@0.2.6".to_owned()], &[]).message, MessageGrant::None);
    }
}
