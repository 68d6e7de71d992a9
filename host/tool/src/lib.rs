//! Administration commands of `waxwing`: queue, traces, metrics, plugins, configuration, TLS certificates, users.
//!
//! Owns: the arguments of the commands, the search for the server, output as text and as JSON (`--json`); the files of a new plugin.
//! Uses: accounts, builder, config, control, message, milter, net, pipeline, sandbox, types.
//! Used by: daemon.
//! Never: a runtime (except for the probe of a milter), the store (only the server opens the store), a change of server data except user
//! files. Simulated transactions run in the daemon, behind [`Simulate`].
//! Start reading at: [`ToolCommand::run`].
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
