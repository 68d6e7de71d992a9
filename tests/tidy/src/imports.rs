//! Reads the imports and the paths of a Rust file, without its test code.
use std::collections::BTreeSet;

use crate::mask::mask;

/// A name that a `use` declaration brings into scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The path as written, one segment each; of a glob import, the path of its module.
    pub path: Vec<String>,
    /// The name in scope; `*` for a glob import.
    pub name: String,
    /// Whether the declaration has a visibility (`pub use`, `pub(crate) use`).
    pub is_reexport: bool,
}

/// The references of one file.
#[derive(Debug, Default)]
pub struct References {
    /// Names of the `use` declarations.
    pub imports: Vec<Import>,
    /// Paths of at least two segments outside `use` declarations.
    pub paths: Vec<Vec<String>>,
    /// All identifiers outside `use` declarations.
    pub words: BTreeSet<String>,
    /// Modules that are declared for tests only.
    pub test_modules: BTreeSet<String>,
}

impl References {
    /// Parses a file; comments, literals and items below `#[cfg(test)]` are left out.
    pub fn parse(source: &str) -> Self {
        let masked = mask(source);
        let tokens = tokens(&masked);
        let mut found = Self::default();
        let mut at = 0;
        while let Some(&token) = tokens.get(at) {
            let rest = tokens.get(at..).unwrap_or_default();
            if rest.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"]) {
                at += found.skip_test_item(rest);
            } else if token == "use" && rest.get(1) != Some(&"<") {
                let is_reexport =
                    at.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|t| ["pub", ")"].contains(t));
                let end = rest.iter().position(|t| *t == ";").unwrap_or(rest.len());
                let mut tree =
                    UseTree { tokens: rest.get(1..end).unwrap_or_default(), at: 0, is_reexport, found: &mut found.imports };
                tree.parse(&[]);
                at += end + 1;
            } else if is_identifier(token) {
                at += found.path(rest);
            } else {
                at += 1;
            }
        }
        found
    }

    /// Notes the path that `rest` begins with; returns its number of tokens.
    fn path(&mut self, rest: &[&str]) -> usize {
        let mut segments = Vec::new();
        let mut length = 0;
        while let Some(segment) = rest.get(length).filter(|token| is_identifier(token)) {
            segments.push((*segment).to_owned());
            self.words.insert((*segment).to_owned());
            length += 1;
            if rest.get(length) != Some(&"::") {
                break;
            }
            length += 1;
        }
        if segments.len() > 1 {
            self.paths.push(segments);
        }
        length
    }

    /// Returns the number of tokens of the item below `#[cfg(test)]`, and notes a module.
    fn skip_test_item(&mut self, rest: &[&str]) -> usize {
        let (mut depth, mut length) = (0usize, 7);
        while let Some(&token) = rest.get(length) {
            length += 1;
            match token {
                "mod" if depth == 0 => self.test_modules.extend(rest.get(length).map(|name| (*name).to_owned())),
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "}" if depth <= 1 => return length,
                "}" => depth -= 1,
                ";" | "," if depth == 0 => return length,
                _ => {}
            }
        }
        length
    }
}

/// A `use` tree while it is parsed.
struct UseTree<'a> {
    tokens: &'a [&'a str],
    at: usize,
    is_reexport: bool,
    found: &'a mut Vec<Import>,
}

impl UseTree<'_> {
    /// Parses one tree below `prefix`, up to the comma or brace behind it.
    fn parse(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        while let Some(&token) = self.tokens.get(self.at) {
            match token {
                "::" | "r" | "#" => self.at += 1,
                "{" => {
                    self.at += 1;
                    self.group(&path);
                    return;
                }
                "*" => {
                    self.at += 1;
                    self.push(path, "*".to_owned());
                    return;
                }
                "as" => {
                    let name = self.tokens.get(self.at + 1).map_or_else(String::new, |name| (*name).to_owned());
                    self.at += 2;
                    self.push(path, name);
                    return;
                }
                "," | "}" => break,
                // `use a::{self}` names the module itself.
                "self" if !path.is_empty() => self.at += 1,
                segment => {
                    path.push(segment.to_owned());
                    self.at += 1;
                }
            }
        }
        if let Some(name) = path.last().cloned() {
            self.push(path, name);
        }
    }

    fn group(&mut self, prefix: &[String]) {
        while let Some(&token) = self.tokens.get(self.at) {
            match token {
                "}" => {
                    self.at += 1;
                    return;
                }
                "," => self.at += 1,
                _ => self.parse(prefix),
            }
        }
    }

    fn push(&mut self, path: Vec<String>, name: String) {
        self.found.push(Import { path, name, is_reexport: self.is_reexport });
    }
}

/// Identifiers, `::`, and single characters.
fn tokens(masked: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = masked.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, behind) = rest.split_at(length);
        found.push(token);
        rest = behind.trim_start();
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(source: &str) -> Vec<String> {
        let imports = References::parse(source).imports;
        imports.iter().map(|import| format!("{} as {}", import.path.join("::"), import.name)).collect()
    }

    #[test]
    fn a_tree_of_imports_is_flattened() {
        assert_eq!(
            imports("use crate::{a::{self, B, c::*}, D as E};\nuse super::F;"),
            ["crate::a as a", "crate::a::B as B", "crate::a::c as *", "crate::D as E", "super::F as F"]
        );
    }

    #[test]
    fn a_visibility_makes_a_reexport() {
        let parsed = References::parse("use a::A; pub use b::B; pub(crate) use c::C;");
        assert_eq!(parsed.imports.iter().map(|import| import.is_reexport).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn paths_of_code_are_found_and_those_of_tests_and_comments_are_not() {
        let parsed = References::parse(
            "#[cfg(test)]\nmod fakes;\nfn f(x: crate::a::B<'_>) { super::g(x) } // crate::c::D\n\
             #[cfg(test)]\nmod tests { fn t() { crate::e::F } }\nfn last() -> h::I {}",
        );
        assert_eq!(parsed.paths, [vec!["crate", "a", "B"], vec!["super", "g"], vec!["h", "I"]]);
        assert!(parsed.test_modules.contains("fakes") && parsed.words.contains("last"));
    }
}
