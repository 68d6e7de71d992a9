//! The files in the repository are what the contract makes of them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

/// `WAXWING_UPDATE=1 cargo test -p waxwing-contract` writes them anew.
#[test]
fn what_is_made_from_the_contract_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in waxwing_contract::generated_files(&root).unwrap() {
        let path = root.join(&file.path);
        if std::env::var_os("WAXWING_UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.content).unwrap();
        }
        let current = fs::read(&path).unwrap_or_default() == file.content;
        assert!(current, "{} is not what {} says: run with WAXWING_UPDATE=1", file.path.display(), waxwing_contract::CONTRACT);
    }
}
