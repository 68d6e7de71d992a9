//! Command `waxwing plugin run`: a test server with one plugin.

use std::path::PathBuf;

use toml::{Table, Value};
use waxwing_config::DevPorts;

use crate::ToolError;
use crate::component::{BuiltinPlugins, ComponentSource};
use crate::options::GlobalOptions;
use crate::simulation::setup::{self, PluginArgs};

/// Default distance between the SMTP port and the submission port.
const SUBMISSION_PORT_OFFSET: u16 = 62;

/// Arguments of `waxwing dev`.
#[derive(clap::Args, Clone, Debug)]
pub struct DevArgs {
    /// Directory for all data [default: $XDG_DATA_HOME/waxwing-dev or ~/.local/share/waxwing-dev; for root /var/lib/waxwing-dev]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Port for mail from other servers; 0 takes any free port
    #[arg(long, value_name = "PORT", default_value_t = DevPorts::default().smtp)]
    pub smtp_port: u16,
    /// Port for mail from users [default: 62 above --smtp-port, by default 2587; any free port for 0]
    #[arg(long, value_name = "PORT")]
    pub submission_port: Option<u16>,
}

impl DevArgs {
    /// Returns the ports; the default submission port follows the SMTP port.
    #[must_use]
    pub fn ports(&self) -> DevPorts {
        let beside = if self.smtp_port == 0 { 0 } else { self.smtp_port.saturating_add(SUBMISSION_PORT_OFFSET) };
        DevPorts { smtp: self.smtp_port, submission: self.submission_port.unwrap_or(beside) }
    }
}

/// Arguments of `waxwing plugin run`.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// Component file; or builtin:NAME
    file: String,
    /// Reload the component when the file changes; the default, so the option has no effect
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    plugin: PluginArgs,
    #[command(flatten)]
    dev: DevArgs,
}

/// Runner of development servers.
pub trait ServerRunner {
    /// Runs `waxwing dev` with `extra_config` appended to the configuration until a signal arrives. Returns the exit code of the process.
    fn run_dev(&self, args: &DevArgs, extra_config: &str) -> Result<u8, ToolError>;
}

/// Runs the server until a signal arrives.
pub(crate) fn run(
    args: &RunArgs,
    options: &GlobalOptions,
    builtin: BuiltinPlugins,
    serve: &dyn ServerRunner,
) -> Result<(), ToolError> {
    if options.config.is_some() {
        let text = "plugin run makes a configuration of its own; add the plugin to yours and run `waxwing serve`";
        return Err(ToolError::Simulation(text.to_owned()));
    }
    let source = ComponentSource::parse(&args.file);
    // Inspected before the start, for an error message of one sentence.
    waxwing_sandbox::inspect(&source.name(), &source.read(builtin)?)?;
    match serve.run_dev(&args.dev, &plugin_config_toml(&source, &args.plugin, builtin)?)? {
        0 => Ok(()),
        code => Err(ToolError::ServerEnded(code)),
    }
}

fn plugin_config_toml(source: &ComponentSource, args: &PluginArgs, builtin: BuiltinPlugins) -> Result<String, ToolError> {
    let (name, section, tables) = setup::plugin_section(source, args, builtin)?;
    let plugins = Table::from_iter([(name, Value::Table(section))]);
    let mut table = Table::from_iter([("plugins".to_owned(), Value::Table(plugins))]);
    if !tables.is_empty() {
        table.insert("tables".to_owned(), Value::Table(tables));
    }
    toml::to_string(&table).map_err(|error| ToolError::Simulation(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(smtp_port: u16, submission_port: Option<u16>) -> DevArgs {
        DevArgs { dir: None, smtp_port, submission_port }
    }

    #[test]
    fn ports_move_together() {
        assert_eq!(args(2525, None).ports(), DevPorts::default());
        assert_eq!(args(4000, None).ports(), DevPorts { smtp: 4000, submission: 4062 });
        assert_eq!(args(0, None).ports(), DevPorts { smtp: 0, submission: 0 });
        assert_eq!(args(25, Some(587)).ports(), DevPorts { smtp: 25, submission: 587 });
    }

    #[test]
    fn the_plugin_becomes_a_section() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.wasm");
        let given = PluginArgs {
            grant: vec!["message=headers".into(), "lookup=[\"a\"]".into()],
            set: vec!["n=1".into()],
            ..PluginArgs::default()
        };
        let text = plugin_config_toml(&ComponentSource::File(file.clone()), &given, |_| None).unwrap();
        for part in ["[plugins.mine]\n", "[plugins.mine.grants]\n", "message = \"headers\"\n", "n = 1\n", "[tables.a]\n"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(text.contains(&file.display().to_string()));
    }
}
