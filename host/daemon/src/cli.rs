//! Command line: parses the arguments, runs the server or a tool command, prints errors, sets the exit code.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use waxwing_config::{Config, Facts, LoadError};
use waxwing_tool::{DevArgs, Options, Serve, Surroundings, ToolError};
use waxwing_types::Clock;

use crate::clock::SystemClock;
use crate::rehearsal::Stage;
use crate::{dev, plugins, serve};

/// A mail server whose every decision a WebAssembly component can take.
#[derive(Parser, Debug)]
#[command(name = "waxwing", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server
    Serve,
    /// Run a server to try things out: no root, no DNS, a demo user
    Dev(DevArgs),
    #[command(flatten)]
    Tool(waxwing_tool::Command),
}

/// Parses the arguments, runs the command and returns the exit code of the process.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let clock = SystemClock::start();
    let result = match &cli.command {
        Command::Serve => serve_file(&cli.options, clock),
        Command::Dev(args) => dev::run(args, "", clock),
        Command::Tool(tool) => print(tool, &cli.options, clock),
    };
    let code = |error: &anyhow::Error| match (&cli.command, error.downcast_ref::<ToolError>()) {
        (Command::Tool(tool), Some(error)) => ExitCode::from(tool.exit_code(error)),
        (Command::Serve | Command::Dev(_) | Command::Tool(_), _) => ExitCode::FAILURE,
    };
    result.unwrap_or_else(|error| {
        // A failed write is ignored: standard error is closed, and no other channel is left.
        let _ = writeln!(std::io::stderr(), "{}", explain(&error));
        code(&error)
    })
}

fn serve_file(options: &Options, clock: SystemClock) -> anyhow::Result<ExitCode> {
    let file = waxwing_tool::config_file(options)?;
    let config = Config::load(&file, &Facts::from_system())?;
    serve::run(serve::Start { config: Arc::new(config), file, clock, at_hand: Box::new(|_| {}) })
}

fn print(tool: &waxwing_tool::Command, options: &Options, clock: SystemClock) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let around =
        Surroundings { now: clock.now(), builtin: waxwing_bundle::standard, stage: &Stage { clock }, serve: &Server { clock } };
    let result = tool.run(options, &around, &mut out);
    // Output printed before an error is part of the result.
    match out.flush().map_err(ToolError::from).and(result) {
        Err(error) if !error.is_broken_pipe() => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Runs a server in the process for tool commands such as `waxwing plugin run`.
struct Server {
    clock: SystemClock,
}

impl Serve for Server {
    fn dev(&self, args: &DevArgs, more: &str) -> Result<u8, ToolError> {
        match dev::run(args, more, self.clock) {
            Ok(code) if code == ExitCode::SUCCESS => Ok(0),
            Ok(_) => Ok(serve::EXIT_FAILED),
            Err(error) => Err(ToolError::Rehearsal(explain(&error).trim_start_matches("waxwing: ").to_owned())),
        }
    }
}

/// Formats an error for the terminal: configuration diagnostics with the source lines at fault, every other error as a single line.
fn explain(error: &anyhow::Error) -> String {
    let load = match error.downcast_ref::<ToolError>() {
        Some(ToolError::Config(load)) => Some(load),
        Some(_) | None => error.downcast_ref::<LoadError>(),
    };
    match load {
        Some(LoadError::Mistakes(mistakes)) => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            mistakes.render(colour).trim_end().to_owned()
        }
        Some(LoadError::Read { .. }) | None => format!("waxwing: {}", plugins::in_one_line(error)),
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
        assert!(matches!(cli.command, Command::Serve) && cli.options.config == Some("x.toml".into()));
        assert!(Cli::try_parse_from(["waxwing", "dev", "--dir", "/x", "--smtp-port", "0"]).is_ok());
        assert!(Cli::try_parse_from(["waxwing", "queue", "list", "--json"]).is_ok());
        assert!(Cli::try_parse_from(["waxwing", "--json"]).is_err());
    }

    #[test]
    fn mistakes_are_shown_with_their_lines() {
        let facts = Facts { hostname: "h.example".into(), root: false, exists: |_| false };
        let mistakes = Config::parse("w.toml".as_ref(), "hopcount_limt = 5\n", &facts).unwrap_err();
        let error = anyhow::Error::from(ToolError::from(LoadError::from(mistakes)));
        let text = explain(&error);
        assert!(text.contains("w.toml:1:1: error:") && text.contains("hopcount_limit"), "{text}");
        let error = anyhow::Error::msg("no luck").context("no luck at all: no luck").context("today");
        assert_eq!(explain(&error), "waxwing: today: no luck at all: no luck");
    }
}
