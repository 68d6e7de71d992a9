//! The files of the project.
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Paths under `root` that belong to the project, sorted: what git tracks or would track, or, where there is no
/// repository (an unpacked archive), every file but build output.
pub fn files(root: &Path) -> Vec<String> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success() && !output.stdout.is_empty());
    let mut found: Vec<String> = match git {
        Some(output) => String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect(),
        None => walk(root, root),
    };
    found.retain(|path| root.join(path).is_file());
    found.sort();
    found
}

fn walk(root: &Path, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" && name != "__pycache__" {
            found.extend(walk(root, &path));
        } else if path.is_file() {
            found.extend(path.strip_prefix(root).ok().map(|path| path.to_string_lossy().into_owned()));
        }
    }
    found
}

/// The text of a file of the tree; binary files give `None`.
pub fn text(root: &Path, path: &str) -> Option<String> {
    std::fs::read(root.join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_seen_with_and_without_git() {
        let root = root();
        assert!(files(&root).contains(&"tests/tidy/src/tree.rs".to_owned()));
        assert!(walk(&root, &root).contains(&"tests/tidy/src/tree.rs".to_owned()));
    }
}
