//! Commands `waxwing config check` and `waxwing config show`.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use waxwing_config::{Config, ConfigError, HostEnvironment, Visibility};
use waxwing_control::{ControlRequest, ControlResponse};

use crate::paths::load_config;
use crate::queue::print_json;
use crate::{ControlClient, ToolError};

/// Reports the mistakes of a configuration file as an error; with `--json` also as objects, one for each mistake.
pub(crate) fn check(file: &Path, environment: &HostEnvironment, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    match Config::load(file, environment) {
        Ok(_) if json => Ok(()),
        Ok(_) => Ok(writeln!(out, "{}: no mistakes", file.display())?),
        Err(ConfigError::Invalid(mistakes)) => {
            for mistake in mistakes.diagnostics().iter().filter(|_| json) {
                let position = &mistake.position;
                let object = json!({
                    "file": &*position.file, "line": position.line, "column": position.column,
                    "message": mistake.message, "advice": mistake.advice,
                });
                print_json(&object, out)?;
            }
            Err(ToolError::Config(ConfigError::Invalid(mistakes)))
        }
        Err(error @ ConfigError::Read { .. }) => Err(error.into()),
    }
}

/// Prints the values in effect.
pub(crate) fn show(file: &Path, given: bool, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    // An absolute file path makes all printed paths absolute.
    let config = load_config(&std::path::absolute(file)?)?;
    let visibility = if given { Visibility::Explicit } else { Visibility::All };
    match json {
        true => print_json(&config.show_json(visibility), out),
        false => Ok(out.write_all(config.show_toml(visibility).as_bytes())?),
    }
}

/// Prints the configuration of the running server.
pub(crate) fn show_running(client: &mut ControlClient, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let ControlResponse::Config { file, text } = client.request(&ControlRequest::ConfigShow)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    match json {
        true => print_json(&json!({ "file": file, "text": text }), out),
        false => Ok(write!(out, "# {file}\n{text}")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostEnvironment {
        HostEnvironment { hostname: "host.example".into(), is_root: false, path_exists: |_| false }
    }

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("waxwing.toml");
        std::fs::write(&file, text).unwrap();
        (dir, file)
    }

    #[test]
    fn every_mistake_is_told() {
        let (_dir, bad) = file("myhostnam = \"a.example\"\nhopcount_limit = \"many\"\n");
        let mut out = Vec::new();
        let error = check(&bad, &facts(), true, &mut out).unwrap_err().to_string();
        assert!(error.contains("waxwing.toml:1:1") && error.contains("waxwing.toml:2:"), "{error}");
        let lines = String::from_utf8(out).unwrap();
        let objects: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["line"], 1);
        assert!(objects[0]["advice"].as_str().unwrap().contains("myhostname"));
    }

    #[test]
    fn a_good_file_is_shown_in_effect() {
        let (_dir, good) = file("myhostname = \"a.example\"\nqueue_directory = \"q\"\n");
        let mut out = Vec::new();
        check(&good, &facts(), false, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with("no mistakes\n"));
        let mut all = Vec::new();
        show(&good, false, false, &mut all).unwrap();
        let all = String::from_utf8(all).unwrap();
        assert!(all.contains("myhostname = \"a.example\"") && all.contains("hopcount_limit"), "{all}");
        let mut given = Vec::new();
        show(&good, true, true, &mut given).unwrap();
        let given: serde_json::Value = serde_json::from_slice(&given).unwrap();
        assert_eq!(given["myhostname"]["value"], "a.example");
        assert!(given.get("hopcount_limit").is_none());
    }
}
