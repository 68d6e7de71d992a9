//! The commands and their arguments.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use waxwing_config::Facts;
use waxwing_control::{Request, TRACE_LAST_MAX};
use waxwing_types::{QueueId, Timestamp};

use crate::component::{Builtin, Source};
use crate::rehearsal::Rehearse;
use crate::replay::{self, ReplayArgs};
use crate::run::{self, RunArgs, Serve};
use crate::try_out::{self, TestArgs};
use crate::user::UserCommand;
use crate::{Client, ToolError, check, check_milter, config, locate, new, plugin, queue, reload, tls, trace, user};

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// The configuration file [default: /etc/waxwing/waxwing.toml, else that of `waxwing dev`]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The control socket of the running server [default: the one of the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON, one object for each line
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands that look, and those that change what runs.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Look at the messages in the queue
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show what every hook did to a message, delivered or refused
    Trace {
        /// The queue id, from the server's reply or the log
        #[arg(required_unless_present = "last")]
        id: Option<QueueId>,
        /// Show the latest transactions instead
        #[arg(long, value_name = "NUMBER", conflicts_with = "id", value_parser = clap::value_parser!(u32).range(1..=i64::from(TRACE_LAST_MAX)))]
        last: Option<u32>,
    },
    /// Take recorded transactions through another version of a plugin, and show what differs
    Replay(Box<ReplayArgs>),
    /// Look at the plugins and change their versions
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Print the counters of the running server, as Prometheus reads them
    Metrics,
    /// Have the running server read its configuration again, while mail goes on
    Reload,
    /// Check and show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the certificates
    #[command(subcommand)]
    Tls(TlsCommand),
    /// Add and remove users, change their passwords
    #[command(subcommand)]
    User(UserCommand),
}

/// `waxwing tls …`
#[derive(Subcommand, Clone, Debug)]
pub enum TlsCommand {
    /// Show what each port serves and when it expires; fails if something is broken or expires soon
    Show {
        /// What expires within so many days is a failure
        #[arg(long, value_name = "NUMBER", default_value_t = 14)]
        days: u32,
    },
}

/// `waxwing queue …`
#[derive(Subcommand, Clone, Debug)]
pub enum QueueCommand {
    /// List what waits, with the last words of each attempt
    List {
        /// Stop after so many entries
        #[arg(long, value_name = "NUMBER")]
        limit: Option<u64>,
    },
    /// Show all about one message, with its header
    Show {
        /// The queue id
        id: QueueId,
    },
}

/// `waxwing plugin …`
#[derive(Subcommand, Clone, Debug)]
pub enum PluginCommand {
    /// List the loaded plugins, each hook and how often it ran
    List,
    /// Load the files of the plugins again, if they have changed; mail goes on
    Reload {
        /// Only this plugin
        name: Option<String>,
    },
    /// Undo the last change: take the plugin's canary away, or else put the version before back
    Rollback {
        /// The plugin's name in the configuration
        name: String,
    },
    /// Put the plugin's canary in its place
    Promote {
        /// The plugin's name in the configuration
        name: String,
    },
    /// Look into a plugin's file: its hooks, what it imports, the grants that it needs
    Check {
        /// The component; or builtin:NAME; or milter:inet:PORT@HOST, milter:unix:PATH
        file: String,
    },
    /// Take one message through a plugin as a server would, and show what it did
    Test(Box<TestArgs>),
    /// Run a server to try things out, as `waxwing dev` does, with a plugin in it
    Run(Box<RunArgs>),
    /// Make a folder with a small plugin that builds with one command
    New(new::Args),
    /// Make a component of the module that a compiler wrote, as the build scripts of plugins in Rust and C do
    Component {
        /// The module
        module: PathBuf,
        /// The component to write
        component: PathBuf,
    },
}

/// `waxwing config …`
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// Find every mistake in the file
    Check,
    /// Print the values in effect, secrets left out
    Show {
        /// Only what the file gives
        #[arg(long)]
        given: bool,
        /// What the running server was started with, not what the file says now
        #[arg(long, conflicts_with = "given")]
        running: bool,
    },
}

