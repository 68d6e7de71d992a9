//! Guests in JavaScript and Python that misbehave: an interpreter inside changes nothing. Each is stopped by the right fault, what it was
//! not granted it does not get, and its neighbours do not notice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;
mod guests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{call, message, sandbox};
use guests::Language;
use serde_json::json;
use waxwing_pipeline::{Answer, Event, Fault, FaultKind, Outcome, Plugin};
use waxwing_sandbox::{LoadError, MessageGrant, PluginSettings, WasmPlugin};
use waxwing_types::Verdict;

/// Octets of memory: both interpreters start with less, and neither comes far.
const MEMORY_BYTES_MAX: usize = 48 << 20;

fn component(language: Language) -> Option<Vec<u8>> {
    let folder = if language == Language::Python { "python" } else { "js" };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/languages");
    guests::guest(language, &fixtures.join(folder), "evil")
}

fn evil(act: &str) -> PluginSettings {
    let mut settings = guests::settings("evil");
    settings.config.insert("act".to_owned(), json!(act));
    settings.limits.memory_bytes_max = MEMORY_BYTES_MAX;
    settings
}

async fn does(component: &[u8], settings: PluginSettings) -> Result<Outcome, Fault> {
    let plugin: Arc<WasmPlugin> = sandbox().load(component, settings).await.unwrap_or_else(|e| panic!("{e}"));
    let result = call(&plugin, Event::Message, &message()).await;
    assert_eq!(plugin.instances(), 0, "the instance outlives its transaction");
    result
}

async fn faults_are_contained(component: &[u8]) {
    for (act, kind) in [
        ("throw", FaultKind::Trap),
        ("recurse", FaultKind::Trap),
        ("no-case", FaultKind::Trap),
        ("no-verdict", FaultKind::Trap),
        ("reject-250", FaultKind::BadAnswer),
        ("memory", FaultKind::MemoryLimit),
    ] {
        let fault = does(component, evil(act)).await.expect_err(act);
        eprintln!("{act}: {fault} {:?}", fault.log);
        assert_eq!(fault.kind, kind, "{act}: {fault}");
        let after = does(component, evil("")).await.unwrap();
        assert_eq!(after.answer, Answer::Verdict(Verdict::Continue), "after {act}");
    }
    let mut settings = evil("loop");
    settings.limits.cpu = Duration::from_millis(300);
    assert_eq!(does(component, settings).await.unwrap_err().kind, FaultKind::CpuLimit);
    let mut settings = evil("loop");
    settings.limits.cpu = Duration::from_secs(60);
    settings.limits.wall = Duration::from_millis(500);
    assert_eq!(does(component, settings).await.unwrap_err().kind, FaultKind::TimeLimit);
}

/// Neither a file nor a host nor the environment: there is nothing behind the interpreter's library, so that it ends in an error of the
/// language or in a trap.
async fn nothing_else_is_reached(component: &[u8]) {
    for act in ["host", "file", "secret"] {
        match does(component, evil(act)).await {
            Ok(outcome) => {
                eprintln!("{act}: {:?}", outcome.log);
                assert!(
                    outcome.log.iter().any(|l| l.contains("refused") || l.contains("nobody keeps")),
                    "{act}: {:?}",
                    outcome.log
                );
                assert!(!outcome.log.iter().any(|l| l.contains("reached")), "{act}: {:?}", outcome.log);
            }
            Err(fault) => {
                eprintln!("{act}: {fault}");
                assert_eq!(fault.kind, FaultKind::Trap, "{act}: {fault}");
            }
        }
    }
}

/// An import that is not granted is a load error with the line that is missing.
async fn grants_are_asked_for(component: &[u8]) {
    let refused = async |settings: PluginSettings| sandbox().load(component, settings).await.err().unwrap();
    let mut settings = evil("");
    settings.grants.edit = false;
    let error = refused(settings).await;
    assert!(matches!(&error, LoadError::NotGranted { line: "edit = true", .. }), "{error}");
    let mut settings = evil("");
    settings.grants.message = MessageGrant::Headers;
    let error = refused(settings).await;
    assert!(matches!(&error, LoadError::NotGranted { import, .. } if import == "waxwing:mail/content@0.1.0"), "{error}");
}

async fn holds(language: Language) {
    let Some(component) = component(language) else { return };
    grants_are_asked_for(&component).await;
    nothing_else_is_reached(&component).await;
    faults_are_contained(&component).await;
}

#[tokio::test]
async fn javascript_is_held() {
    holds(Language::JavaScript).await;
}

#[tokio::test]
async fn python_is_held() {
    holds(Language::Python).await;
}
