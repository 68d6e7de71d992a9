//! Dependencies that are declared are used.
use std::collections::BTreeSet;

use crate::Finding;
use crate::metadata::Metadata;

/// Names under `[workspace.dependencies]` that no member asks for.
pub fn unused_workspace_entries(manifest: &str, metadata: &Metadata) -> Vec<Finding> {
    let declared: BTreeSet<&str> =
        metadata.ours().flat_map(|package| &package.dependencies).map(|dependency| dependency.name.as_str()).collect();
    let section = manifest.lines().skip_while(|line| line.trim() != "[workspace.dependencies]").skip(1);
    let entries = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    let names = entries.map(|(name, _)| name.trim()).filter(|name| !name.starts_with('#'));
    let unused = names.filter(|name| !declared.contains(name));
    unused.map(|name| Finding::new("Cargo.toml", format!("no member uses `{name}` of [workspace.dependencies]"))).collect()
}

/// Dependencies of one package whose name no source file of the package mentions.
pub fn unmentioned<'a>(
    folder: &str,
    names: impl Iterator<Item = &'a str>,
    sources: &str,
    allowed: &[(&str, &str)],
) -> Vec<Finding> {
    let identifiers: BTreeSet<&str> = sources.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let unused = names.filter(|name| {
        let is_allowed = allowed.iter().any(|(allowed_folder, dependency)| *allowed_folder == folder && dependency == name);
        !is_allowed && !identifiers.contains(name.replace('-', "_").as_str())
    });
    unused.map(|name| Finding::new(folder, format!("declares `{name}` and does not use it"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmentioned_dependency_is_found() {
        let names = ["tokio-rustls", "serde", "bytes"];
        let found = unmentioned("host/x", names.into_iter(), "use tokio_rustls::X; serde::Y", &[]);
        assert_eq!(found, [Finding::new("host/x", "declares `bytes` and does not use it")]);
        assert_eq!(unmentioned("host/x", names.into_iter(), "tokio_rustls serde", &[("host/x", "bytes")]), []);
    }

    #[test]
    fn a_workspace_entry_without_a_member_is_found() {
        let metadata = Metadata { packages: Vec::new(), workspace_members: Vec::new(), resolve: None };
        let manifest = "[workspace.dependencies]\n# why\nserde = \"1\"\n[workspace.lints]\nx = 1\n";
        assert_eq!(unused_workspace_entries(manifest, &metadata).len(), 1);
    }
}
