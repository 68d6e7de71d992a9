//! Load errors of plugins, each with a message for the operator.

use std::io;
use std::path::PathBuf;

/// Failure to load a plugin. On an error the version in service stays in service.
#[derive(Debug, thiserror::Error)]
pub enum PluginLoadError {
    /// Engine failed to start.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// Cache directory untrusted: loading from the directory would execute code written by other users.
    #[error("the directory of compiled plugins {path} cannot be used: {reason}", path = path.display())]
    CacheDirectory {
        /// Path of the directory.
        path: PathBuf,
        /// Reason of the refusal.
        reason: String,
    },
    /// Cache directory unreadable or unwritable.
    #[error("the directory of compiled plugins {path}: {source}", path = path.display())]
    CacheFile {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// File that is not a component, or does not compile.
    #[error("plugin \"{plugin}\" is not a component that can be run: {reason}")]
    NotAComponent {
        /// Name of the plugin.
        plugin: String,
        /// Message of the compiler.
        reason: String,
    },
    /// File that is not WebAssembly: text, an archive, a native program.
    #[error("plugin \"{plugin}\" is not a WebAssembly file; give the component that the build has made, usually a file .wasm")]
    NotWebAssembly {
        /// Name of the plugin.
        plugin: String,
    },
    /// Core module, the compiler output before `wasm-tools component new`.
    #[error(
        "plugin \"{plugin}\" is a core module, not a component; wrap it with the contract's types, as `wasm-tools component new` does"
    )]
    CoreModule {
        /// Name of the plugin.
        plugin: String,
    },
    /// Component built for another version of the contract.
    #[error(
        "plugin \"{plugin}\" was built for version {theirs} of waxwing:mail (it names {name}), and this server speaks version {ours}; \
         build it again with the contract of this server"
    )]
    OtherVersion {
        /// Name of the plugin.
        plugin: String,
        /// Import or export with the version.
        name: String,
        /// Version of the plugin.
        theirs: String,
        /// Version of the server.
        ours: &'static str,
    },
    /// Import that the configuration does not grant.
    #[error("plugin \"{plugin}\" imports {import}, which is not granted; add {line} under [plugins.{plugin}.grants]")]
    NotGranted {
        /// Name of the plugin.
        plugin: String,
        /// Name of the import.
        import: String,
        /// Configuration line that grants the import.
        line: &'static str,
    },
    /// Hook that the configuration does not grant.
    #[error("plugin \"{plugin}\" exports {hook}, which is not granted; add {line} under [plugins.{plugin}.grants]")]
    HookNotGranted {
        /// Name of the plugin.
        plugin: String,
        /// Name of the hook.
        hook: String,
        /// Configuration line that grants the hook.
        line: &'static str,
    },
    /// Import of the contract that this server does not implement yet.
    #[error(
        "plugin \"{plugin}\" imports {import}, which this version of the server has not implemented yet; build it without that, or use a \
         later server"
    )]
    ImportNotImplemented {
        /// Name of the plugin.
        plugin: String,
        /// Name of the import.
        import: String,
    },
    /// WASI interface that is not served.
    #[error(
        "plugin \"{plugin}\" imports {import}, which is not served: of WASI there are io, clocks, random, cli, filesystem and sockets, \
         version 0.2; for HTTP import waxwing:mail/http"
    )]
    WasiNotServed {
        /// Name of the plugin.
        plugin: String,
        /// Name of the import.
        import: String,
    },
    /// Import outside the contract.
    #[error("plugin \"{plugin}\" imports {import}, which is part of neither waxwing:mail nor WASI: plugins get nothing else")]
    UnknownImport {
        /// Name of the plugin.
        plugin: String,
        /// Name of the import.
        import: String,
    },
    /// Hook of the contract that this server does not implement yet.
    #[error(
        "plugin \"{plugin}\" exports {hook}, and the hook {hook} is not implemented yet in this version of the server; \
         build it without that hook, or use a later server"
    )]
    HookNotImplemented {
        /// Name of the plugin.
        plugin: String,
        /// Name of the hook.
        hook: String,
    },
    /// Export that is no hook of the contract.
    #[error("plugin \"{plugin}\" exports {export}, which is no hook of waxwing:mail; correct its name, or leave it out")]
    UnknownExport {
        /// Name of the plugin.
        plugin: String,
        /// Name of the export.
        export: String,
    },
    /// Component without a hook, which would never be called.
    #[error("plugin \"{plugin}\" exports no hook, so it would never be called; export one of waxwing:mail, as on-message")]
    NoHook {
        /// Name of the plugin.
        plugin: String,
    },
    /// Grant of a table that does not exist.
    #[error("plugin \"{plugin}\" is granted the table \"{table}\", and the server has no such table")]
    NoSuchTable {
        /// Name of the plugin.
        plugin: String,
        /// Name of the table.
        table: String,
    },
    /// Imports or exports with other types than the contract.
    #[error("plugin \"{plugin}\" does not fit the contract: {reason}; build it again with the contract of this server")]
    Mismatch {
        /// Name of the plugin.
        plugin: String,
        /// Message of the engine.
        reason: String,
    },
    /// Plugin refused by its own `on-load`.
    #[error("plugin \"{plugin}\" does not want to be loaded: {reason}")]
    Refused {
        /// Name of the plugin.
        plugin: String,
        /// Reason given by `on-load`.
        reason: String,
    },
    /// Fault in the first instance or in `on-load`.
    #[error("plugin \"{plugin}\" failed while it was loaded: {reason}")]
    Failed {
        /// Name of the plugin.
        plugin: String,
        /// Description of the fault.
        reason: String,
    },
    /// Configuration keys of the plugin that `on-load` did not read.
    #[error("plugin \"{plugin}\" does not know the key {keys} under [plugins.{plugin}.config]", keys = quoted(keys))]
    UnreadKeys {
        /// Name of the plugin.
        plugin: String,
        /// Names of the keys.
        keys: Vec<String>,
    },
}

fn quoted(keys: &[String]) -> String {
    keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ")
}
