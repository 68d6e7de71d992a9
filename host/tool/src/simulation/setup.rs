//! Configuration of a simulation: the server's configuration with one plugin replaced, or a minimal configuration with a mailbox for every
//! address and no other plugin.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use waxwing_config::{BUILTIN_PLUGINS, CONFIG_BYTES_MAX, Config, ConfigError, HostEnvironment, PluginConfig};
use waxwing_sandbox::inspect;
use waxwing_types::Address;

use super::TestSetup;
use crate::ToolError;
use crate::component::{BuiltinPlugins, ComponentSource, read_bounded_file};

/// Arguments for the configuration section of the plugin.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PluginArgs {
    /// Name of the plugin [default: from the file name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Setting of the plugin; the value is TOML, or else text
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// TOML file with the settings of the plugin
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Grant, as under [plugins.NAME.grants]: message=headers, edit; `none` for no grants [default: the imports of the plugin]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) grant: Vec<String>,
    /// Limit, as under [plugins.NAME.limits]: time=1s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) limit: Vec<String>,
    /// Table for lookups of the plugin: a={ key = "value" }, or a=texthash:/path; other granted tables are empty
    #[arg(long, value_name = "NAME=TABLE")]
    pub(crate) table: Vec<String>,
}

impl PluginArgs {
    fn overrides_section(&self) -> bool {
        !(self.set.is_empty() && self.grant.is_empty() && self.limit.is_empty() && self.settings.is_none())
    }
}

/// Builds a minimal configuration: all clients may relay, the domains of `recipients` are local, and all of their addresses exist.
pub(crate) fn isolated(
    source: &ComponentSource,
    args: &PluginArgs,
    recipients: &[String],
    builtin: BuiltinPlugins,
) -> Result<TestSetup, ToolError> {
    let (name, section, tables) = plugin_section(source, args, builtin)?;
    let mut plugins = Table::new();
    for other in BUILTIN_PLUGINS {
        plugins.insert((*other).to_owned(), Value::Table(Table::from_iter([("enabled".to_owned(), false.into())])));
    }
    plugins.insert(name.clone(), Value::Table(section));
    let domains: BTreeSet<String> = recipients
        .iter()
        .filter_map(|r| Address::parse(r).ok())
        .filter(|a| !a.has_no_domain())
        .map(|a| a.domain().to_owned())
        .collect();
    let mut domains: Vec<String> = domains.into_iter().collect();
    domains.push("waxwing.test".to_owned());
    domains.dedup();
    let mailboxes = domains.iter().map(|d| (format!("@{d}"), Value::String("everybody/".to_owned())));
    let mut table = Table::new();
    for (key, value) in [
        ("myhostname", Value::String("mail.waxwing.test".to_owned())),
        ("myorigin", Value::String("waxwing.test".to_owned())),
        ("mydestination", Value::Array(Vec::new())),
        ("mynetworks", ["0.0.0.0/1", "128.0.0.0/1", "[::]/1", "[8000::]/1"].map(String::from).to_vec().into()),
        ("virtual_mailbox_maps", Value::Table(mailboxes.collect())),
        ("virtual_mailbox_domains", domains.into()),
        ("alias_maps", Value::Array(Vec::new())),
        ("tables", Value::Table(tables)),
        ("plugins", Value::Table(plugins)),
    ] {
        table.insert(key.to_owned(), value);
    }
    let text = toml::to_string(&table).map_err(|e| ToolError::Simulation(e.to_string()))?;
    let config = Config::parse(Path::new("(made for the test)"), &text, &system_environment()).map_err(ConfigError::from)?;
    Ok(TestSetup { config, plugin: name })
}

/// Returns the plugin's name, configuration section and lookup tables.
pub(crate) fn plugin_section(
    source: &ComponentSource,
    args: &PluginArgs,
    builtin: BuiltinPlugins,
) -> Result<(String, Table, Table), ToolError> {
    let name = args.name.clone().unwrap_or_else(|| source.name());
    let section = build_section(source, &name, args, builtin)?;
    let tables = build_tables(&section, args)?;
    Ok((name, section, tables))
}

/// Loads the server's configuration and replaces the plugin of the same name, or appends the plugin.
pub(crate) fn replacing_in_file(
    source: &ComponentSource,
    args: &PluginArgs,
    file: &Path,
    builtin: BuiltinPlugins,
) -> Result<TestSetup, ToolError> {
    let config = Config::load(file, &system_environment())?;
    replacing(source, args, config, builtin)
}

