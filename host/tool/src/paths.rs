//! Paths of the configuration and of the control socket.

use std::path::{Path, PathBuf};

use waxwing_config::{Config, HostEnvironment};

use crate::{GlobalOptions, ToolError};

/// Configuration file of an installed server.
pub const SYSTEM_CONFIG: &str = "/etc/waxwing/waxwing.toml";
/// Name of the configuration file written by `waxwing dev`.
pub const CONFIG_FILE: &str = "waxwing.toml";

/// Data directory of `waxwing dev` for root.
pub const ROOT_DEV_DIR: &str = "/var/lib/waxwing-dev";

/// Returns the data directory of `waxwing dev`: `$XDG_DATA_HOME/waxwing-dev` or `~/.local/share/waxwing-dev`; without a home directory,
/// below the directory for temporary files. For root [`ROOT_DEV_DIR`], since the run-as user of the server may not enter the home directory
/// of root.
#[must_use]
pub fn dev_dir() -> PathBuf {
    if HostEnvironment::from_system().is_root {
        return PathBuf::from(ROOT_DEV_DIR);
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    data.unwrap_or_else(std::env::temp_dir).join("waxwing-dev")
}

/// Returns the configuration file: the `--config` option, else the system's file, else the file of `waxwing dev`. Error: `NoConfig`.
pub fn config_file(options: &GlobalOptions) -> Result<PathBuf, ToolError> {
    match &options.config {
        Some(file) => Ok(file.clone()),
        None => first_existing(vec![PathBuf::from(SYSTEM_CONFIG), dev_dir().join(CONFIG_FILE)]),
    }
}

fn first_existing(tried: Vec<PathBuf>) -> Result<PathBuf, ToolError> {
    match tried.iter().find(|path| path.exists()) {
        Some(file) => Ok(file.clone()),
        None => Err(ToolError::NoConfig { tried }),
    }
}

/// Returns the control socket: the `--socket` option, else from the configuration. Errors: `NoConfig`, `Config`.
pub fn control_socket(options: &GlobalOptions) -> Result<PathBuf, ToolError> {
    match &options.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(load_config(&config_file(options)?)?.control_socket()),
    }
}

/// Loads the configuration without the checks of the run-as user, since a command only reads and does not start the server.
pub(crate) fn load_config(file: &Path) -> Result<Config, ToolError> {
    Ok(Config::load(file, &HostEnvironment { is_root: false, ..HostEnvironment::from_system() })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_exists_is_taken_and_all_are_named_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let error = first_existing(vec![one.clone(), two.clone()]).unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("two") && error.contains("--config"), "{error}");
        std::fs::write(&two, "").unwrap();
        assert_eq!(first_existing(vec![one.clone(), two.clone()]).unwrap(), two);
        std::fs::write(&one, "").unwrap();
        assert_eq!(first_existing(vec![one.clone(), two]).unwrap(), one);
    }

    #[test]
    fn options_win() {
        let options = GlobalOptions { config: Some("a.toml".into()), socket: Some("s".into()), json: false };
        assert_eq!(config_file(&options).unwrap(), Path::new("a.toml"));
        assert_eq!(control_socket(&options).unwrap(), Path::new("s"));
    }

    #[test]
    fn the_socket_is_the_one_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "queue_directory = \"q\"\n[control]\nsocket = \"here\"\n").unwrap();
        let options = GlobalOptions { config: Some(file.clone()), socket: None, json: false };
        assert_eq!(control_socket(&options).unwrap(), dir.path().join("here"));
        std::fs::write(&file, "nonsense_key = 1\n").unwrap();
        assert!(control_socket(&options).unwrap_err().to_string().contains("nonsense_key"));
    }
}
