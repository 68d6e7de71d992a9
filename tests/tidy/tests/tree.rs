//! One test for each rule, over the tree as it is.
use std::collections::BTreeMap;

use waxwing_tidy::circles::CrateModules;
use waxwing_tidy::headers::Edges;
use waxwing_tidy::log_fields::LogFields;
use waxwing_tidy::metadata::Metadata;
use waxwing_tidy::names::{BannedWords, PublicTypes};
use waxwing_tidy::size::Oversize;
use waxwing_tidy::{
    Finding, assert_none, circles, dependencies, frozen, headers, layers, log_fields, names, pages, prose, roots, size, sources,
    tree, words,
};

type Rule = fn(&str, &str) -> Vec<Finding>;

/// Applies a rule to each file that `choose` takes.
fn over_files(choose: impl Fn(&str) -> bool, rule: Rule) -> Vec<Finding> {
    let root = tree::root();
    let chosen = tree::files(&root).into_iter().filter(|path| choose(path));
    chosen.filter_map(|path| tree::text(&root, &path).map(|text| rule(&path, &text))).flatten().collect()
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(tree::root().join(path)).map_err(|error| format!("{path}: {error}"))
}

#[test]
fn every_crate_names_its_layer() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    assert_none("layer", &layers::every_crate_names_its_layer(&metadata, &root));
}

#[test]
fn crates_depend_only_downwards() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    assert_none("layers", &layers::depends_only_downwards(&metadata, &root));
}

#[test]
fn pure_layers_stay_pure() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    assert_none("pure layers", &layers::pure_layers_stay_pure(&metadata, &root));
}

#[test]
fn dependencies_keep_to_their_homes() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    assert_none("homes of dependencies", &layers::dependencies_keep_to_their_homes(&metadata, &root));
}

#[test]
fn every_host_crate_has_a_header() {
    let roots = |path: &str| path.starts_with("host/") && roots::is_crate_root(path);
    assert_none("crate header", &over_files(roots, roots::crate_header));
}

#[test]
fn crate_roots_forbid_unsafe() {
    assert_none("unsafe", &over_files(roots::is_crate_root, roots::forbids_unsafe));
}

#[test]
fn nothing_is_unfinished() {
    assert_none("unfinished", &over_files(|path| path.ends_with(".rs"), words::unfinished));
}

#[test]
fn no_paths_of_one_machine() {
    assert_none("machine paths", &over_files(|path| path != "Cargo.lock", words::machine_paths));
}

#[test]
fn files_and_functions_fit() {
    let root = tree::root();
    let is_source = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        [".rs", ".py", ".sh", ".wit"].iter().any(|end| name.ends_with(end))
            || !(name.contains('.') || path.contains("/fixtures/"))
    };
    let mut found = Oversize::new();
    for path in tree::files(&root).into_iter().filter(is_source).filter(|path| !path.starts_with("LICENSE")) {
        found.extend(tree::text(&root, &path).map(|text| size::oversize(&path, &text)).unwrap_or_default());
    }
    let ratchet = size::read_ratchet(&read("tests/tidy/ratchet.txt").unwrap()).unwrap();
    assert_none("size", &size::against_ratchet(&found, &ratchet));
}

#[test]
fn frozen_folders_are_unchanged() {
    let root = tree::root();
    let files = tree::files(&root);
    let marks = files.iter().filter_map(|path| path.strip_suffix(&format!("/{}", frozen::MARK)));
    for folder in marks {
        let inside = files.iter().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
        let content: BTreeMap<String, Vec<u8>> =
            inside.map(|path| (path.to_owned(), std::fs::read(root.join(folder).join(path)).unwrap())).collect();
        assert_none("frozen", &frozen::unchanged(folder, &content));
    }
}

#[test]
fn the_map_names_every_host_crate() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    let names: Vec<&str> = metadata.ours().filter_map(|package| package.folder(&root).strip_prefix("host/")).collect();
    assert_none("map", &roots::in_the_map(&read("ARCHITECTURE.md").unwrap(), &names));
}

#[test]
fn every_bench_script_is_described() {
    let files = tree::files(&tree::root());
    assert_none("bench", &roots::bench_scripts_are_described(&read("tests/bench/README.md").unwrap(), &files));
}

#[test]
fn public_type_names_are_unique() {
    let root = tree::root();
    let mut types = PublicTypes::new();
    for path in tree::files(&root).into_iter().filter(|path| sources::is_product(path)) {
        names::collect_public_types(&mut types, &path, &tree::text(&root, &path).unwrap_or_default());
    }
    let allowed = names::read_list(&read("tests/tidy/shared-types.txt").unwrap()).unwrap();
    assert_none("type names", &names::shared_type_names(&types, &allowed));
}

