//! Why a plugin is not loaded, each in a sentence for the operator.

use std::io;
use std::path::PathBuf;

/// Why a plugin is not loaded. An error keeps the version in service that was there before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine does not start.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The directory of compiled plugins cannot be trusted: loading from it would run what others wrote.
    #[error("the directory of compiled plugins {path} cannot be used: {reason}", path = path.display())]
    CacheDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory of compiled plugins cannot be read or written.
    #[error("the directory of compiled plugins {path}: {source}", path = path.display())]
    CacheFile {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a component, or one that does not compile.
    #[error("plugin \"{plugin}\" is not a component that can be run: {reason}")]
    NotAComponent {
        /// The plugin.
        plugin: String,
        /// What the compiler said.
        reason: String,
    },
    /// Text, an archive, a program.
    #[error("plugin \"{plugin}\" is not a WebAssembly file; give the component that the build has made, usually a file .wasm")]
    NotWebAssembly {
        /// The plugin.
        plugin: String,
    },
    /// What compilers make before it is wrapped.
    #[error(
        "plugin \"{plugin}\" is a core module, not a component; wrap it with the contract's types, as `wasm-tools component new` does"
    )]
    CoreModule {
        /// The plugin.
        plugin: String,
    },
    /// Built for another version of the contract.
    #[error(
        "plugin \"{plugin}\" was built for version {theirs} of waxwing:mail (it names {name}), and this server speaks version {ours}; \
         build it again with the contract of this server"
    )]
    OtherVersion {
        /// The plugin.
        plugin: String,
        /// The import or export that says so.
        name: String,
        /// Its version.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// An import that the configuration does not grant.
    #[error("plugin \"{plugin}\" imports {import}, which is not granted; add {line} under [plugins.{plugin}.grants]")]
    NotGranted {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
        /// The line of configuration that would grant it.
        line: &'static str,
    },
    /// A hook that the configuration does not grant.
    #[error("plugin \"{plugin}\" exports {hook}, which is not granted; add {line} under [plugins.{plugin}.grants]")]
    HookNotGranted {
        /// The plugin.
        plugin: String,
        /// The hook.
        hook: String,
        /// The line of configuration that would grant it.
        line: &'static str,
    },
    /// An import of the contract that this version of the server does not serve.
    #[error(
        "plugin \"{plugin}\" imports {import}, which this version of the server has not implemented yet; build it without that, or use a \
         later server"
    )]
    ImportNotImplemented {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// An interface of WASI that is not served.
    #[error(
        "plugin \"{plugin}\" imports {import}, which is not served: of WASI there are io, clocks, random, cli, filesystem and sockets, \
         version 0.2; for HTTP import waxwing:mail/http"
    )]
    WasiNotServed {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// An import that is not of the contract.
    #[error("plugin \"{plugin}\" imports {import}, which is part of neither waxwing:mail nor WASI: plugins get nothing else")]
    UnknownImport {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// An export of the contract that this version of the server does not call.
    #[error(
        "plugin \"{plugin}\" exports {hook}, and the hook {hook} is not implemented yet in this version of the server; \
         build it without that hook, or use a later server"
    )]
    HookNotImplemented {
        /// The plugin.
        plugin: String,
        /// The hook.
        hook: String,
    },
    /// An export that no hook has.
    #[error("plugin \"{plugin}\" exports {export}, which is no hook of waxwing:mail; correct its name, or leave it out")]
    UnknownExport {
        /// The plugin.
        plugin: String,
        /// The export.
        export: String,
    },
    /// Nothing would ever be called.
    #[error("plugin \"{plugin}\" exports no hook, so it would never be called; export one of waxwing:mail, as on-message")]
    NoHook {
        /// The plugin.
        plugin: String,
    },
    /// A table is granted that is not there.
    #[error("plugin \"{plugin}\" is granted the table \"{table}\", and the server has no such table")]
    NoSuchTable {
        /// The plugin.
        plugin: String,
        /// The table.
        table: String,
    },
    /// The imports or exports have other types than the contract.
    #[error("plugin \"{plugin}\" does not fit the contract: {reason}; build it again with the contract of this server")]
    Mismatch {
        /// The plugin.
        plugin: String,
        /// What the engine said.
        reason: String,
    },
    /// `on-load` said no.
    #[error("plugin \"{plugin}\" does not want to be loaded: {reason}")]
    Refused {
        /// The plugin.
        plugin: String,
        /// Its words.
        reason: String,
    },
    /// The first instance or `on-load` ended in a fault.
    #[error("plugin \"{plugin}\" failed while it was loaded: {reason}")]
    Failed {
        /// The plugin.
        plugin: String,
        /// The fault.
        reason: String,
    },
    /// Keys of the plugin's table that `on-load` did not read.
    #[error("plugin \"{plugin}\" does not know the key {keys} under [plugins.{plugin}.config]", keys = quoted(keys))]
    UnreadKeys {
        /// The plugin.
        plugin: String,
        /// The keys.
        keys: Vec<String>,
    },
}

fn quoted(keys: &[String]) -> String {
    keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ")
}
