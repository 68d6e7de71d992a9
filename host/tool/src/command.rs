//! Command line of the administration commands.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use waxwing_config::HostEnvironment;
use waxwing_control::{ControlRequest, TRACE_LAST_MAX};
use waxwing_types::{QueueId, Timestamp};

use crate::component::{BuiltinPlugins, ComponentSource};
use crate::options::GlobalOptions;
use crate::plugin_run::{self, RunArgs, ServerRunner};
use crate::plugin_test::{self, TestArgs};
use crate::replay::{self, ReplayArgs};
use crate::simulation::Simulate;
use crate::user::UserCommand;
use crate::{ControlClient, ToolError, check, check_milter, config, paths, plugin, plugin_new, queue, reload, tls, trace, user};

/// Administration commands of the binary.
#[derive(Subcommand, Clone, Debug)]
pub enum ToolCommand {
    /// Show the messages in the queue
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show the actions of every hook on a message, delivered or refused
    Trace {
        /// Queue id, from the server's reply or the log
        #[arg(required_unless_present = "last")]
        id: Option<QueueId>,
        /// Show the latest transactions instead
        #[arg(long, value_name = "NUMBER", conflicts_with = "id", value_parser = clap::value_parser!(u32).range(1..=i64::from(TRACE_LAST_MAX)))]
        last: Option<u32>,
    },
    /// Replay recorded transactions with another version of a plugin, and show the differences
    Replay(Box<ReplayArgs>),
    /// Show the plugins and change their versions
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Print the counters of the running server in the format of Prometheus
    Metrics,
    /// Reload the configuration of the running server without an interruption of mail
    Reload,
    /// Check and show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the TLS certificates
    #[command(subcommand)]
    Tls(TlsCommand),
    /// Add and remove users, change their passwords
    #[command(subcommand)]
    User(UserCommand),
}

/// Subcommands of `waxwing tls`.
#[derive(Subcommand, Clone, Debug)]
pub enum TlsCommand {
    /// Show the certificate and expiry of each port; fails for a broken or soon expiring certificate
    Show {
        /// Fail for certificates with an expiry within the given days
        #[arg(long, value_name = "NUMBER", default_value_t = 14)]
        days: u32,
    },
}

/// Subcommands of `waxwing queue`.
#[derive(Subcommand, Clone, Debug)]
pub enum QueueCommand {
    /// List the queued messages, with the last status of each recipient
    List {
        /// Stop after the given number of entries
        #[arg(long, value_name = "NUMBER")]
        limit: Option<u64>,
    },
    /// Show the details of a message, with the message header
    Show {
        /// Queue id of the message
        id: QueueId,
    },
}

/// Subcommands of `waxwing plugin`.
#[derive(Subcommand, Clone, Debug)]
pub enum PluginCommand {
    /// List the loaded plugins, with the number of calls of each hook
    List,
    /// Reload changed plugin files without an interruption of mail
    Reload {
        /// Reload only the named plugin
        name: Option<String>,
    },
    /// Undo the last change: remove the plugin's canary, or else restore the previous version
    Rollback {
        /// Name of the plugin in the configuration
        name: String,
    },
    /// Make the plugin's canary the version in service
    Promote {
        /// Name of the plugin in the configuration
        name: String,
    },
    /// Inspect a plugin file: hooks, imports, required grants
    Check {
        /// Component file; or builtin:NAME; or milter:inet:PORT@HOST, milter:unix:PATH
        file: String,
    },
    /// Send a message through a plugin as a server would, and show the result
    Test(Box<TestArgs>),
    /// Run a test server with a plugin, like `waxwing dev`
    Run(Box<RunArgs>),
    /// Create a folder with a small plugin, ready for a build with one command
    New(plugin_new::NewPluginArgs),
    /// Convert a compiled core module to a component, as in the build scripts of plugins in Rust and C
    Component {
        /// Core module to convert
        module: PathBuf,
        /// Component file to write
        component: PathBuf,
    },
}

/// Subcommands of `waxwing config`.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// Report every mistake in the file
    Check {
        /// File to check [default: that of --config]
        file: Option<PathBuf>,
    },
    /// Print the values in effect, without secrets
    Show {
        /// Print only the values set in the file
        #[arg(long)]
        given: bool,
        /// Print the configuration of the running server instead of the current file
        #[arg(long, conflicts_with = "given")]
        running: bool,
    },
}

/// Dependencies of the commands on the program.
pub struct CommandContext<'a> {
    /// Current time, for ages and expiry.
    pub now: Timestamp,
    /// Lookup of plugins built into the program.
    pub builtin_plugins: BuiltinPlugins,
    /// Simulator of transactions.
    pub simulator: &'a dyn Simulate,
    /// Runner of development servers.
    pub server_runner: &'a dyn ServerRunner,
}

impl ToolCommand {
    /// Returns the exit code of an error. `plugin test` returns 1 for an unexpected result and 2 for a failure of the test itself.
    #[must_use]
    pub fn exit_code(&self, error: &ToolError) -> u8 {
        if let ToolError::ServerEnded(code) = error {
            return *code;
        }
        let tries = matches!(self, Self::Plugin(PluginCommand::Test(_)));
        if tries && !matches!(error, ToolError::UnexpectedResult(_)) { 2 } else { 1 }
    }

