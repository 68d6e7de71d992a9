//! What `cargo metadata` says about the workspace, cut to what the rules ask.
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// The answer of `cargo metadata --format-version 1`.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Every package, ours and others'.
    pub packages: Vec<Package>,
    /// Ids of the packages that are ours.
    pub workspace_members: Vec<String>,
    /// The resolved graph.
    pub resolve: Option<Resolve>,
}

/// One package.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Cargo's opaque id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Absolute path of its manifest.
    pub manifest_path: String,
    /// What its manifest asks for.
    pub dependencies: Vec<Dependency>,
    /// `[package.metadata]`.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package's name (not its rename).
    pub name: String,
    /// `None` is a normal dependency; else `dev` or `build`.
    pub kind: Option<String>,
}

/// The resolved graph.
#[derive(Debug, Deserialize)]
pub struct Resolve {
    /// One node for each package that is built.
    pub nodes: Vec<Node>,
}

/// One package in the resolved graph.
#[derive(Debug, Deserialize)]
pub struct Node {
    /// Cargo's opaque id.
    pub id: String,
    /// What it was resolved to depend on.
    pub deps: Vec<NodeDep>,
}

/// One edge of the resolved graph.
#[derive(Debug, Deserialize)]
pub struct NodeDep {
    /// Id of the package at the other end.
    pub pkg: String,
    /// In which ways it is depended on.
    pub dep_kinds: Vec<DepKind>,
}

/// The way in which one package depends on another.
#[derive(Debug, Deserialize)]
pub struct DepKind {
    /// `None` is a normal dependency; else `dev` or `build`.
    pub kind: Option<String>,
}

impl Metadata {
    /// Asks cargo about the workspace at `root`, for this machine's platform.
    ///
    /// # Errors
    /// When cargo cannot be run or answers something else than metadata.
    pub fn of(root: &Path) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--filter-platform", &platform])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
    }

    /// Our own packages.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Edges of the resolved graph that a build of the library follows (no dev, no build dependencies).
    pub fn normal_edges(&self) -> HashMap<&str, Vec<&str>> {
        let nodes = self.resolve.iter().flat_map(|resolve| &resolve.nodes);
        nodes
            .map(|node| {
                let normal = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
                (node.id.as_str(), normal.map(|dep| dep.pkg.as_str()).collect())
            })
            .collect()
    }
}

impl Package {
    /// `[package.metadata.waxwing] layer = n`.
    pub fn layer(&self) -> Option<u64> {
        self.metadata.get("waxwing")?.get("layer")?.as_u64()
    }

    /// The folder under the workspace, such as `host/smtp`.
    pub fn folder<'a>(&'a self, root: &Path) -> &'a str {
        let path = self.manifest_path.trim_end_matches("/Cargo.toml");
        path.strip_prefix(&*root.to_string_lossy()).unwrap_or(path).trim_start_matches('/')
    }
}