/// Replaces the plugin of the same name in a loaded configuration, or appends the plugin.
pub(crate) fn replacing(
    source: &ComponentSource,
    args: &PluginArgs,
    mut config: Config,
    builtin: BuiltinPlugins,
) -> Result<TestSetup, ToolError> {
    let name = args.name.clone().unwrap_or_else(|| source.name());
    match config.plugins.iter_mut().find(|plugin| plugin.name == name) {
        Some(plugin) => {
            if args.overrides_section() {
                apply_args(plugin, plugin_from_args(source, args, &name, builtin)?, args);
            }
            plugin.enabled = true;
            match source {
                ComponentSource::Builtin(_) => (plugin.file, plugin.builtin) = (None, true),
                ComponentSource::File(file) => (plugin.file, plugin.builtin) = (Some(absolute(file)?), false),
            }
        }
        None => config.plugins.push(plugin_from_args(source, args, &name, builtin)?),
    }
    Ok(TestSetup { config, plugin: name })
}

/// Overrides the configuration of a plugin by the given arguments.
fn apply_args(plugin: &mut PluginConfig, given: PluginConfig, args: &PluginArgs) {
    if args.settings.is_some() {
        plugin.config.clear();
    }
    plugin.config.extend(given.config);
    if !args.grant.is_empty() {
        plugin.grants = given.grants;
    }
    if !args.limit.is_empty() {
        plugin.limits = given.limits;
    }
}

/// Builds the plugin configuration from the arguments alone.
fn plugin_from_args(
    source: &ComponentSource,
    args: &PluginArgs,
    name: &str,
    builtin: BuiltinPlugins,
) -> Result<PluginConfig, ToolError> {
    let args = PluginArgs { name: Some(name.to_owned()), ..args.clone() };
    let setup = isolated(source, &args, &[], builtin)?;
    let plugin_config = setup.config.plugins.into_iter().find(|plugin| plugin.name == name);
    plugin_config.ok_or_else(|| ToolError::Simulation(format!("\"{name}\" is not a valid plugin name")))
}

fn build_section(source: &ComponentSource, name: &str, args: &PluginArgs, builtin: BuiltinPlugins) -> Result<Table, ToolError> {
    let mut section = Table::new();
    match source {
        ComponentSource::Builtin(_) => {}
        ComponentSource::File(file) => {
            section.insert("file".to_owned(), absolute(file)?.display().to_string().into());
            section.insert("builtin".to_owned(), false.into());
        }
    }
    let grants = match args.grant.as_slice() {
        [] => required_grants(source, name, builtin)?,
        [none] if none == "none" => Table::new(),
        given => parse_key_values("--grant", given, true)?,
    };
    if !grants.is_empty() {
        section.insert("grants".to_owned(), grants.into());
    }
    section.insert("limits".to_owned(), parse_key_values("--limit", &args.limit, false)?.into());
    let mut settings = match &args.settings {
        Some(file) => {
            let text = String::from_utf8_lossy(&read_bounded_file(file, CONFIG_BYTES_MAX)?).into_owned();
            text.parse::<Table>().map_err(|e| ToolError::Simulation(format!("{}: {}", file.display(), e.message())))?
        }
        None => Table::new(),
    };
    settings.extend(parse_key_values("--set", &args.set, false)?);
    section.insert("config".to_owned(), settings.into());
    Ok(section)
}

/// Returns the given tables, and an empty table for each other table granted to the plugin.
fn build_tables(section: &Table, args: &PluginArgs) -> Result<Table, ToolError> {
    let mut tables = parse_key_values("--table", &args.table, false)?;
    let granted = section.get("grants").and_then(|grants| grants.get("lookup")).and_then(Value::as_array);
    for name in granted.into_iter().flatten().filter_map(Value::as_str).filter(|name| !name.ends_with("_maps")) {
        tables.entry(name.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    }
    Ok(tables)
}

/// Returns grants for all imports of the component. A built-in plugin has default grants in the configuration.
fn required_grants(source: &ComponentSource, name: &str, builtin: BuiltinPlugins) -> Result<Table, ToolError> {
    if matches!(source, ComponentSource::Builtin(_)) {
        return Ok(Table::new());
    }
    let inspection = inspect(name, &source.read(builtin)?).map_err(|e| ToolError::Simulation(e.to_string()))?;
    let lines = inspection.grant_lines().join("\n");
    lines.parse::<Table>().map_err(|e| ToolError::Simulation(e.to_string()))
}

/// Parses `key=value` arguments; with `flags`, a key alone has the value `true`.
fn parse_key_values(option: &str, given: &[String], flags: bool) -> Result<Table, ToolError> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), parse_value(value.trim()))),
            None if flags => Ok((text.trim().to_owned(), true.into())),
            Some(_) | None => Err(ToolError::Simulation(format!("{option} {text:?}: give KEY=VALUE"))),
        })
        .collect()
}