#[test]
fn files_import_in_one_direction() {
    let root = tree::root();
    let allowed = circles::read_allowed(&read("tests/tidy/circles.txt").unwrap()).unwrap();
    let mut crates: BTreeMap<String, BTreeMap<String, String>> =
        allowed.iter().map(|(folder, _)| (folder.clone(), BTreeMap::new())).collect();
    for path in tree::files(&root).into_iter().filter(|path| path.starts_with("host/") && sources::is_product(path)) {
        if let Some((folder, file)) = path.split_once("/src/") {
            let source = tree::text(&root, &path).unwrap_or_default();
            crates.entry(folder.to_owned()).or_default().insert(file.to_owned(), source);
        }
    }
    let findings = crates.iter().flat_map(|(folder, files)| {
        let modules = CrateModules::parse(files.iter().map(|(file, source)| (file.as_str(), source.as_str())));
        circles::against_allowed(folder, &modules, &allowed)
    });
    assert_none("circles of imports", &findings.collect::<Vec<_>>());
}

#[test]
fn names_are_of_the_field() {
    let root = tree::root();
    let words = BannedWords::parse(&read("tests/tidy/banned-words.txt").unwrap()).unwrap();
    let files = tree::files(&root).into_iter().filter(|path| sources::is_product(path));
    let findings: Vec<Finding> =
        files.flat_map(|path| names::banned_names(&path, &tree::text(&root, &path).unwrap_or_default(), &words)).collect();
    assert_none("names", &findings);
}

#[test]
fn public_items_are_documented_in_plain_sentences() {
    assert_none("documentation", &over_files(sources::is_product, prose::documentation));
}

#[test]
fn crate_headers_agree_with_manifests() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    let edges = Edges::from_metadata(&metadata, &root);
    let mut findings = Vec::new();
    for name in edges.uses.keys() {
        let source = ["lib.rs", "main.rs"].iter().find_map(|file| tree::text(&root, &format!("host/{name}/src/{file}")));
        findings.extend(headers::agrees_with_manifests(name, &source.unwrap_or_default(), &edges));
    }
    assert_none("crate headers", &findings);
}

#[test]
fn the_graph_of_the_crates_is_current() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    let graph = Edges::from_metadata(&metadata, &root).mermaid();
    assert_none("graph", &pages::graph_is_current(&read("ARCHITECTURE.md").unwrap(), &graph));
}

#[test]
fn pages_name_files_that_exist() {
    let files = tree::files(&tree::root());
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "docs/README.md", "tests/bench/README.md"] {
        assert_none(page, &pages::missing_paths(page, &read(page).unwrap(), &files));
    }
}

/// Packages that declare a dependency for its features alone.
const FEATURES_ONLY: &[&str] = &["tools/unify"];

/// Dependencies that are used without being named: allocators and the like.
const UNNAMED: &[(&str, &str)] = &[];

#[test]
fn declared_dependencies_are_used() {
    let root = tree::root();
    let metadata = Metadata::of(&root).unwrap();
    let files = tree::files(&root);
    let mut findings = dependencies::unused_workspace_entries(&read("Cargo.toml").unwrap(), &metadata);
    for package in metadata.ours().filter(|package| !FEATURES_ONLY.contains(&package.folder(&root))) {
        let folder = package.folder(&root);
        let prefix = format!("{folder}/");
        let sources: String = files
            .iter()
            .filter(|path| path.starts_with(&prefix) && path.ends_with(".rs"))
            .filter_map(|path| tree::text(&root, path))
            .collect();
        let names = package.dependencies.iter().map(|dependency| dependency.name.as_str()).filter(|name| *name != package.name);
        findings.extend(dependencies::unmentioned(folder, names, &sources, UNNAMED));
    }
    assert_none("dependencies", &findings);
}

#[test]
fn each_crate_has_one_test_binary() {
    assert_none("test binaries", &sources::several_test_binaries(&tree::files(&tree::root())));
}

#[test]
fn log_fields_are_listed_on_their_page() {
    const PAGE: &str = "docs/logging.md";
    let root = tree::root();
    let mut fields = LogFields::new();
    for path in tree::files(&root).into_iter().filter(|path| path.starts_with("host/") && sources::is_product(path)) {
        if let Some(text) = tree::text(&root, &path) {
            log_fields::collect_log_fields(&mut fields, &path, &text);
        }
    }
    assert_none("log fields", &log_fields::compare_with_page(&fields, PAGE, &read(PAGE).unwrap()));
}
