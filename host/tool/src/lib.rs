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
mod command;
mod component;
mod config;
mod control_client;
mod error;
mod formatting;
mod options;
mod paths;
mod plugin;
mod plugin_new;
mod plugin_run;
mod plugin_test;
mod queue;
mod reload;
mod replay;
mod simulation;
mod tls;
mod trace;
mod user;

pub use command::{CommandContext, ConfigCommand, PluginCommand, QueueCommand, ToolCommand};
pub use component::BuiltinPlugins;
pub use control_client::ControlClient;
pub use error::{ToolError, UserCommandError};
pub use options::GlobalOptions;
pub use paths::{CONFIG_FILE, ROOT_DEV_DIR, SYSTEM_CONFIG, config_file, control_socket, dev_dir};
pub use plugin_run::{DevArgs, RunArgs, ServerRunner};
pub use plugin_test::TestArgs;
pub use replay::ReplayArgs;
pub use simulation::{CommandReply, HookCost, QueuedMessage, Simulate, TestCase, TestResult, TestSetup, TransactionOutcome};
pub use user::{UserChangeArgs, UserCommand, UserSourceArgs};
