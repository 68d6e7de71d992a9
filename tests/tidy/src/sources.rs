//! Source files by kind: product code, test code, test binaries.
use std::collections::BTreeMap;

use crate::Finding;

/// Folders whose Rust files are measured and whose names must be plain.
const MEASURED: &[&str] = &["host/", "plugins/", "tools/"];

/// Folders of test code below a measured one.
const TEST_FOLDERS: &[&str] = &["/tests/", "/examples/", "/fixtures/", "/benches/", "/tests_"];

/// Whether `path` is a Rust file of the server, a plugin or a tool, and no test.
pub fn is_product(path: &str) -> bool {
    let is_test = path.ends_with("tests.rs") || TEST_FOLDERS.iter().any(|folder| path.contains(folder));
    path.ends_with(".rs")
        && !is_test
        && MEASURED.iter().any(|folder| path.starts_with(folder))
        && !path.starts_with("plugins/examples/")
}

/// Crates with more than one integration-test binary: each links all dependencies again.
pub fn several_test_binaries(files: &[String]) -> Vec<Finding> {
    let mut binaries: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.starts_with("tests/fixtures/")) {
        let Some((folder, rest)) = file.rsplit_once("/tests/").filter(|(_, rest)| rest.ends_with(".rs")) else { continue };
        if !rest.contains('/') || rest.strip_suffix("/main.rs").is_some_and(|name| !name.contains('/')) {
            *binaries.entry(folder).or_default() += 1;
        }
    }
    let several = binaries.into_iter().filter(|(folder, count)| *count > 1 && !folder.ends_with("/src"));
    several
        .map(|(folder, count)| Finding::new(folder, format!("has {count} test binaries: make them modules of tests/it/main.rs")))
        .collect()
}

/// The text up to the file's `#[cfg(test)] mod`.
pub fn without_tests(source: &str) -> &str {
    let mut at = 0;
    let lines: Vec<&str> = source.split_inclusive('\n').collect();
    for (number, line) in lines.iter().enumerate() {
        let mut behind = lines.iter().skip(number + 1).skip_while(|next| next.starts_with("#["));
        if line.trim_end() == "#[cfg(test)]" && behind.next().is_some_and(|next| next.starts_with("mod ")) {
            return source.get(..at).unwrap_or(source);
        }
        at += line.len();
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_test_binary_is_found() {
        let files = |names: &[&str]| names.iter().map(|name| format!("host/x/{name}")).collect::<Vec<_>>();
        assert_eq!(
            several_test_binaries(&files(&[
                "tests/it/main.rs",
                "tests/it/a.rs",
                "tests/common/mod.rs",
                "src/tests/a.rs",
                "src/tests/b.rs"
            ])),
            []
        );
        assert_eq!(several_test_binaries(&files(&["tests/a.rs", "tests/b.rs"])).len(), 1);
        assert_eq!(several_test_binaries(&files(&["tests/it/main.rs", "tests/b.rs"])).len(), 1);
    }

    #[test]
    fn test_code_is_left_out() {
        assert!(is_product("host/smtp/src/lib.rs") && is_product("tools/ci/src/main.rs"));
        for path in ["host/smtp/src/tests.rs", "host/smtp/tests/it/main.rs", "tests/tidy/src/lib.rs", "host/smtp/src/x.py"] {
            assert!(!is_product(path), "{path}");
        }
        assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nmod tests {}\n"), "fn a() {}\n");
        assert_eq!(without_tests("#[cfg(test)]\nuse x;\nfn a() {}\n"), "#[cfg(test)]\nuse x;\nfn a() {}\n");
    }
}
