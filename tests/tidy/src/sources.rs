//! The part of a Rust source file that is not test code.

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

/// The text up to the file's `#[cfg(test)] mod`.
pub fn without_tests(source: &str) -> &str {
    let mut at = 0;
    let mut lines = source.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if line.trim_end() == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ")) {
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
    fn test_code_is_left_out() {
        assert!(is_product("host/smtp/src/lib.rs") && is_product("tools/ci/src/main.rs"));
        for path in ["host/smtp/src/tests.rs", "host/smtp/tests/it/main.rs", "tests/tidy/src/lib.rs", "host/smtp/src/x.py"] {
            assert!(!is_product(path), "{path}");
        }
        assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nmod tests {}\n"), "fn a() {}\n");
        assert_eq!(without_tests("#[cfg(test)]\nuse x;\nfn a() {}\n"), "#[cfg(test)]\nuse x;\nfn a() {}\n");
    }
}
