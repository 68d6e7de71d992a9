//! Required content of crate roots, of ARCHITECTURE.md and of the README of the benches.
use crate::Finding;

/// The labels of a crate header, in their order.
pub const CRATE_HEADER: &[&str] = &["Owns:", "Uses:", "Used by:", "Never:", "Start reading at:"];

/// Folders whose crates may hold `unsafe`: generated bindings, loading of our own compiled components, guests.
pub const UNSAFE_ALLOWED: &[&str] = &["host/bindings/", "host/sandbox/", "plugins/"];

/// Whether `path` is the root of a crate.
pub fn is_crate_root(path: &str) -> bool {
    !path.starts_with("tests/fixtures/") && (path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs"))
}

/// A crate root under `host/` opens with a crate header.
pub fn crate_header(path: &str, source: &str) -> Vec<Finding> {
    let header: String =
        source.lines().take_while(|line| line.starts_with("//!")).fold(String::new(), |all, line| all + line + "\n");
    let mut rest = header.as_str();
    for label in CRATE_HEADER {
        let line = format!("//! {label}");
        match rest.find(&line) {
            Some(at) => rest = rest.get(at..).unwrap_or_default(),
            None => {
                let advice = format!("the crate header lacks a line `//! {label} …` (in the order {})", CRATE_HEADER.join(" "));
                return vec![Finding::new(path, advice)];
            }
        }
    }
    Vec::new()
}

/// A crate root forbids `unsafe`, but for the few of [`UNSAFE_ALLOWED`].
pub fn forbids_unsafe(path: &str, source: &str) -> Vec<Finding> {
    let allowed = UNSAFE_ALLOWED.iter().any(|folder| path.starts_with(folder));
    if allowed || source.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
        return Vec::new();
    }
    vec![Finding::new(path, "begin it with #![forbid(unsafe_code)]")]
}

/// ARCHITECTURE.md names each crate under `host/` as `` `name` ``, `name/` or `host/name`.
pub fn in_the_map(map: &str, crates: &[&str]) -> Vec<Finding> {
    let named =
        |name: &str| [format!("`{name}`"), format!("{name}/"), format!("host/{name}")].iter().any(|form| map.contains(form));
    let missing = crates.iter().filter(|name| !named(name));
    missing.map(|name| Finding::new(format!("host/{name}"), "ARCHITECTURE.md does not mention it")).collect()
}

/// Each script under `tests/bench` is described in its README.
pub fn bench_scripts_are_described(readme: &str, files: &[String]) -> Vec<Finding> {
    let scripts = files.iter().filter_map(|path| path.strip_prefix("tests/bench/")).filter(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        matches!(extension, None | Some("py" | "sh")) && !path.starts_with("mailload/")
    });
    let missing = scripts.filter(|path| !readme.contains(&format!("`{path}`")));
    missing.map(|path| Finding::new(format!("tests/bench/{path}"), "tests/bench/README.md does not describe it")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "//! X.\n//!\n//! Owns: a\n//! Uses: b\n//! Used by: c\n//! Never: d\n//! Start reading at: e\n#![forbid(unsafe_code)]\n";

    #[test]
    fn a_header_with_a_label_less_is_found() {
        assert_eq!(crate_header("host/x/src/lib.rs", HEADER), []);
        for label in CRATE_HEADER {
            let without: String = HEADER.lines().filter(|line| !line.contains(label)).map(|line| format!("{line}\n")).collect();
            assert_eq!(crate_header("host/x/src/lib.rs", &without).len(), 1, "{label}");
        }
        assert_eq!(crate_header("host/x/src/lib.rs", &HEADER.replace("//!", "//")).len(), 1);
    }

    #[test]
    fn a_root_that_allows_unsafe_is_found() {
        assert_eq!(forbids_unsafe("host/x/src/lib.rs", HEADER), []);
        assert_eq!(forbids_unsafe("host/x/src/lib.rs", "// #![forbid(unsafe_code)]\n").len(), 1);
        assert_eq!(forbids_unsafe("host/sandbox/src/lib.rs", ""), []);
        assert!(is_crate_root("host/x/src/main.rs") && !is_crate_root("host/x/src/a.rs"));
    }

    #[test]
    fn a_crate_off_the_map_is_found() {
        assert_eq!(in_the_map("`smtp` and queue/", &["smtp", "queue"]), []);
        assert_eq!(in_the_map("about smtp in general", &["smtp"]).len(), 1);
    }

    #[test]
    fn an_undescribed_bench_script_is_found() {
        let files: Vec<String> =
            ["tests/bench/relay", "tests/bench/lib/a.py", "tests/bench/README.md", "host/x.rs"].map(Into::into).into();
        assert_eq!(bench_scripts_are_described("`relay` does; `lib/a.py` too", &files), []);
        assert_eq!(bench_scripts_are_described("`relay` does", &files).len(), 1);
    }
}
