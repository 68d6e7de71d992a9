//! The commands of `waxwing` beside those that serve: they look at the queue, at traces, at plugins, at the configuration; and one begins a
//! plugin.
//!
//! Owns: their arguments, how they find the server, how a person and a script (`--json`) read what they print; the files of a new plugin.
//! Uses: config, control, pipeline (the form of traces), the plugins' builder, types.
//! Used by: daemon, whose binary they are part of.
//! Never: a runtime, the store (the server holds it and answers for it), a change of anything that the server has.
//! Start reading at: [`Command::run`].
#![forbid(unsafe_code)]

mod client;
mod command;
mod config;
mod error;
mod locate;
mod new;
mod plugin;
mod queue;
mod text;
mod trace;

pub use client::Client;
pub use command::{Command, ConfigCommand, Options, PluginCommand, QueueCommand};
pub use error::ToolError;
pub use locate::{CONFIG_FILE, ROOT_DEV_DIR, SYSTEM_CONFIG, config_file, dev_dir, socket};
