//! The labels *Uses* and *Used by* of crate headers agree with the manifests.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::Finding;
use crate::metadata::Metadata;

/// Crates with a layer, by folder name: those that they use and those that use them, without dev and build dependencies.
#[derive(Debug, Default)]
pub struct Edges {
    /// Crate to crates.
    pub uses: BTreeMap<String, BTreeSet<String>>,
    /// Crate to crates.
    pub used_by: BTreeMap<String, BTreeSet<String>>,
}

impl Edges {
    /// Reads the normal dependencies between the crates under `host/`.
    pub fn from_metadata(metadata: &Metadata, root: &Path) -> Self {
        let folders: BTreeMap<&str, &str> = metadata
            .ours()
            .filter_map(|package| Some((package.name.as_str(), package.folder(root).strip_prefix("host/")?)))
            .collect();
        let mut edges = Self::default();
        for package in metadata.ours() {
            let Some(from) = folders.get(package.name.as_str()) else { continue };
            edges.uses.entry((*from).to_owned()).or_default();
            edges.used_by.entry((*from).to_owned()).or_default();
            for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
                let Some(to) = folders.get(dependency.name.as_str()) else { continue };
                edges.uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
                edges.used_by.entry((*to).to_owned()).or_default().insert((*from).to_owned());
            }
        }
        edges
    }

    /// The dependencies as lines of a Mermaid graph, without those that follow from others.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("graph TD\n");
        for (from, all) in &self.uses {
            for to in all.iter().filter(|to| !all.iter().any(|other| other != *to && self.reaches(other, to))) {
                out.push_str(&format!("  {from} --> {to}\n"));
            }
        }
        out
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        self.uses.get(from).is_some_and(|next| next.iter().any(|next| next == to || self.reaches(next, to)))
    }
}

/// Compares the header of one crate with its edges. *everything* stands for more than half of all crates.
pub fn agrees_with_manifests(name: &str, source: &str, edges: &Edges) -> Vec<Finding> {
    let empty = BTreeSet::new();
    let labels = [("Uses:", edges.uses.get(name)), ("Used by:", edges.used_by.get(name))];
    let mut findings = Vec::new();
    for (label, expected) in labels {
        let expected = expected.unwrap_or(&empty);
        let text = labelled(source, label);
        if text.starts_with("everything") && expected.len() * 2 > edges.uses.len() {
            continue;
        }
        let named: BTreeSet<String> =
            words(&text).filter(|word| edges.uses.contains_key(*word) && *word != name).map(str::to_owned).collect();
        if named != *expected {
            let list: Vec<&str> = expected.iter().map(String::as_str).collect();
            let list = if list.is_empty() { "no other crate under host/".to_owned() } else { list.join(", ") };
            findings
                .push(Finding::new(format!("host/{name}"), format!("`{label}` of the crate header: the manifests say {list}")));
        }
    }
    findings
}

/// The text behind a label of the header, up to the next label, without remarks in parentheses and behind a semicolon.
fn labelled(source: &str, label: &str) -> String {
    let header = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let mut text = String::new();
    for line in header.skip_while(|line| !line.starts_with(label)) {
        let is_other = crate::roots::CRATE_HEADER.iter().any(|other| *other != label && line.starts_with(other));
        if is_other {
            break;
        }
        text.push_str(line.strip_prefix(label).unwrap_or(line));
        text.push(' ');
    }
    let mut depth = 0usize;
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => break,
            _ if depth == 0 => plain.push(character),
            _ => {}
        }
    }
    plain.trim().to_owned()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> Edges {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let map = |rows: &[(&str, &[&str])]| rows.iter().map(|(name, names)| ((*name).to_owned(), set(names))).collect();
        Edges {
            uses: map(&[("net", &["smtp", "types"]), ("smtp", &["types"]), ("types", &[])]),
            used_by: map(&[("net", &[]), ("smtp", &["net"]), ("types", &["net", "smtp"])]),
        }
    }

    #[test]
    fn a_header_that_differs_from_the_manifests_is_found() {
        let header = "//! X.\n//! Uses: types (names);\n//!   smtp by a trait.\n//! Used by: `net`.\n//! Never: net\n";
        assert_eq!(agrees_with_manifests("smtp", header, &edges()), []);
        assert_eq!(agrees_with_manifests("net", header, &edges()).len(), 1, "smtp is behind the semicolon");
        assert_eq!(agrees_with_manifests("types", "//! Uses: nothing of ours.\n//! Used by: everything.\n", &edges()), []);
    }

    #[test]
    fn edges_that_follow_from_others_are_left_out_of_the_graph() {
        assert_eq!(edges().mermaid(), "graph TD\n  net --> smtp\n  smtp --> types\n");
    }
}