/// Parses a TOML value; other text becomes a string.
fn parse_value(text: &str) -> Value {
    let read = format!("value = {text}\n").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn system_environment() -> HostEnvironment {
    HostEnvironment { is_root: false, ..HostEnvironment::from_system() }
}

fn absolute(file: &Path) -> Result<PathBuf, ToolError> {
    std::path::absolute(file).map_err(|error| ToolError::File { file: file.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use waxwing_config::MessageGrantConfig;

    use super::*;

    fn args(set: &[&str], grant: &[&str]) -> PluginArgs {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        PluginArgs { set: list(set), grant: list(grant), ..PluginArgs::default() }
    }

    #[test]
    fn arguments_become_a_section() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cleanup.wasm");
        std::fs::write(&file, "x").unwrap();
        let source = ComponentSource::File(file.clone());
        let given = args(&["n=5", "text=a = b", "list=[\"x\"]"], &["message=full", "edit"]);
        let cast = isolated(&source, &given, &["a@b.example".into(), "bare".into()], |_| None).unwrap();
        assert_eq!(cast.plugin, "cleanup");
        let on: Vec<&PluginConfig> = cast.config.plugins.iter().filter(|p| p.enabled).collect();
        assert_eq!(on.len(), 1, "nobody else plays");
        assert_eq!(on[0].file.as_deref(), Some(&*file));
        assert_eq!((on[0].grants.message, on[0].grants.edit), (MessageGrantConfig::Full, true));
        assert_eq!(serde_json::to_string(&on[0].config).unwrap(), r#"{"list":["x"],"n":5,"text":"a = b"}"#);
        assert_eq!(cast.config.domains.virtual_mailbox_domains, ["b.example", "waxwing.test"]);
    }

    #[test]
    fn mistakes_are_told() {
        let source = ComponentSource::Builtin("cleanup".into());
        let told = |args: PluginArgs| isolated(&source, &args, &[], |_| None).unwrap_err().to_string();
        assert!(told(args(&["novalue"], &[])).contains("give KEY=VALUE"));
        assert!(told(args(&[], &["massage=full"])).contains("massage"));
    }

    #[test]
    fn one_plugin_of_a_configuration_is_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (config, new) = (dir.path().join("w.toml"), dir.path().join("new.wasm"));
        std::fs::write(&new, "x").unwrap();
        std::fs::write(&config, "[plugins.spam]\nfile = \"new.wasm\"\non_fault = \"skip\"\n[plugins.spam.config]\nk = 1\n")
            .unwrap();
        let source = ComponentSource::File(new.clone());
        let named = PluginArgs { name: Some("spam".into()), ..PluginArgs::default() };
        let cast = replacing_in_file(&source, &named, &config, |_| None).unwrap();
        let spam = cast.config.plugins.iter().find(|p| p.name == "spam").unwrap();
        assert_eq!(spam.on_fault, waxwing_config::OnFaultConfig::Skip, "its place is as it was");
        assert_eq!(cast.config.plugins.len(), 3, "with the built-in ones");
        let set = PluginArgs { name: Some("spam".into()), ..args(&["k=2", "l=3"], &["none"]) };
        let cast = replacing_in_file(&source, &set, &config, |_| None).unwrap();
        let spam = cast.config.plugins.iter().find(|p| p.name == "spam").unwrap();
        assert_eq!(serde_json::to_string(&spam.config).unwrap(), r#"{"k":2,"l":3}"#);
        assert_eq!(spam.on_fault, waxwing_config::OnFaultConfig::Skip);
        let more = replacing_in_file(&source, &args(&[], &["none"]), &config, |_| None).unwrap();
        assert_eq!(more.config.plugins.last().unwrap().name, "new");
    }
}
