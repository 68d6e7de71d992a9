//! Words that must not be written.
use crate::Finding;
use crate::mask::mask;

/// Code that promises to be written later, or a test that is switched off.
const UNFINISHED: &[&str] = &[concat!("todo", "!"), concat!("unimplemented", "!"), concat!("#[", "ignore")];

/// Folders of one machine or one person.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Unfinished code and switched-off tests in a Rust file.
pub fn unfinished(path: &str, source: &str) -> Vec<Finding> {
    search(path, &mask(source), UNFINISHED, "finish it or leave it out")
}

/// Paths of one machine, in any text file.
pub fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    search(path, text, MACHINE_PATHS, "a path of one machine: derive it or make it a setting")
}

fn search(path: &str, text: &str, words: &[&str], advice: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let word = words.iter().find(|word| line.contains(**word));
        findings.extend(word.map(|word| Finding::new(format!("{path}:{}", number + 1), format!("`{word}`: {advice}"))));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_is_found_and_comments_are_not() {
        let bad = concat!("fn f() { todo", "!() }\n// todo", "!\n#[", "ignore]\n#[", "ignore = \"slow\"]\n");
        let places: Vec<String> = unfinished("a.rs", bad).into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["a.rs:1", "a.rs:3", "a.rs:4"]);
        assert_eq!(unfinished("a.rs", "fn f() {}\n"), []);
    }

    #[test]
    fn machine_paths_are_found() {
        assert_eq!(machine_paths("a.md", concat!("see /wo", "rk/x and /ro", "ot/y")).len(), 1);
        assert_eq!(machine_paths("a.md", "see the network/ folder"), []);
    }
}
