//! Checks in order, cheap checks first. Each check runs to its end, so that a single run shows all failures.
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::install::{WASM_TARGET, has_rustup_target};
use crate::process::{is_installed, run_observed};

/// Crates of the layers 0 to 2 that are checked for a target without a system interface, with the dependencies that they have by default.
/// Left out: `waxwing-auth`, whose password hashes depend on `getrandom` by default features; the crate itself calls no randomness.
const PURE_CRATES: &[&str] =
    &["waxwing-types", "waxwing-config", "waxwing-control", "waxwing-message", "waxwing-pipeline", "waxwing-smtp"];

/// Stage of the checks, selected by `--stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckStage {
    Static,
    Unit,
    EndToEnd,
}

/// Parses `--stage NAME` (repeatable); no argument selects all stages.
pub(crate) fn parse_stages(mut arguments: impl Iterator<Item = String>) -> Result<Vec<CheckStage>, String> {
    let mut stages = Vec::new();
    while let Some(argument) = arguments.next() {
        let name = match argument.as_str() {
            "--stage" => arguments.next().ok_or("--stage: which? static, unit or e2e")?,
            other => {
                other.strip_prefix("--stage=").ok_or_else(|| format!("unknown argument `{other}`\n{}", crate::USAGE))?.to_owned()
            }
        };
        stages.push(match name.as_str() {
            "static" => CheckStage::Static,
            "unit" => CheckStage::Unit,
            "e2e" => CheckStage::EndToEnd,
            other => return Err(format!("unknown stage `{other}`: static, unit or e2e")),
        });
    }
    Ok(if stages.is_empty() { vec![CheckStage::Static, CheckStage::Unit, CheckStage::EndToEnd] } else { stages })
}

/// Test environment of the machine: folders found and tests skipped.
#[derive(Debug, Default)]
pub(crate) struct TestEnvironment {
    /// Folder of `waxwing`.
    pub(crate) binary_folder: PathBuf,
    /// Folder of the other mail servers (`PEERS`).
    pub(crate) peers: Option<PathBuf>,
    /// A compiler for plugins in other languages is missing.
    pub(crate) lacks_guest_compilers: bool,
    /// Notices of skipped tests, a sentence each.
    pub(crate) skipped: Vec<String>,
}

/// Result of a check, with the number of tests reported (a check without tests counts as one).
struct CheckOutcome {
    name: &'static str,
    passed: usize,
    failed: usize,
    duration: Duration,
}

/// Runs the stages; prints a table, the notices of skipped tests, and as the last line `N passed, N failed`.
pub(crate) fn run_all(stages: &[CheckStage], had: &TestEnvironment) -> ExitCode {
    let mut outcomes = Vec::new();
    for stage in stages {
        let checks = match stage {
            CheckStage::Static => static_checks(),
            CheckStage::Unit => unit_checks(had.lacks_guest_compilers),
            CheckStage::EndToEnd => end_to_end_checks(had),
        };
        outcomes.extend(checks.into_iter().map(|(name, command)| run_check(name, command)));
    }
    println!("\n{:<28} {:>7} {:>7} {:>7}", "check", "passed", "failed", "s");
    for outcome in &outcomes {
        println!("{:<28} {:>7} {:>7} {:>7}", outcome.name, outcome.passed, outcome.failed, outcome.duration.as_secs());
    }
    let passed: usize = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: usize = outcomes.iter().map(|outcome| outcome.failed).sum();
    for notice in &had.skipped {
        println!("{notice}");
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Check = (&'static str, Command);

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments);
    command
}

fn static_checks() -> Vec<Check> {
    let mut documentation = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    // Crate headers may link to private modules.
    documentation.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    let mut pure = cargo(&["check", "--quiet", "--target", WASM_TARGET]);
    pure.args(PURE_CRATES.iter().flat_map(|name| ["--package", name]));
    let mut checks = vec![
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("lints", cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])),
        ("documentation", documentation),
        ("tree rules", cargo(&["test", "--package", "waxwing-tidy", "--quiet"])),
    ];
    if has_rustup_target() {
        checks.push(("pure crates", pure));
    } else {
        println!(
            "rustup's target {WASM_TARGET} is not installed: the tree rule on pure layers stands in for the build of the pure crates"
        );
    }
    if is_installed("cargo-deny") {
        checks.push(("dependencies", cargo(&["deny", "--all-features", "check", "bans", "licenses", "sources"])));
    } else {
        println!("cargo-deny is not installed: the tree rule on dependencies stands in for its bans, licences are unchecked");
    }
    checks
}

