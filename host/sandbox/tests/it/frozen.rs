//! The contract `waxwing:mail@0.1.0` is frozen: what was compiled against it must load for ever.
//!
//! `frozen/*.wasm` were compiled when it was frozen and are never compiled again. `frozen/interfaces.txt` has the hash of each interface
//! without its comments. An interface may be added to the contract and to the list (`WAXWING_UPDATE=1`); one that is there neither
//! changes nor goes: that is another version.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::common::{call, message, sandbox};
use waxwing_pipeline::{Event, Hook, HookAnswer, Plugin};
use waxwing_sandbox::{MessageAccess, PluginGrants, PluginSettings};
use waxwing_types::{Reply, Verdict};

fn folder(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Each interface of the contract, comments and white space apart.
fn interfaces() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let files = std::fs::read_dir(folder("../../wit/mail/0.1.0")).unwrap();
    for file in files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "wit")) {
        let text = std::fs::read_to_string(file).unwrap();
        let text: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
        for (at, _) in text.match_indices("interface ") {
            let rest = &text[at + "interface ".len()..];
            let (name, body) = rest.split_once(' ').unwrap();
            let mut depth = 0;
            let end = body.char_indices().find_map(|(at, c)| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                (c == '}' && depth == 0).then_some(at)
            });
            let words: Vec<&str> = body[..=end.unwrap()].split_whitespace().collect();
            let hash = blake3::hash(words.join(" ").as_bytes()).to_hex();
            found.insert(name.to_owned(), hash[..32].to_owned());
        }
    }
    found
}

#[test]
fn no_interface_of_the_contract_changes() {
    let file = folder("tests/frozen/interfaces.txt");
    let now = interfaces();
    assert!(now.len() > 40, "the contract was not read");
    if std::env::var_os("WAXWING_UPDATE").is_some() {
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        let mut text = known.clone();
        for (name, hash) in now.iter().filter(|(name, _)| !known.lines().any(|line| line.starts_with(&format!("{name} ")))) {
            writeln!(text, "{name} {hash}").unwrap();
        }
        std::fs::write(&file, text).unwrap();
    }
    let frozen = std::fs::read_to_string(&file).unwrap();
    let frozen: BTreeMap<String, String> =
        frozen.lines().filter_map(|line| line.split_once(' ')).map(|(name, hash)| (name.to_owned(), hash.to_owned())).collect();
    assert_eq!(
        now, frozen,
        "an interface of waxwing:mail@0.1.0 is not what it was when it was frozen, or is new and not in the list"
    );
}

async fn old(name: &str) -> std::sync::Arc<waxwing_sandbox::WasmPlugin> {
    let component = std::fs::read(folder(&format!("tests/frozen/{name}.wasm"))).unwrap();
    let mut settings = PluginSettings::new(name);
    settings.grants =
        PluginGrants { message: MessageAccess::Full, edit: true, lookup: vec!["plugin:keys".into()], ..PluginGrants::default() };
    settings.tables.insert("plugin:keys".into(), std::sync::Arc::new(crate::common::Fixed(Ok(None))));
    sandbox().load(&component, settings).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn what_was_compiled_against_it_loads_and_answers() {
    let mut hooks: Vec<Hook> = Vec::new();
    for name in ["chorus", "usher", "outbound"] {
        hooks.extend(old(name).await.exports().iter());
    }
    assert!(hooks.len() > 15, "{hooks:?}");
    let refusal = Verdict::Reject(Reply::fixed(554, (5, 7, 1), "1 recipients"));
    let answer = call(&old("chorus").await, Event::Data, &message()).await.unwrap().answer;
    assert_eq!(answer, HookAnswer::Verdict(refusal));
}