/// What commands need of the program.
pub struct Surroundings<'a> {
    /// The time that ages count to.
    pub now: Timestamp,
    /// The plugins that are part of it.
    pub builtin: Builtin,
    /// Where transactions are played.
    pub stage: &'a dyn Rehearse,
    /// Who runs servers.
    pub serve: &'a dyn Serve,
}

impl Command {
    /// The exit code for an error: tests tell what is not as expected (1) from what could not be tried (2).
    #[must_use]
    pub fn exit_code(&self, error: &ToolError) -> u8 {
        if let ToolError::ServerEnded(code) = error {
            return *code;
        }
        let tries = matches!(self, Self::Plugin(PluginCommand::Test(_)));
        if tries && !matches!(error, ToolError::NotAsExpected(_)) { 2 } else { 1 }
    }

    /// Does it and prints to `out`.
    pub fn run(&self, options: &Options, around: &Surroundings<'_>, out: &mut dyn Write) -> Result<(), ToolError> {
        let now = around.now;
        let client = || Client::connect(&locate::socket(options)?);
        match self {
            Self::Queue(QueueCommand::List { limit }) => queue::list(&mut client()?, *limit, options.json, now, out),
            Self::Queue(QueueCommand::Show { id }) => queue::show(&mut client()?, *id, options.json, now, out),
            Self::Trace { id: Some(id), last: _ } => trace::of(&mut client()?, *id, options.json, out),
            Self::Trace { id: None, last } => trace::last(&mut client()?, last.unwrap_or(1), options.json, out),
            Self::Replay(args) => replay::replay(&mut client()?, args, around.builtin, around.stage, options.json, out),
            Self::Plugin(PluginCommand::List) => plugin::list(&mut client()?, options.json, out),
            Self::Reload => reload::reload(&mut client()?, options.json, out),
            Self::Metrics => plugin::metrics(&mut client()?, options.json, out),
            Self::Plugin(PluginCommand::Reload { name }) => {
                plugin::change(&mut client()?, &Request::PluginReload { name: name.clone() }, options.json, out)
            }
            Self::Plugin(PluginCommand::Rollback { name }) => {
                plugin::change(&mut client()?, &Request::PluginRollback { name: name.clone() }, options.json, out)
            }
            Self::Plugin(PluginCommand::Promote { name }) => {
                plugin::change(&mut client()?, &Request::PluginPromote { name: name.clone() }, options.json, out)
            }
            Self::Plugin(PluginCommand::Check { file }) if let Some(place) = check_milter::place(file) => {
                check_milter::check(place, options.json, out)
            }
            Self::Plugin(PluginCommand::Check { file }) => check::check(&Source::parse(file), around.builtin, options.json, out),
            Self::Plugin(PluginCommand::Test(args)) => try_out::test(args, options, around.builtin, around.stage, out),
            Self::Plugin(PluginCommand::Run(args)) => run::run(args, options, around.builtin, around.serve),
            Self::Plugin(PluginCommand::New(args)) => new::run(args, out),
            Self::Plugin(PluginCommand::Component { module, component }) => new::component(module, component),
            Self::Config(ConfigCommand::Check) => {
                config::check(&locate::config_file(options)?, &Facts::from_system(), options.json, out)
            }
            Self::Config(ConfigCommand::Show { given, running: false }) => {
                config::show(&locate::config_file(options)?, *given, options.json, out)
            }
            Self::Config(ConfigCommand::Show { given: _, running: true }) => config::running(&mut client()?, options.json, out),
            Self::User(command) => user::run(command, options, out),
            Self::Tls(TlsCommand::Show { days }) => {
                tls::show(&locate::config_file(options)?, client(), *days, options.json, now, out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn reads_arguments() {
        Cli::command().debug_assert();
        let id = QueueId::from_u64(77).to_string();
        let cli = Cli::try_parse_from(["waxwing", "trace", &id, "--json", "--config", "x"]).unwrap();
        assert!(cli.options.json && cli.options.config == Some("x".into()));
        assert!(matches!(cli.command, Command::Trace { id: Some(id), last: None } if id == QueueId::from_u64(77)));
        for good in [
            &["queue", "list"][..],
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
