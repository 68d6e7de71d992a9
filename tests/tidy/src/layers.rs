//! A crate depends on lower layers only; the large dependencies each have their few homes.
use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::Finding;
use crate::metadata::{Metadata, Package};

/// Up to this layer nothing may reach [`HEAVY`], not even through others.
pub const PURE_LAYER_MAX: u64 = 2;

/// What keeps a crate from being tested without I/O, or makes its build slow.
pub const HEAVY: &[&str] = &["tokio", "fjall", "rustls", "wasmtime", "hickory-resolver", "hickory-proto", "hickory-server"];

/// Dependency, and the crates that may name it in their manifest.
pub const HOMES: &[(&str, &[&str])] = &[
    ("wasmtime", &["waxwing-bindings", "waxwing-sandbox"]),
    ("fjall", &["waxwing-store"]),
    ("wasmtime-wasi", &["waxwing-sandbox"]),
    ("reqwest", &["waxwing-web"]),
    ("rustls", &["waxwing-net", "waxwing-web"]),
    ("tokio-rustls", &["waxwing-net"]),
    ("hickory-resolver", &["waxwing-net"]),
    ("hickory-proto", &["waxwing-net"]),
];

/// Never in the graph: a second TLS stack, an RSA with a timing leak.
pub const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls", "rsa"];

/// Each crate under `host/` names its layer, and so does each of ours that such a crate depends on.
pub fn every_crate_names_its_layer(metadata: &Metadata, root: &Path) -> Vec<Finding> {
    let hosts = metadata.ours().filter(|package| package.folder(root).starts_with("host/"));
    hosts
        .filter(|package| package.layer().is_none())
        .map(|package| Finding::new(package.folder(root), "say its layer: [package.metadata.waxwing] layer = n"))
        .collect()
}

