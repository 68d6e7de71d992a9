//! Command line: parses the arguments, runs the server or a tool command, prints errors, sets the exit code.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use waxwing_config::{Config, ConfigError, HostEnvironment};
use waxwing_tool::{CommandContext, DevArgs, GlobalOptions, ServerRunner, ToolError};
use waxwing_types::Clock;

use crate::clock::SystemClock;
use crate::simulation::Simulator;
use crate::{dev, run};

/// A mail server whose every decision a WebAssembly component can take.
#[derive(Parser, Debug)]
#[command(name = "waxwing", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand, Debug)]
enum CliCommand {
    /// Run the server
    Serve,
    /// Run a server to try things out: no root, no DNS, a demo user
    Dev(DevArgs),
    #[command(flatten)]
    Tool(waxwing_tool::ToolCommand),
}

/// Parses the arguments, runs the command and returns the exit code of the process.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let clock = SystemClock::start();
    let result = match &cli.command {
        CliCommand::Serve => serve_file(&cli.options, clock),
        CliCommand::Dev(args) => dev::run(args, "", clock),
        CliCommand::Tool(tool) => run_tool(tool, &cli.options, clock),
    };
    let code = |error: &anyhow::Error| match (&cli.command, error.downcast_ref::<ToolError>()) {
        (CliCommand::Tool(tool), Some(error)) => ExitCode::from(tool.exit_code(error)),
        (CliCommand::Serve | CliCommand::Dev(_) | CliCommand::Tool(_), _) => ExitCode::FAILURE,
    };
    result.unwrap_or_else(|error| {
        // A failed write is ignored: standard error is closed, and no other channel is left.
        let _ = writeln!(std::io::stderr(), "{}", format_error(&error));
        code(&error)
    })
}

fn serve_file(options: &GlobalOptions, clock: SystemClock) -> anyhow::Result<ExitCode> {
    let file = waxwing_tool::config_file(options)?;
    let config = Config::load(&file, &HostEnvironment::from_system())?;
    run::run(run::RunOptions { config: Arc::new(config), file, clock, on_ready: Box::new(|_| {}) })
}

fn run_tool(tool: &waxwing_tool::ToolCommand, options: &GlobalOptions, clock: SystemClock) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let around = CommandContext {
        now: clock.now(),
        builtin_plugins: waxwing_bundle::standard_component,
        simulator: &Simulator { clock },
        server_runner: &DevServer { clock },
    };
    let result = tool.run(options, &around, &mut out);
    // Output printed before an error is part of the result.
    match out.flush().map_err(ToolError::from).and(result) {
        Err(error) if !error.is_broken_pipe() => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Runs a server in the process for tool commands such as `waxwing plugin run`.
struct DevServer {
    clock: SystemClock,
}

impl ServerRunner for DevServer {
    fn run_dev(&self, args: &DevArgs, more: &str) -> Result<u8, ToolError> {
        match dev::run(args, more, self.clock) {
            Ok(code) if code == ExitCode::SUCCESS => Ok(0),
            Ok(_) => Ok(run::EXIT_TEMPFAIL),
            Err(error) => Err(ToolError::Simulation(format_error(&error).trim_start_matches("waxwing: ").to_owned())),
        }
    }
}

/// Formats an error for the terminal: configuration diagnostics with the source lines at fault, every other error as a single line.
fn format_error(error: &anyhow::Error) -> String {
    let load = match error.downcast_ref::<ToolError>() {
        Some(ToolError::Config(load)) => Some(load),
        Some(_) | None => error.downcast_ref::<ConfigError>(),
    };
    match load {
        Some(ConfigError::Invalid(mistakes)) => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            mistakes.render(colour).trim_end().to_owned()
        }
        Some(ConfigError::Read { .. }) | None => format!("waxwing: {}", waxwing_plugins::error_chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn reads_arguments() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["waxwing", "serve", "--config", "x.toml"]).unwrap();
        assert!(matches!(cli.command, CliCommand::Serve) && cli.options.config == Some("x.toml".into()));
        assert!(Cli::try_parse_from(["waxwing", "dev", "--dir", "/x", "--smtp-port", "0"]).is_ok());
        assert!(Cli::try_parse_from(["waxwing", "queue", "list", "--json"]).is_ok());
        assert!(Cli::try_parse_from(["waxwing", "--json"]).is_err());
    }

    #[test]
    fn mistakes_are_shown_with_their_lines() {
        let facts = HostEnvironment { hostname: "h.example".into(), is_root: false, path_exists: |_| false };
        let mistakes = Config::parse("w.toml".as_ref(), "hopcount_limt = 5\n", &facts).unwrap_err();
        let error = anyhow::Error::from(ToolError::from(ConfigError::from(mistakes)));
        let text = format_error(&error);
        assert!(text.contains("w.toml:1:1: error:") && text.contains("hopcount_limit"), "{text}");
        let error = anyhow::Error::msg("no luck").context("no luck at all: no luck").context("today");
        assert_eq!(format_error(&error), "waxwing: today: no luck at all: no luck");
    }
}
