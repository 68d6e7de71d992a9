//! `cargo dev` and `cargo ci`: the two commands of the README.
//!
//! Owns: installation of missing tools on a fresh machine; order of the checks.
//! Uses: no crate, neither of the workspace nor external, so that the tool compiles first, within a second; cargo, rustup, and apt as root.
//! Used by: no crate; the aliases in `.cargo/config.toml`, `tests/run`, `.ci/run`.
//! Never: start a system service, or install anything without root.
//! Start reading at: [`main`].
#![forbid(unsafe_code)]

mod checks;
mod install;
mod process;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo dev [ARGUMENTS]          prepare, build and run `waxwing dev ARGUMENTS`
       cargo ci [--stage STAGE] ...   prepare and run all checks, or only those of a stage
STAGE: static (format, lints, documentation, tree rules, pure crates, dependencies)
       unit   (unit, property, transcript and crash tests)
       e2e    (real clients and servers against the built server)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("dev") => run_dev(&arguments.collect::<Vec<_>>()),
        Some("ci") => checks::parse_stages(arguments).and_then(|stages| run_checks(&stages)),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Builds the server in the dev profile and replaces the process with `waxwing dev`.
///
/// The tests build the dev profile too, so the second command starts warm; dependencies are optimised in the profile, and a rebuild
/// after an edit takes seconds. For a production server, build with `--release`.
fn run_dev(arguments: &[String]) -> Result<ExitCode, String> {
    install::install_compilers()?;
    // The same features as in the checks, so that both commands share the compiled dependencies.
    process::run_step("cargo", &["build", "--package", "waxwing-daemon", "--package", "waxwing-unify"])?;
    let server = target_folder()?.join("waxwing");
    let error = Command::new(&server).arg("dev").args(arguments).exec();
    Err(format!("{}: {error}", server.display()))
}

fn run_checks(stages: &[checks::CheckStage]) -> Result<ExitCode, String> {
    install::install_compilers()?;
    let folder = target_folder()?;
    let target = folder.parent().unwrap_or(&folder).to_path_buf();
    let mut had = checks::TestEnvironment { binary_folder: folder, ..checks::TestEnvironment::default() };
    if stages.contains(&checks::CheckStage::EndToEnd) {
        install::install_test_tools()?;
        match install::fetch_peers(&target) {
            Ok(peers) => had.peers = Some(peers),
            Err(notice) => had.skipped.push(notice),
        }
    }
    if stages.contains(&checks::CheckStage::Unit)
        && let Some(notice) = install::install_guest_compilers(&target)
    {
        had.lacks_guest_compilers = true;
        had.skipped.push(notice);
    }
    Ok(checks::run_all(stages, &had))
}

/// Folder of this binary and, after a build in the dev profile, of `waxwing`.
fn target_folder() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    program.parent().map(PathBuf::from).ok_or_else(|| "own path has no folder".to_owned())
}
