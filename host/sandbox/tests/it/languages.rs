//! One small filter in four languages, compiled by each one's own compiler, against one table of cases in the server's sandbox.
//!
//! A language whose compiler is not here is left out, and says so. `plugins/examples/compilers` brings those of npm and PyPI.

#![allow(clippy::wildcard_enum_match_arm, reason = "what else it may be is a failure")]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{call, message, sandbox};
use crate::guests::Language;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{CallOutcome, Event, HookAnswer};
use waxwing_sandbox::{PluginLoadError, PluginSettings, WasmPlugin};
use waxwing_types::{Edit, MemoryBody, Verdict};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    config: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    head: String,
    #[serde(default)]
    body: String,
    expect: Option<Expected>,
    load_error: Option<String>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expected {
    verdict: String,
    code: Option<u16>,
    checked: bool,
    tags: BTreeMap<String, String>,
}

impl Expected {
    fn of(outcome: CallOutcome) -> Self {
        let (verdict, code) = match outcome.answer {
            HookAnswer::Verdict(Verdict::Next) => ("next", None),
            HookAnswer::Verdict(Verdict::Reject(reply)) => ("reject", Some(reply.code())),
            other => panic!("{other:?}"),
        };
        let (mut checked, mut tags) = (false, BTreeMap::new());
        for edit in outcome.changes.edits {
            match edit {
                Edit::Tag { name, value } => drop(tags.insert(name, value)),
                mark => {
                    assert_eq!(mark, Edit::AddHeader { name: "X-Checked".into(), value: "checker".into() });
                    checked = true;
                }
            }
        }
        Self { verdict: verdict.to_owned(), code, checked, tags }
    }
}

async fn load(component: &[u8], config: BTreeMap<String, Value>) -> Result<Arc<WasmPlugin>, PluginLoadError> {
    sandbox().load(component, PluginSettings { config, ..crate::guests::settings("checker") }).await
}

async fn passes_the_cases(language: Language) {
    let Some(component) = crate::guests::example(language) else { return };
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../../plugins/examples/cases.json")).unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        let config = case.config.unwrap_or_else(|| [("word".to_owned(), json!("lottery"))].into());
        let loaded = load(&component, config).await;
        if let Some(words) = case.load_error {
            let error = loaded.err().unwrap().to_string();
            assert!(error.contains("does not want to be loaded") && error.contains(&words), "{}: {error}", case.name);
            continue;
        }
        let mut context = message();
        context.header = Some(Arc::new(HeaderBlock::parse(Bytes::from(case.head), true)));
        context.body = Some(Arc::new(MemoryBody::new(Bytes::from(case.body))));
        let outcome = call(&loaded.unwrap(), Event::Message, &context).await.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(Expected::of(outcome), case.expect.unwrap(), "{}", case.name);
    }
}

#[tokio::test]
async fn rust_passes_the_cases() {
    passes_the_cases(Language::Rust).await;
}

#[tokio::test]
async fn c_passes_the_cases() {
    passes_the_cases(Language::C).await;
}

#[tokio::test]
async fn javascript_passes_the_cases() {
    passes_the_cases(Language::JavaScript).await;
}

#[tokio::test]
async fn python_passes_the_cases() {
    passes_the_cases(Language::Python).await;
}
