//! Guests in JavaScript and Python that misbehave: an interpreter inside changes nothing. Each is stopped by the right fault, what it was
//! not granted it does not get, and its neighbours do not notice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{call, message, sandbox};
use crate::guests::Language;
use async_trait::async_trait;
use serde_json::json;
use waxwing_pipeline::{
    CallOutcome, Event, Fault, FaultKind, HookAnswer, HttpClient, HttpError, HttpRequest, HttpResponse, Metrics, Plugin,
};
use waxwing_sandbox::{MessageAccess, PluginLoadError, PluginSettings, WasmPlugin};
use waxwing_types::Verdict;

/// Octets of memory: both interpreters start with less, and neither comes far.
const MEMORY_BYTES_MAX: usize = 48 << 20;
/// The only URLs that are granted.
const ALLOWED: &str = "https://allowed.example/";

fn component(language: Language) -> Option<Vec<u8>> {
    let folder = if language == Language::Python { "python" } else { "js" };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/languages");
    crate::guests::guest(language, &fixtures.join(folder), "evil")
}

fn evil(act: &str) -> PluginSettings {
    let mut settings = crate::guests::settings("evil");
    settings.config.insert("act".to_owned(), json!(act));
    settings.grants.http = vec![ALLOWED.to_owned()];
    settings.grants.lookup = vec!["granted".to_owned()];
    settings.tables.insert("granted".to_owned(), Arc::new(crate::common::Fixed(Ok(None))));
    settings.limits.memory_bytes_max = MEMORY_BYTES_MAX;
    settings
}

async fn does(component: &[u8], settings: PluginSettings) -> Result<CallOutcome, Fault> {
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
        assert_eq!(after.answer, HookAnswer::Verdict(Verdict::Next), "after {act}");
    }
    let mut settings = evil("loop");
    settings.limits.cpu = Duration::from_millis(300);
    assert_eq!(does(component, settings).await.unwrap_err().kind, FaultKind::CpuLimit);
    let mut settings = evil("loop");
    settings.limits.cpu = Duration::from_secs(60);
    settings.limits.wall = Duration::from_millis(500);
    assert_eq!(does(component, settings).await.unwrap_err().kind, FaultKind::TimeLimit);
}