fn unit_checks(without_languages: bool) -> Vec<Check> {
    let crates = ["--workspace", "--exclude", "waxwing-tidy"];
    let tests = if is_installed("cargo-nextest") {
        &["nextest", "run", "--no-fail-fast"][..]
    } else {
        &["test", "--no-fail-fast", "--lib", "--bins", "--tests"][..]
    };
    let mut unit = cargo(&[tests, &crates].concat());
    if without_languages {
        unit.env("WAXWING_WITHOUT_LANGUAGES", "1");
    }
    vec![("unit tests", unit), ("examples in documentation", cargo(&[&["test", "--doc", "--quiet"][..], &crates].concat()))]
}

fn end_to_end_checks(had: &TestEnvironment) -> Vec<Check> {
    let mut scripts = Command::new("python3");
    scripts
        .arg("tests/e2e/run")
        .env("WAXWING_BIN", had.binary_folder.join("waxwing"))
        .env("MAILLOAD_BIN", had.binary_folder.join("mailload"));
    if let Some(folder) = &had.peers {
        scripts.env("PEERS", folder);
    }
    vec![
        (
            "server build",
            cargo(&["build", "--package", "waxwing-daemon", "--package", "waxwing-mailload", "--package", "waxwing-unify"]),
        ),
        ("end to end", scripts),
    ]
}

fn run_check(name: &'static str, mut command: Command) -> CheckOutcome {
    println!("\n== {name}: {}", command_line(&command));
    let started = now();
    let (mut passed, mut failed) = (0, 0);
    let success = run_observed(&mut command, |line| {
        if let Some((good, bad)) = parse_counts(line) {
            passed += good;
            failed += bad;
        }
    });
    let success = success.unwrap_or_else(|error| {
        println!("{error}");
        false
    });
    if success && passed + failed == 0 {
        passed = 1;
    }
    if !success && failed == 0 {
        failed = 1;
    }
    CheckOutcome { name, passed, failed, duration: started.elapsed() }
}

#[allow(clippy::disallowed_methods, reason = "a tool for people: it says how long a check took, nothing depends on it")]
fn now() -> Instant {
    Instant::now()
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Parses the closing line of a test runner: ours (`3 passed, 0 failed`), libtest's (`test result: ok. 3 passed; 0 failed; …`) or
/// nextest's (`Summary [1.0s] 3 tests run: 3 passed, 0 skipped`).
fn parse_counts(line: &str) -> Option<(usize, usize)> {
    let line = line.trim();
    let words: Vec<&str> = line.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
    let ours = words.len() == 4 && words.get(1) == Some(&"passed") && words.get(3) == Some(&"failed");
    if !(ours || line.starts_with("test result: ") || line.starts_with("Summary [")) {
        return None;
    }
    let before = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at.checked_sub(1)?)?.parse::<usize>().ok()
    };
    let failed = ["failed", "timed"].iter().filter_map(|name| before(name)).sum();
    Some((before("passed").unwrap_or(0), failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_three_runners_are_read() {
        assert_eq!(parse_counts("3 passed, 1 failed"), Some((3, 1)));
        assert_eq!(parse_counts("test result: FAILED. 6 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"), Some((6, 2)));
        assert_eq!(parse_counts("     Summary [   0.053s] 14 tests run: 14 passed, 0 skipped"), Some((14, 0)));
        assert_eq!(
            parse_counts("     Summary [   0.053s] 14/20 tests run: 11 passed (1 slow), 2 failed, 1 timed out, 0 skipped"),
            Some((11, 3))
        );
        assert_eq!(parse_counts("the check that 3 passed, 1 failed"), None);
    }

    #[test]
    fn stages_are_read_and_unknown_ones_refused() {
        let read = |words: &[&str]| parse_stages(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(read(&[]).unwrap().len(), 3);
        assert_eq!(read(&["--stage", "unit"]).unwrap(), [CheckStage::Unit]);
        assert_eq!(read(&["--stage=static", "--stage", "e2e"]).unwrap(), [CheckStage::Static, CheckStage::EndToEnd]);
        assert!(read(&["--stage"]).is_err() && read(&["--stage", "all"]).is_err() && read(&["unit"]).is_err());
    }

    #[test]
    fn a_check_that_fails_without_counts_counts_as_failed() {
        let outcome = run_check("false", Command::new("false"));
        assert_eq!((outcome.passed, outcome.failed), (0, 1));
        let outcome = run_check("missing", Command::new("no-such-program-of-that-name"));
        assert_eq!((outcome.passed, outcome.failed), (0, 1));
        let outcome = run_check("true", Command::new("true"));
        assert_eq!((outcome.passed, outcome.failed), (1, 0));
    }
}
