//! `cargo dev` and `cargo gate`: the two commands of the README.
//!
//! Owns: what a fresh machine lacks and how it gets it; the order of the checks.
//! Uses: cargo, rustup, and apt where root allows. No crate, ours or others': this compiles first, in a second.
//! Used by: the aliases in `.cargo/config.toml`, `tests/run`, `.ci/run`.
//! Never: start a system service, or install anything without root.
//! Start reading at: [`main`].
#![forbid(unsafe_code)]

mod prepare;
mod run;
mod stages;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo dev [ARGUMENTS]          prepare, build and run `waxwing dev ARGUMENTS`
       cargo gate [--stage STAGE] ... prepare and run all checks, or only those of a stage
STAGE: static (format, lints, documentation, tree rules, dependencies)
       unit   (unit, property, transcript and crash tests)
       e2e    (real clients and servers against the built server)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("dev") => dev(&arguments.collect::<Vec<_>>()),
        Some("gate") => stages::wanted(arguments).and_then(|stages| gate(&stages)),
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

/// Builds the server in the dev profile and becomes `waxwing dev`.
///
/// The dev profile, because it is what the tests build too (the second command then starts warm), dependencies are
/// optimised in it, and a rebuild after an edit takes seconds. For serving mail, build with `--release`.
fn dev(arguments: &[String]) -> Result<ExitCode, String> {
    prepare::compilers()?;
    // With the features of the gate, so that neither compiles for itself what the other has.
    run::step("cargo", &["build", "--package", "waxwing-daemon", "--package", "waxwing-unify"])?;
    let server = target_folder()?.join("waxwing");
    let error = Command::new(&server).arg("dev").args(arguments).exec();
    Err(format!("{}: {error}", server.display()))
}

fn gate(stages: &[stages::Stage]) -> Result<ExitCode, String> {
    prepare::compilers()?;
    let folder = target_folder()?;
    let target = folder.parent().unwrap_or(&folder).to_path_buf();
    let mut had = stages::Had { programs: folder, ..stages::Had::default() };
    if stages.contains(&stages::Stage::EndToEnd) {
        prepare::test_tools()?;
        match prepare::peers(&target) {
            Ok(peers) => had.peers = Some(peers),
            Err(words) => had.untested.push(words),
        }
    }
    if stages.contains(&stages::Stage::Unit)
        && let Some(words) = prepare::guest_compilers(&target)
    {
        had.without_languages = true;
        had.untested.push(words);
    }
    Ok(stages::run_all(stages, &had))
}

/// The folder that holds this binary and, after a build in the dev profile, `waxwing`.
fn target_folder() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    me.parent().map(PathBuf::from).ok_or_else(|| "own path has no folder".to_owned())
}