/// What an act ends in: the error that the guest caught, and the call that is counted and in the trace; none where the language asks
/// the host for nothing.
type Reached = (&'static str, &'static str, Option<&'static str>);

/// By the functions of the contract, in both languages.
const BY_CONTRACT: [Reached; 3] = [
    ("url", "not-granted", Some("http.fetch")),
    ("table", "not-granted", Some("lookup.get")),
    // What is not in its own table is nobody's secret to keep: it is not there.
    ("setting", "reached nothing", None),
];

/// By Python's own library.
const BY_PYTHON: [Reached; 10] = [
    // Its library asks the resolver for numbers too, before it makes a socket.
    ("host", "PermissionError", Some("wasi.resolve")),
    ("datagram", "PermissionError", Some("wasi.socket")),
    ("name", "PermissionError", Some("wasi.resolve")),
    ("file", "PermissionError", Some("wasi.open")),
    ("write", "PermissionError", Some("wasi.open")),
    ("list", "PermissionError", Some("wasi.open")),
    ("about", "PermissionError", Some("wasi.stat")),
    ("remove", "PermissionError", Some("wasi.change")),
    ("program", "AttributeError", None),
    ("secret", "KeyError", None),
];

/// JavaScript has no library of its own that reaches out. What other hosts have for it is not there, and asks nobody; `fetch` traps
/// where the component does not import wasi:http, which would not be loaded, and so does an import of a module that is not built in.
async fn javascript_has_nothing_else(component: &[u8]) {
    for (act, words) in [("host", None), ("file", None), ("secret", Some("ReferenceError"))] {
        match (does(component, evil(act)).await, words) {
            (Ok(outcome), Some(words)) => {
                assert!(outcome.log.iter().any(|line| line.contains(words)), "{act}: {:?}", outcome.log);
                assert!(!outcome.log.iter().any(|line| line.contains("reached")), "{act}: {:?}", outcome.log);
            }
            (Err(fault), None) => assert_eq!(fault.kind, FaultKind::Trap, "{act}: {fault}"),
            (Ok(outcome), None) => panic!("{act}: {:?}", outcome.log),
            (Err(fault), Some(_)) => panic!("{act}: {fault} {:?}", fault.log),
        }
    }
}

/// Neither a file nor a host nor the environment: an error of the language, a counter and a line in the trace.
async fn nothing_else_is_reached(component: &[u8], acts: &[Reached]) {
    for (act, words, counted) in acts {
        let counter = Arc::new(Refusals::default());
        let mut settings = evil(act);
        settings.services.metrics = Some(Arc::clone(&counter) as _);
        settings.services.http_client = Some(Arc::new(NoPages));
        let log = does(component, settings).await.unwrap_or_else(|fault| panic!("{act}: {fault} {:?}", fault.log)).log;
        eprintln!("{act}: {log:?}");
        let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
        assert!(log.iter().any(|line| plain(line).contains(&plain(words)) && !line.starts_with("(host)")), "{act}: {log:?}");
        let refused = counter.0.lock().unwrap();
        match counted {
            Some(call) => {
                assert_eq!(refused.get(&format!("evil {call} not-granted")), Some(&1), "{act}: {refused:?}");
                assert!(log.iter().any(|line| line.starts_with(&format!("(host) {call}: not-granted"))), "{act}: {log:?}");
            }
            None => assert!(refused.is_empty(), "{act}: {refused:?}"),
        }
    }
}

/// Counts refusals by plugin, call and reason.
#[derive(Default)]
struct Refusals(Mutex<BTreeMap<String, u64>>);

impl Metrics for Refusals {
    fn count(&self, name: &str, labels: &[(&str, &str)], delta: u64) {
        if name == "waxwing_plugin_refused_total" {
            let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
            *self.0.lock().unwrap().entry(values.join(" ")).or_default() += delta;
        }
    }

    fn observe(&self, _: &str, _: &[(&str, &str)], _: f64) {}
}

/// What is not granted is asked of nobody.
struct NoPages;

#[async_trait]
impl HttpClient for NoPages {
    async fn fetch(&self, allowed: &[String], request: HttpRequest) -> Result<HttpResponse, HttpError> {
        assert_eq!(allowed, [ALLOWED]);
        assert!(!request.url.starts_with(ALLOWED));
        Err(HttpError::NotGranted(format!("{} is not under {ALLOWED}", request.url)))
    }
}

/// An import that is not granted is a load error with the line that is missing.
async fn grants_are_asked_for(component: &[u8]) {
    let refused = async |settings: PluginSettings| sandbox().load(component, settings).await.err().unwrap();
    let mut settings = evil("");
    settings.grants.edit = false;
    let error = refused(settings).await;
    assert!(matches!(&error, PluginLoadError::NotGranted { line: "edit = true", .. }), "{error}");
    let mut settings = evil("");
    settings.grants.message = MessageAccess::Headers;
    let error = refused(settings).await;
    assert!(matches!(&error, PluginLoadError::NotGranted { import, .. } if import == "waxwing:mail/content@0.1.0"), "{error}");
    let mut settings = evil("");
    settings.grants.http.clear();
    let error = refused(settings).await;
    assert!(matches!(&error, PluginLoadError::NotGranted { import, .. } if import == "waxwing:mail/http@0.1.0"), "{error}");
}

async fn holds(language: Language) {
    let Some(component) = component(language) else { return };
    grants_are_asked_for(&component).await;
    nothing_else_is_reached(&component, &BY_CONTRACT).await;
    match language {
        Language::Python => nothing_else_is_reached(&component, &BY_PYTHON).await,
        Language::Rust | Language::C | Language::JavaScript => javascript_has_nothing_else(&component).await,
    }
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