/// A crate with a layer depends on lower layers only, never sideways (dev-dependencies count too, but for test tools).
pub fn depends_only_downwards(metadata: &Metadata, root: &Path) -> Vec<Finding> {
    let ours: HashMap<&str, &Package> = metadata.ours().map(|package| (package.name.as_str(), package)).collect();
    let mut findings = Vec::new();
    for package in metadata.ours() {
        let Some(layer) = package.layer() else { continue };
        for dependency in &package.dependencies {
            let Some(target) = ours.get(dependency.name.as_str()) else { continue };
            let for_tests = dependency.kind.as_deref() == Some("dev");
            // A crate names itself where its tests need one of its features.
            if for_tests && (target.folder(root).starts_with("tests/") || target.name == package.name) {
                continue;
            }
            let advice = match target.layer() {
                None => format!("depends on {}, which names no layer", target.name),
                Some(lower) if lower >= layer => {
                    format!("layer {layer} depends on {} of layer {lower}: only lower layers may be used", target.name)
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(package.folder(root), advice));
        }
    }
    findings
}

/// Crates of the pure layers reach none of [`HEAVY`] through normal dependencies.
pub fn pure_layers_stay_pure(metadata: &Metadata, root: &Path) -> Vec<Finding> {
    let names: HashMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let edges = metadata.normal_edges();
    let mut findings = Vec::new();
    for package in metadata.ours().filter(|package| package.layer().is_some_and(|layer| layer <= PURE_LAYER_MAX)) {
        let mut seen = HashSet::from([package.id.as_str()]);
        let mut open = vec![(package.id.as_str(), package.name.clone())];
        while let Some((id, path)) = open.pop() {
            for next in edges.get(id).into_iter().flatten().filter(|next| seen.insert(next)) {
                let name = names.get(next).copied().unwrap_or(next);
                let path = format!("{path} -> {name}");
                if HEAVY.contains(&name) {
                    findings.push(Finding::new(package.folder(root), format!("a pure layer reaches {name}: {path}")));
                }
                open.push((next, path));
            }
        }
    }
    findings
}

/// Only the crates that [`HOMES`] lists name the dependency; nothing names or reaches [`BANNED`].
pub fn dependencies_keep_to_their_homes(metadata: &Metadata, root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.ours() {
        for dependency in &package.dependencies {
            let homes = HOMES.iter().find(|(name, _)| *name == dependency.name).map(|(_, homes)| *homes);
            // A test may play the other side.
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if !for_tests && homes.is_some_and(|homes| !homes.contains(&package.name.as_str())) {
                let advice = format!("{} belongs to {} alone", dependency.name, homes.unwrap_or_default().join(" and "));
                findings.push(Finding::new(package.folder(root), advice));
            }
        }
    }
    let banned = metadata.packages.iter().filter(|package| BANNED.contains(&package.name.as_str()));
    findings.extend(banned.map(|package| Finding::new(&package.name, "must not be in the dependency graph")));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of three crates: `a` (layer 0), `b` (layer `b_layer`), and tokio from outside.
    fn workspace(b_layer: &str, b_deps: &str, a_edges: &str) -> Metadata {
        let text = format!(
            r#"{{"workspace_members":["a","b","t"],"packages":[
            {{"id":"a","name":"waxwing-a","manifest_path":"/w/host/a/Cargo.toml","dependencies":[],"metadata":{{"waxwing":{{"layer":0}}}}}},
            {{"id":"b","name":"waxwing-b","manifest_path":"/w/host/b/Cargo.toml","dependencies":[{b_deps}],"metadata":{b_layer}}},
            {{"id":"t","name":"waxwing-testkit","manifest_path":"/w/tests/testkit/Cargo.toml","dependencies":[]}},
            {{"id":"m","name":"mio","manifest_path":"/r/mio/Cargo.toml","dependencies":[]}},
            {{"id":"k","name":"tokio","manifest_path":"/r/tokio/Cargo.toml","dependencies":[]}}],
            "resolve":{{"nodes":[{{"id":"a","deps":[{a_edges}]}},{{"id":"m","deps":[{{"pkg":"k","dep_kinds":[{{"kind":null}}]}}]}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const ROOT: &str = "/w";
    const LAYER_1: &str = r#"{"waxwing":{"layer":1}}"#;
    const ON_A: &str = r#"{"name":"waxwing-a","kind":null}"#;

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert_eq!(every_crate_names_its_layer(&workspace(LAYER_1, ON_A, ""), Path::new(ROOT)), []);
        let found = every_crate_names_its_layer(&workspace("null", ON_A, ""), Path::new(ROOT));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "host/b");
    }

    #[test]
    fn sideways_and_upwards_are_found() {
        assert_eq!(depends_only_downwards(&workspace(LAYER_1, ON_A, ""), Path::new(ROOT)), []);
        assert_eq!(depends_only_downwards(&workspace(r#"{"waxwing":{"layer":0}}"#, ON_A, ""), Path::new(ROOT)).len(), 1);
        let dev_sideways = r#"{"name":"waxwing-a","kind":"dev"}"#;
        assert_eq!(depends_only_downwards(&workspace(r#"{"waxwing":{"layer":0}}"#, dev_sideways, ""), Path::new(ROOT)).len(), 1);
        let test_tool = r#"{"name":"waxwing-testkit","kind":"dev"}"#;
        assert_eq!(depends_only_downwards(&workspace(LAYER_1, test_tool, ""), Path::new(ROOT)), []);
        let linked_test_tool = r#"{"name":"waxwing-testkit","kind":null}"#;
        assert_eq!(depends_only_downwards(&workspace(LAYER_1, linked_test_tool, ""), Path::new(ROOT)).len(), 1);
    }

    #[test]
    fn a_heavy_dependency_is_found_through_another() {
        let through_mio = r#"{"pkg":"m","dep_kinds":[{"kind":null}]}"#;
        let found = pure_layers_stay_pure(&workspace(LAYER_1, "", through_mio), Path::new(ROOT));
        assert_eq!(found.len(), 1);
        assert!(found[0].advice.contains("waxwing-a -> mio -> tokio"), "{}", found[0]);
        let in_tests_only = r#"{"pkg":"m","dep_kinds":[{"kind":"dev"}]}"#;
        assert_eq!(pure_layers_stay_pure(&workspace(LAYER_1, "", in_tests_only), Path::new(ROOT)), []);
    }

    #[test]
    fn a_dependency_outside_its_home_is_found() {
        let fjall = r#"{"name":"fjall","kind":null}"#;
        assert_eq!(dependencies_keep_to_their_homes(&workspace(LAYER_1, fjall, ""), Path::new(ROOT)).len(), 1);
        assert_eq!(dependencies_keep_to_their_homes(&workspace(LAYER_1, ON_A, ""), Path::new(ROOT)), []);
        let mut metadata = workspace(LAYER_1, "", "");
        metadata.packages[4].name = "rsa".into();
        assert_eq!(dependencies_keep_to_their_homes(&metadata, Path::new(ROOT)).len(), 1);
    }
}
