//! The commands of `waxwing` beside those that serve: they look at the queue, at traces, at plugins (and try them out), at the
//! configuration; one begins a plugin, and one changes the users.
//!
//! Owns: their arguments, how they find the server, how a person and a script (`--json`) read what they print; the files of a new plugin.
//! Uses: accounts (files of users, records of passwords), config, control, pipeline (the form of traces), sandbox (to look at a plugin), message (to compare headers), milter (to ask one
//! what it wants), the plugins' builder, types.
//! Used by: daemon, whose binary they are part of.
//! Never: a runtime (but for one question to a milter), the store (the server holds it and answers for it), a change of anything that the
//! server has, but for files of users. What is tried out is played by the daemon's parts, through [`Rehearse`].
//! Start reading at: [`Command::run`].
#![forbid(unsafe_code)]

mod check;
mod check_milter;
mod client;
mod command;
mod component;
mod config;
mod error;
mod locate;
mod new;
mod plugin;
mod queue;
mod rehearsal;
mod reload;
mod replay;
mod run;
mod text;
mod tls;
mod trace;
mod try_out;
mod user;

pub use client::Client;
pub use command::{Command, ConfigCommand, Options, PluginCommand, QueueCommand, Surroundings};
pub use component::Builtin;
pub use error::ToolError;
pub use locate::{CONFIG_FILE, ROOT_DEV_DIR, SYSTEM_CONFIG, config_file, dev_dir, socket};
pub use rehearsal::{Cast, Cost, Ending, Exchange, Performance, Queued, Rehearse, Scene};
pub use replay::ReplayArgs;
pub use run::{DevArgs, RunArgs, Serve};
pub use try_out::TestArgs;
pub use user::{ChangeArgs, PlaceArgs, UserCommand, UserCommandError};
