//! Names: one public type per name, no banned words, no constructor named `of`.
use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::mask::mask;
use crate::sources::without_tests;

/// Keywords in front of the name of a type.
const TYPE_KEYWORDS: &[&str] = &["struct ", "enum ", "trait ", "union "];

/// Public types of the workspace: name to the files that define one.
pub type PublicTypes = BTreeMap<String, Vec<String>>;

/// Adds the public types of one file.
pub fn collect_public_types(types: &mut PublicTypes, path: &str, source: &str) {
    for line in mask(without_tests(source)).lines() {
        let declared =
            line.trim_start().strip_prefix("pub ").and_then(|rest| TYPE_KEYWORDS.iter().find_map(|word| rest.strip_prefix(word)));
        if let Some(name) = declared.map(leading_identifier).filter(|name| !name.is_empty()) {
            types.entry(name.to_owned()).or_default().push(path.to_owned());
        }
    }
}

/// Reads a list: the first word of each line is the entry, the rest its reason; `#` begins a comment.
///
/// # Errors
/// With the line that has no reason.
pub fn read_list(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (entry, reason) = line.split_once(' ').ok_or_else(|| format!("`{line}` has no reason"))?;
            Ok((entry.to_owned(), reason.trim().to_owned()))
        })
        .collect()
}

/// Public types that share their name, unless `allowed` lists it; and entries of the list that are not shared any more.
pub fn shared_type_names(types: &PublicTypes, allowed: &BTreeMap<String, String>) -> Vec<Finding> {
    let shared = types.iter().filter(|(_, paths)| paths.len() > 1);
    let mut findings: Vec<Finding> = shared
        .clone()
        .filter(|(name, _)| !allowed.contains_key(*name))
        .map(|(name, paths)| {
            Finding::new(paths.join(" "), format!("`{name}` names {} public types: give each its own name", paths.len()))
        })
        .collect();
    let names: BTreeSet<&String> = shared.map(|(name, _)| name).collect();
    let stale = allowed.keys().filter(|name| !names.contains(name));
    findings.extend(stale.map(|name| Finding::new(name, "is not shared any more: take it out of shared-types.txt")));
    findings
}

/// Banned words: in names in `PascalCase` (types, variants), and in names of functions and modules.
#[derive(Debug, Default)]
pub struct BannedWords {
    /// In lower case, banned in types and variants.
    pub types: BTreeSet<String>,
    /// Banned in functions, modules and files.
    pub functions: BTreeSet<String>,
    /// Whole names that contain a banned word and are good.
    pub exceptions: BTreeSet<String>,
}

impl BannedWords {
    /// Reads the list: lines `type WORD`, `function WORD` and `except NAME`, then the better words or the reason.
    ///
    /// # Errors
    /// With the line that is not of that form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ');
            let (Some(kind), Some(word), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(format!("`{line}` has no reason"));
            };
            let set = match kind {
                "type" => &mut words.types,
                "function" => &mut words.functions,
                "except" => &mut words.exceptions,
                _ => return Err(format!("`{line}` begins with neither type, function nor except")),
            };
            set.insert(word.to_owned());
        }
        Ok(words)
    }
}

/// Names of one file with a banned word, and functions named `of`.
pub fn banned_names(path: &str, source: &str, words: &BannedWords) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    if let Some(word) = stem.split('_').find(|part| words.functions.contains(*part)) {
        findings.push(Finding::new(path, format!("the file's name has the banned word `{word}`")));
    }
    for (number, line) in mask(without_tests(source)).lines().enumerate() {
        let place = format!("{path}:{}", number + 1);
        for (before, name) in identifiers(line) {
            let declares = ["fn", "mod"].contains(&before);
            if before == "fn" && name == "of" {
                findings.push(Finding::new(&place, "a function named `of`: say from_…, for_… or new"));
                continue;
            }
            if words.exceptions.contains(name) {
                continue;
            }
            if let Some(word) = declares.then(|| name.split('_').find(|part| words.functions.contains(*part))).flatten() {
                findings.push(Finding::new(&place, format!("`{name}` has the banned word `{word}`")));
            } else if let Some(word) = pascal_words(name).find(|part| words.types.contains(&part.to_lowercase())) {
                findings.push(Finding::new(&place, format!("`{name}` has the banned word `{word}`")));
            }
        }
    }
    findings
}

/// Identifiers of a line that are not qualified by a path (`a::B`), each with the identifier before it.
fn identifiers(line: &str) -> Vec<(&str, &str)> {
    let mut before = "";
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_identifier) {
        let qualified = rest.get(..start).is_some_and(|text| text.ends_with("::"));
        let name = leading_identifier(rest.get(start..).unwrap_or_default());
        if !qualified {
            found.push((before, name));
        }
        before = name;
        rest = rest.get(start + name.len()..).unwrap_or_default();
    }
    found
}

/// The words of a name in `PascalCase`; none for other names.
fn pascal_words(name: &str) -> impl Iterator<Item = &str> {
    let is_pascal = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(|c: char| c.is_ascii_lowercase());
    let name = if is_pascal { name } else { "" };
    let starts: Vec<usize> = name.char_indices().filter(|(_, c)| c.is_ascii_uppercase()).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain(std::iter::once(name.len())).collect::<Vec<_>>();
    starts.into_iter().zip(ends).filter_map(move |(start, end)| name.get(start..end))
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn leading_identifier(text: &str) -> &str {
    let end = text.find(|c| !is_identifier(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_public_type_is_found_once_it_is_not_listed() {
        let mut types = PublicTypes::new();
        collect_public_types(&mut types, "a.rs", "pub struct State;\nstruct Inner;\n// pub enum Gone\n");
        collect_public_types(&mut types, "b.rs", "pub enum State<T> {}\nstruct Inner;\npub trait Only {}\n");
        let none = BTreeMap::new();
        assert_eq!(shared_type_names(&types, &none).len(), 1);
        assert_eq!(shared_type_names(&types, &read_list("State by module\n").unwrap()), []);
        assert_eq!(shared_type_names(&types, &read_list("# why\nState by module\nOnly once\n").unwrap()).len(), 1);
        assert!(read_list("State\n").is_err());
    }

    #[test]
    fn banned_words_are_found_in_names_and_not_in_text() {
        let words = BannedWords::parse("type found outcome\nfunction door guard\nexcept NotFound io::ErrorKind\n").unwrap();
        let found = |source| banned_names("host/x/src/a.rs", source, &words).len();
        assert_eq!(found("enum X { FoundIt }\n"), 1);
        assert_eq!(found("fn open_door() {}\n"), 1);
        assert_eq!(found("a::Found; NotFound; let found = Foundation; // Found, door\n"), 0);
        assert_eq!(found("impl X { fn of() {} fn offer() {} }\n"), 1);
        assert_eq!(found("#[cfg(test)]\nmod tests { struct Found; }\n"), 0);
        assert_eq!(banned_names("host/x/src/door.rs", "", &words).len(), 1);
        assert!(BannedWords::parse("type found\n").is_err() && BannedWords::parse("word found x\n").is_err());
    }
}