    /// Runs the command and prints to `out`.
    pub fn run(&self, options: &GlobalOptions, context: &CommandContext<'_>, out: &mut dyn Write) -> Result<(), ToolError> {
        let now = context.now;
        let client = || ControlClient::connect(&paths::control_socket(options)?);
        match self {
            Self::Queue(QueueCommand::List { limit }) => queue::list(&mut client()?, *limit, options.json, now, out),
            Self::Queue(QueueCommand::Show { id }) => queue::show(&mut client()?, *id, options.json, now, out),
            Self::Trace { id: Some(id), last: _ } => trace::show(&mut client()?, *id, options.json, out),
            Self::Trace { id: None, last } => trace::show_latest(&mut client()?, last.unwrap_or(1), options.json, out),
            Self::Replay(args) => {
                replay::replay(&mut client()?, args, context.builtin_plugins, context.simulator, options.json, out)
            }
            Self::Plugin(PluginCommand::List) => plugin::list(&mut client()?, options.json, out),
            Self::Reload => reload::reload(&mut client()?, options.json, out),
            Self::Metrics => plugin::metrics(&mut client()?, options.json, out),
            Self::Plugin(PluginCommand::Reload { name }) => {
                plugin::request_change(&mut client()?, &ControlRequest::PluginReload { name: name.clone() }, options.json, out)
            }
            Self::Plugin(PluginCommand::Rollback { name }) => {
                plugin::request_change(&mut client()?, &ControlRequest::PluginRollback { name: name.clone() }, options.json, out)
            }
            Self::Plugin(PluginCommand::Promote { name }) => {
                plugin::request_change(&mut client()?, &ControlRequest::PluginPromote { name: name.clone() }, options.json, out)
            }
            Self::Plugin(PluginCommand::Check { file }) if let Some(address) = check_milter::milter_address(file) => {
                check_milter::check(address, options.json, out)
            }
            Self::Plugin(PluginCommand::Check { file }) => {
                check::check(&ComponentSource::parse(file), context.builtin_plugins, options.json, out)
            }
            Self::Plugin(PluginCommand::Test(args)) => {
                plugin_test::run_test(args, options, context.builtin_plugins, context.simulator, out)
            }
            Self::Plugin(PluginCommand::Run(args)) => {
                plugin_run::run(args, options, context.builtin_plugins, context.server_runner)
            }
            Self::Plugin(PluginCommand::New(args)) => plugin_new::create(args, out),
            Self::Plugin(PluginCommand::Component { module, component }) => plugin_new::write_component(module, component),
            Self::Config(ConfigCommand::Check { file }) => {
                let file = file.clone().map_or_else(|| paths::config_file(options), Ok)?;
                config::check(&file, &HostEnvironment::from_system(), options.json, out)
            }
            Self::Config(ConfigCommand::Show { given, running: false }) => {
                config::show(&paths::config_file(options)?, *given, options.json, out)
            }
            Self::Config(ConfigCommand::Show { given: _, running: true }) => {
                config::show_running(&mut client()?, options.json, out)
            }
            Self::User(command) => user::run(command, options, out),
            Self::Tls(TlsCommand::Show { days }) => {
                tls::show(&paths::config_file(options)?, client(), *days, options.json, now, out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: GlobalOptions,
        #[command(subcommand)]
        command: ToolCommand,
    }

    #[test]
    fn reads_arguments() {
        Cli::command().debug_assert();
        let id = QueueId::from_u64(77).to_string();
        let cli = Cli::try_parse_from(["waxwing", "trace", &id, "--json", "--config", "x"]).unwrap();
        assert!(cli.options.json && cli.options.config == Some("x".into()));
        assert!(matches!(cli.command, ToolCommand::Trace { id: Some(id), last: None } if id == QueueId::from_u64(77)));
        let cli = Cli::try_parse_from(["waxwing", "config", "check", "x.toml"]).unwrap();
        assert!(
            matches!(cli.command, ToolCommand::Config(ConfigCommand::Check { file: Some(file) }) if file == Path::new("x.toml"))
        );
        for good in [
            &["queue", "list"][..],
            &["config", "check"],
            &["config", "check", "--config", "x.toml"],
            &["trace", "--last", "3"],
            &["config", "show", "--given"],
            &["plugin", "list"],
            &["plugin", "reload"],
            &["plugin", "reload", "x"],
            &["plugin", "check", "p.wasm"],
            &["plugin", "new", "x", "--lang", "c"],
            &["metrics"],
            &["tls", "show", "--days", "30"],
            &["reload"],
            &["user", "add", "anna", "--no-scram"],
            &["user", "passwd", "anna", "--in", "file:/x"],
            &["user", "list"],
            &["user", "delete", "anna"],
        ] {
            assert!(Cli::try_parse_from([&["waxwing"], good].concat()).is_ok(), "{good:?}");
        }
        for bad in [
            &["queue"][..],
            &["trace"],
            &["trace", "not-an-id"],
            &["trace", "--last", "0"],
            &["queue", "show", "5"],
            &["plugin", "rollback"],
            &["plugin", "new", "x"],
            &["user", "add"],
        ] {
            assert!(Cli::try_parse_from([&["waxwing"], bad].concat()).is_err(), "{bad:?}");
        }
    }
}
