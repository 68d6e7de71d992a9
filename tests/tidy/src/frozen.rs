//! A released folder does not change: its file `FROZEN` holds the hash of everything else in it.
//!
//! The WIT package of a release and the fixtures of each queue record format are such folders: plugins and queues of
//! that release exist in the world. A change is a new version in a folder of its own.
use std::collections::BTreeMap;

use crate::Finding;

/// The name of the file that freezes its folder.
pub const MARK: &str = "FROZEN";

/// The hash of a folder: of each file's path in it and content, in order.
pub fn hash(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (path, content) in files.iter().filter(|(path, _)| *path != MARK) {
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
        hasher.update(&(content.len() as u64).to_le_bytes()).update(content);
    }
    hasher.finalize().to_hex().to_string()
}

/// Whether a folder with a mark still is what the mark says.
pub fn unchanged(folder: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<Finding> {
    let Some(mark) = files.get(MARK) else { return Vec::new() };
    let now = hash(files);
    if String::from_utf8_lossy(mark).trim() == now {
        return Vec::new();
    }
    vec![Finding::new(folder, format!("is frozen and was edited: make a new version (its hash is now {now})"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_a_rename_and_a_new_file_are_found() {
        let mut files = BTreeMap::from([("a.wit".to_owned(), b"one".to_vec()), ("b.wit".to_owned(), b"two".to_vec())]);
        assert_eq!(unchanged("wit", &files), [], "not frozen yet");
        files.insert(MARK.to_owned(), format!("{}\n", hash(&files)).into_bytes());
        assert_eq!(unchanged("wit", &files), []);
        let mut edited = files.clone();
        edited.insert("a.wit".to_owned(), b"One".to_vec());
        assert_eq!(unchanged("wit", &edited).len(), 1);
        let mut renamed = files.clone();
        let content = renamed.remove("a.wit").unwrap();
        renamed.insert("c.wit".to_owned(), content);
        assert_eq!(unchanged("wit", &renamed).len(), 1);
        files.insert("new.wit".to_owned(), Vec::new());
        assert_eq!(unchanged("wit", &files).len(), 1);
    }
}
