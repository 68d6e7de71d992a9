//! `waxwing plugin run`: a server with a plugin in it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ends the server also when the test fails.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_plugin_is_bound_in_a_server_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    // Started by root, the server becomes another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let file = dir.path().join("mine.wasm");
    std::fs::write(&file, waxwing_bundle::standard_component("cleanup").unwrap()).unwrap();
    let state = dir.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxwing"));
    command.args(["plugin", "run"]).arg(&file).args(["--watch", "--smtp-port", "0", "--dir"]).arg(&state);
    let mut server = Server(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut banner = BufReader::new(server.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("listens on") {
        line.clear();
        assert_ne!(banner.read_line(&mut line).unwrap(), 0, "the server ended before it served");
    }
    let first = plugins(&state);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cleanup", "aliases", "mine"]);
    // An empty custom section: another version that does the same.
    let mut saved = std::fs::read(&file).unwrap();
    saved.extend([0, 2, 1, b'x']);
    std::fs::write(&file, saved).unwrap();
    let is_reloaded = || plugins(&state)[2].1 != first[2].1;
    let seen = (0..150).any(|_| {
        std::thread::sleep(Duration::from_millis(200));
        is_reloaded()
    });
    assert!(seen, "what was saved is not in service: {:?}", plugins(&state));
}

/// Name and version of each, as the running server says.
fn plugins(state: &Path) -> Vec<(String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxwing"));
    let output = command.args(["plugin", "list", "--json", "--config"]).arg(state.join("waxwing.toml")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let plugins = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    plugins.map(|p| (p["name"].as_str().unwrap().to_owned(), p["version"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn what_cannot_be_loaded_is_told_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxwing"));
    let output = command.args(["plugin", "run", "x.wasm", "--dir", "state"]).current_dir(dir.path()).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("core module"));
    assert!(!dir.path().join("state").exists(), "nothing was made");
}
