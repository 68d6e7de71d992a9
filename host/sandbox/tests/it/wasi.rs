//! A component that links WASI finds a world with nothing in it. Compiled for wasm32-wasip2; where that target is not installed, there is
//! nothing to test with, and the test says so.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::common::{call, message, sandbox, session};
use waxwing_pipeline::{CallOutcome, Event, FaultKind, Plugin};
use waxwing_sandbox::{PluginSettings, WasmPlugin, inspect};
use waxwing_types::{QueueIdGenerator, Timestamp};

const TARGET: &str = "wasm32-wasip2";
/// When the message of these tests came.
const ARRIVED: &str = "1800000000000";

/// The fixture; none without the target.
fn component() -> Option<&'static [u8]> {
    static BUILT: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<Vec<u8>> {
    let libdir = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
    if !Path::new(String::from_utf8_lossy(&libdir.stdout).trim()).is_dir() {
        eprintln!("not tested: rustup target add {TARGET}");
        return None;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/system/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("guests/wasi");
    let mut cargo = Command::new("cargo");
    for variable in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "CARGO_MAKEFLAGS"]
    {
        cargo.env_remove(variable);
    }
    cargo.args(["build", "--release", "--target", TARGET, "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(target.join(TARGET).join("release/system.wasm")).unwrap())
}

fn settings() -> PluginSettings {
    let mut settings = PluginSettings::new("system");
    settings.limits.wall = Duration::from_millis(3000);
    settings.limits.cpu = Duration::from_millis(100);
    settings
}

async fn load(settings: PluginSettings) -> Option<Arc<WasmPlugin>> {
    Some(sandbox().load(component()?, settings).await.unwrap_or_else(|e| panic!("{e}")))
}

async fn at_message(settings: PluginSettings) -> Option<CallOutcome> {
    Some(call(&load(settings).await?, Event::Message, &message()).await.unwrap_or_else(|e| panic!("{e} {:?}", e.log)))
}

fn said<'o>(outcome: &'o CallOutcome, what: &str) -> &'o str {
    let found = outcome.log.iter().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{what}: {:?}", outcome.log))
}

#[tokio::test]
async fn there_is_nothing_to_reach() {
    let Some(outcome) = at_message(settings()).await else { return };
    assert_eq!(said(&outcome, "arguments"), "0 environment 0");
    for what in ["files", "written", "here", "tcp", "udp"] {
        assert_eq!(said(&outcome, what), "Err(PermissionDenied)", "{what}: {:?}", outcome.log);
    }
    assert!(said(&outcome, "name").starts_with("Err("), "{:?}", outcome.log);
    for line in ["wasi.open: not-granted: etc/passwd", "wasi.socket: not-granted: TCP", "wasi.resolve: not-granted: localhost"] {
        assert!(outcome.log.contains(&format!("(host) {line}")), "{line}: {:?}", outcome.log);
    }
    assert_eq!(outcome.log.last().map(String::as_str), Some("no end of line"));
}

#[tokio::test]
async fn time_stands_still_and_chance_repeats_unless_granted() {
    let Some(one) = at_message(settings()).await else { return };
    let two = at_message(settings()).await.unwrap();
    assert_eq!((said(&one, "time"), said(&one, "frozen")), (ARRIVED, "true"));
    assert_eq!((said(&two, "time"), said(&two, "random")), (ARRIVED, said(&one, "random")));
    let mut granted = settings();
    (granted.grants.clock, granted.grants.random) = (true, true);
    let (one, two) = (at_message(granted.clone()).await.unwrap(), at_message(granted).await.unwrap());
    assert_eq!(said(&one, "frozen"), "false");
    assert_ne!(said(&one, "random"), said(&two, "random"));
}

/// An instance that is used again sees the time of each message.
#[tokio::test]
async fn each_call_has_its_own_time() {
    let Some(plugin) = load(crate::common::reused(settings(), 100)).await else { return };
    for arrived in [1_800_000_000_000, 1_900_000_000_000, 1_700_000_000_000] {
        let mut context = message();
        context.id = Some(QueueIdGenerator::default().next(Timestamp::from_millis(arrived)));
        let outcome = call(&plugin, Event::Message, &context).await.unwrap();
        assert_eq!(said(&outcome, "time"), arrived.to_string());
    }
}

#[tokio::test]
async fn what_it_does_wrong_ends_in_its_fault() {
    let Some(plugin) = load(settings()).await else { return };
    let helo = async |name: &str| call(&plugin, Event::Helo(name.into()), &session()).await;
    let flood = helo("flood").await.unwrap();
    assert_eq!(flood.log.len(), 51);
    assert!(flood.log.iter().all(|line| line.len() <= 1024));
    let one = helo("one long line").await.unwrap();
    assert_eq!((one.log.len(), one.log[0].len()), (1, 1024));
    for (name, kind) in
        [("exit", FaultKind::Trap), ("panic", FaultKind::Trap), ("sleep", FaultKind::TimeLimit), ("spin", FaultKind::CpuLimit)]
    {
        let fault = helo(name).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{name}: {fault}");
        if name == "panic" {
            assert!(fault.log.iter().any(|line| line.contains("I was asked to")), "{:?}", fault.log);
        }
    }
    assert_eq!(plugin.instances(), 0);
}

#[tokio::test]
async fn other_wasi_is_refused_with_a_sentence() {
    let Some(octets) = component() else { return };
    assert!(inspect("system", octets).unwrap().grant_lines().is_empty());
    // A name of the same length: the component stays valid.
    let (from, to) = (&b"wasi:cli/stdout@"[..], &b"wasi:cli/stdoot@"[..]);
    let mut other = octets.to_vec();
    for at in 0..other.len() - from.len() {
        if other[at..].starts_with(from) {
            other[at..at + to.len()].copy_from_slice(to);
        }
    }
    let error = sandbox().load(&other, settings()).await.err().unwrap().to_string();
    assert!(error.contains("wasi:cli/stdoot@") && error.contains("which is not served"), "{error}");
}
