//! Pages name files that exist, and the committed dependency graph is that of the manifests.
use std::collections::BTreeSet;

use crate::Finding;

/// Endings and folders by which a word in backquotes is taken for a path.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".wit", ".txt", ".py"];

/// Top folders of the tree: a path that begins with one of them must exist.
const FOLDERS: &[&str] = &["host/", "plugins/", "tests/", "tools/", "docs/", "wit/", "config/", "dist/"];

/// Paths in backquotes and link targets of a page that are no file or folder of the tree.
///
/// A word counts as a path if it begins with one of [`FOLDERS`]; one with `…`, `*`, upper-case placeholders or spaces does not.
pub fn missing_paths(page: &str, text: &str, files: &[String]) -> Vec<Finding> {
    let mut folders = BTreeSet::new();
    for file in files {
        let mut rest = file.as_str();
        while let Some((folder, _)) = rest.rsplit_once('/') {
            folders.insert(folder);
            rest = folder;
        }
    }
    let known: BTreeSet<&str> = files.iter().map(String::as_str).chain(folders).collect();
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split(['`', ' ', '(', ')', ',', ';', '|', '"']) {
            let word = word.trim_end_matches(['.', ':', '/']);
            let word = word.split_once("::").map_or(word, |(path, _)| path);
            if !is_path(word) || word.split_once('{').is_some() {
                continue;
            }
            if !known.contains(word) {
                findings.push(Finding::new(format!("{page}:{}", number + 1), format!("`{word}` is not there")));
            }
        }
    }
    findings
}

fn is_path(word: &str) -> bool {
    let open = word.contains(['*', '…', '<', '$', '['])
        || word.split('/').any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase()));
    let ending = ENDINGS.iter().any(|ending| word.ends_with(ending));
    !open && FOLDERS.iter().any(|folder| word.starts_with(folder)) && (ending || !word.contains('.'))
}

/// Whether the block of Mermaid in `page` is `graph`.
pub fn graph_is_current(page: &str, graph: &str) -> Vec<Finding> {
    let committed = page.split_once("```mermaid\n").and_then(|(_, rest)| rest.split_once("```")).map(|(block, _)| block);
    if committed == Some(graph) {
        return Vec::new();
    }
    vec![Finding::new(
        "ARCHITECTURE.md",
        format!("the graph of the crates differs from the manifests; put this into it:\n{graph}"),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_found() {
        let files = vec!["host/net/src/drive.rs".to_owned(), "docs/x.md".to_owned()];
        let found = |text| missing_paths("A.md", text, &files).len();
        assert_eq!(found("see `host/net/src/drive.rs`, host/net/ and [x](docs/x.md)."), 0);
        assert_eq!(found("see `host/net/src/gone.rs` and `docs/y.md`"), 2);
        assert_eq!(found("`host/NAME/src/lib.rs`, `tests/*.rs`, drive.rs, `host/net/src/drive.rs::run`"), 0);
    }

    #[test]
    fn an_old_graph_is_found() {
        let page = "# A\n```mermaid\ngraph TD\n  a --> b\n```\n";
        assert_eq!(graph_is_current(page, "graph TD\n  a --> b\n"), []);
        assert_eq!(graph_is_current(page, "graph TD\n").len(), 1);
    }
}
