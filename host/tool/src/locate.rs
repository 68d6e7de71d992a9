//! Where the configuration and the control socket are.

use std::path::{Path, PathBuf};

use waxwing_config::{Config, Facts};

use crate::{Options, ToolError};

/// The configuration of a server that was installed.
pub const SYSTEM_CONFIG: &str = "/etc/waxwing/waxwing.toml";
/// The name of the configuration that `waxwing dev` writes into its directory.
pub const CONFIG_FILE: &str = "waxwing.toml";

/// Where `waxwing dev` keeps everything when root starts it.
pub const ROOT_DEV_DIR: &str = "/var/lib/waxwing-dev";

/// Where `waxwing dev` keeps everything: `$XDG_DATA_HOME/waxwing-dev` or `~/.local/share/waxwing-dev`; without a home, in the
/// directory for temporary files. For root it is [`ROOT_DEV_DIR`], since the user that the server becomes may not enter root's
/// home.
#[must_use]
pub fn dev_dir() -> PathBuf {
    if Facts::from_system().root {
        return PathBuf::from(ROOT_DEV_DIR);
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    data.unwrap_or_else(std::env::temp_dir).join("waxwing-dev")
}

/// The configuration that a command means: that of the option, else the system's, else that of `waxwing dev`.
pub fn config_file(options: &Options) -> Result<PathBuf, ToolError> {
    match &options.config {
        Some(file) => Ok(file.clone()),
        None => first_there(vec![PathBuf::from(SYSTEM_CONFIG), dev_dir().join(CONFIG_FILE)]),
    }
}

fn first_there(tried: Vec<PathBuf>) -> Result<PathBuf, ToolError> {
    match tried.iter().find(|path| path.exists()) {
        Some(file) => Ok(file.clone()),
        None => Err(ToolError::NoConfig { tried }),
    }
}

/// The control socket that a command means: that of the option, else that of the configuration.
pub fn socket(options: &Options) -> Result<PathBuf, ToolError> {
    match &options.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(load(&config_file(options)?)?.control_socket()),
    }
}

/// For a command that looks it is no mistake that the server could not be started by this user.
pub(crate) fn load(file: &Path) -> Result<Config, ToolError> {
    Ok(Config::load(file, &Facts { root: false, ..Facts::from_system() })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_exists_is_taken_and_all_are_named_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let error = first_there(vec![one.clone(), two.clone()]).unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("two") && error.contains("--config"), "{error}");
        std::fs::write(&two, "").unwrap();
        assert_eq!(first_there(vec![one.clone(), two.clone()]).unwrap(), two);
        std::fs::write(&one, "").unwrap();
        assert_eq!(first_there(vec![one.clone(), two]).unwrap(), one);
    }

    #[test]
    fn options_win() {
        let options = Options { config: Some("a.toml".into()), socket: Some("s".into()), json: false };
        assert_eq!(config_file(&options).unwrap(), Path::new("a.toml"));
        assert_eq!(socket(&options).unwrap(), Path::new("s"));
    }

    #[test]
    fn the_socket_is_the_one_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "queue_directory = \"q\"\n[control]\nsocket = \"here\"\n").unwrap();
        let options = Options { config: Some(file.clone()), socket: None, json: false };
        assert_eq!(socket(&options).unwrap(), dir.path().join("here"));
        std::fs::write(&file, "nonsense_key = 1\n").unwrap();
        assert!(socket(&options).unwrap_err().to_string().contains("nonsense_key"));
    }
}
