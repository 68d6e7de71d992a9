//! Plugins of the configuration: loads and binds them in configuration order, reloads files, keeps versions.
//!
//! Owns: the translation of `[plugins.NAME]` to settings of sandbox, milter and pipeline; versions, canaries and
//! rollback; the polling of component files; tables served by plugins; the services behind the plugin contract.
//! Uses: accounts, config, control, milter, net, pipeline, sandbox, spool, state, store, types, web.
//! Used by: admin, daemon.
//! Never: calls a hook, except to look up a table; a change of the configuration; a control connection.
//! Start reading at: [`load`], then [`PluginManager`] and `versions.rs`.
#![forbid(unsafe_code)]

mod error;
mod file_watcher;
mod load;
mod loader;
mod manager;
mod reload;
mod services;
mod settings;
mod tables;
mod versions;

pub use error::error_chain;
pub use load::{LoadedPlugins, load, sandbox_settings};
pub use loader::BuiltinLookup;
pub use manager::PluginManager;
pub use reload::StagedReload;
pub use services::{ServiceInput, open_services};
