//! Guests from the compilers of four languages.
#![allow(unreachable_pub, reason = "not every test file needs everything")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use waxwing_sandbox::{MessageAccess, PluginGrants, PluginSettings};

/// A language with an example in `plugins/examples`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
    JavaScript,
    Python,
}

/// What a filter may do, within limits that an interpreter needs too on a machine that does other work.
pub fn settings(name: &str) -> PluginSettings {
    let mut settings = PluginSettings::new(name);
    settings.grants = PluginGrants { message: MessageAccess::Full, edit: true, ..PluginGrants::default() };
    settings.limits.memory_bytes_max = 64 << 20;
    settings.limits.cpu = Duration::from_millis(1000);
    settings.limits.wall = Duration::from_millis(10_000);
    settings
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// The worked example; none without a compiler.
pub fn example(language: Language) -> Option<Vec<u8>> {
    let examples = root().join("plugins/examples");
    if language == Language::Rust {
        let built = waxwing_builder::build(&examples.join("rust/Cargo.toml"), &["checker"], &target());
        return Some(built.unwrap_or_else(|e| panic!("{e}")).remove(0).component);
    }
    guest(language, &examples.join(folder(language)), "checker")
}

/// A test that is passed over must not look like one that passed: in continuous integration it fails, unless that was told to do without
/// (`cargo ci` tells so when the registries of the compilers do not answer, and says it beside its figures).
fn skip(why: &str) {
    let is_set = |variable: &str, value: &str| std::env::var_os(variable).is_some_and(|set| set == value);
    assert!(
        !is_set("CI", "true") || is_set("WAXWING_WITHOUT_LANGUAGES", "1"),
        "{why}; with WAXWING_WITHOUT_LANGUAGES=1 this language is left out"
    );
    eprintln!("skipped: {why}");
}

fn folder(language: Language) -> &'static str {
    match language {
        Language::Rust => "rust",
        Language::C => "c",
        Language::JavaScript => "js",
        Language::Python => "python",
    }
}

/// What the script `build` of a folder makes; none without a compiler.
pub fn guest(language: Language, project: &Path, name: &str) -> Option<Vec<u8>> {
    let Some(variables) = compiler(language) else {
        skip(&format!("no compiler for {language:?}; plugins/examples/compilers installs one"));
        return None;
    };
    let work = target().join("guests-by-language").join(format!("{name}-{}", folder(language)));
    fs::create_dir_all(&work).unwrap();
    let file = work.join("component.wasm");
    let mut build = Command::new(project.join("build"));
    // The script has the server's program make a component of a module, and here the builder does it, which is what that program calls.
    build.arg(&file).env("TARGET", &work).env("WAXWING", "true").envs(variables);
    let output = build.output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", project.display(), String::from_utf8_lossy(&words));
    match language {
        Language::C => Some(waxwing_builder::componentize(&fs::read(work.join("core.wasm")).unwrap()).unwrap()),
        Language::Rust | Language::JavaScript | Language::Python => Some(fs::read(file).unwrap()),
    }
}

/// What tells a script where its compiler is; none if it is nowhere.
fn compiler(language: Language) -> Option<Vec<(&'static str, PathBuf)>> {
    let installed = std::env::var_os("WAXWING_COMPILERS").map_or_else(|| target().join("guest-compilers"), PathBuf::from);
    let there = |variable, path: &str| {
        let path = installed.join(path);
        path.exists().then(|| vec![(variable, path)])
    };
    match language {
        Language::Rust => Some(Vec::new()),
        Language::C if on_path("clang") && on_path("wasm-ld") => Some(Vec::new()),
        Language::C => there("CC", "bin/zig-cc"),
        Language::JavaScript if !on_path("node") => None,
        Language::JavaScript => there("COMPONENTIZE_JS", "js/node_modules/@bytecodealliance/componentize-js/src/componentize.js"),
        Language::Python => there("COMPONENTIZE_PY", "python/bin/componentize-py"),
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
