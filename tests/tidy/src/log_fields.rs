//! Fields of log lines: each has one name, listed with its meaning in docs/logging.md.
use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::mask::mask;
use crate::sources::without_tests;

/// The macros that write a line, of the crate `tracing`.
const MACROS: &[&str] = &["tracing::trace!(", "tracing::debug!(", "tracing::info!(", "tracing::warn!(", "tracing::error!("];

/// The macros that build a part of a line, in a file that writes lines.
const TEXT_MACROS: &[&str] = &["format!(", "write!("];

/// Fields in use: name, and the first place that writes it.
pub type LogFields = BTreeMap<String, String>;

/// Adds the fields that the log macros of a file write: `name = value`, `%name`, and `name={…}` within the text.
pub fn collect_log_fields(fields: &mut LogFields, path: &str, source: &str) {
    let source = without_tests(source);
    let masked = mask(source);
    let mut has_line = false;
    for (start, arguments, text) in calls(source, &masked, MACROS) {
        has_line = true;
        let names = structured_fields(arguments, text).into_iter().chain(fields_of_text(text));
        insert_all(fields, names, path, line_of(&masked, start));
    }
    for (start, _, text) in calls(source, &masked, TEXT_MACROS).filter(|_| has_line) {
        insert_all(fields, fields_of_text(text), path, line_of(&masked, start));
    }
}

/// Calls of macros: position, arguments as masked, arguments as written.
fn calls<'a>(source: &'a str, masked: &'a str, macros: &'a [&str]) -> impl Iterator<Item = (usize, &'a str, &'a str)> {
    let starts = macros.iter().flat_map(move |name| masked.match_indices(name).map(|(at, found)| at + found.len()));
    starts.map(move |start| {
        let end = start + argument_length(masked.get(start..).unwrap_or_default());
        (start, masked.get(start..end).unwrap_or_default(), source.get(start..end).unwrap_or_default())
    })
}

fn line_of(masked: &str, at: usize) -> usize {
    masked.get(..at).unwrap_or_default().matches('\n').count() + 1
}

fn insert_all(fields: &mut LogFields, names: impl IntoIterator<Item = String>, path: &str, line: usize) {
    for name in names {
        fields.entry(name).or_insert_with(|| format!("{path}:{line}"));
    }
}

/// Fields in use that the page does not list, and listed fields that no line has.
pub fn compare_with_page(fields: &LogFields, page_path: &str, page: &str) -> Vec<Finding> {
    let listed: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(name, _)| name)).collect();
    let missing = fields.iter().filter(|(name, _)| !listed.contains(name.as_str()));
    let mut findings: Vec<Finding> = missing
        .map(|(name, place)| {
            Finding::new(place, format!("log field `{name}`: use a name of {page_path}, or list the new one there"))
        })
        .collect();
    let unused = listed.iter().filter(|name| !fields.contains_key(**name));
    findings.extend(unused.map(|name| Finding::new(page_path, format!("no log line has the field `{name}`: remove its row"))));
    findings
}

/// Length of the arguments up to the closing parenthesis, in masked source.
fn argument_length(masked: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in masked.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    masked.len()
}

/// Names before the text of a line: arguments of the form `name = value`, `name`, `%name` or `?name`.
fn structured_fields(masked: &str, text: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0_usize, 0, Vec::new());
    for (at, byte) in masked.bytes().chain([b',']).enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                let argument = text.get(start..at).unwrap_or_default().trim();
                if argument.starts_with('"') {
                    break;
                }
                names.extend(field_name(argument));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn field_name(argument: &str) -> Option<String> {
    let argument = argument.trim_start_matches(['%', '?', '&']);
    let name = argument.split('=').next().unwrap_or_default().trim();
    (is_name(name) && !argument.starts_with("target:")).then(|| name.to_owned())
}

/// Names of fields written within the text: a word and `={` or `=<{`.
fn fields_of_text(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices('=') {
        let value = text.get(at + 1..).unwrap_or_default();
        if value.starts_with('{') || value.starts_with("<{") {
            let name: &str = text.get(..at).unwrap_or_default();
            let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |before| before + 1);
            names.extend(name.get(start..).filter(|name| is_name(name)).map(str::to_owned));
        }
    }
    names
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        let mut fields = LogFields::new();
        collect_log_fields(&mut fields, "a.rs", source);
        fields.into_keys().collect()
    }

    #[test]
    fn each_form_of_a_field_is_found() {
        let source = r#"
            tracing::info!(target: "smtpd", client = %peer.ip(), listener, limit = list(&[1, 2]), "refused: {reply}");
            tracing::warn!(%error, ?key, "no = field, {name}");
            tracing::info!("{id}: to=<{to}>{orig}, relay={relay}");
            write!(f, " orig_to=<{}>", self.0)
        "#;
        assert_eq!(names(source), ["client", "error", "key", "limit", "listener", "orig_to", "relay", "to"]);
    }

    #[test]
    fn lines_of_tests_and_texts_of_other_files_do_not_count() {
        assert_eq!(names("fn f() { format!(\"r={nonce}\") }"), Vec::<String>::new());
        assert_eq!(
            names("// tracing::info!(a = 1)\n#[cfg(test)]\nmod tests { fn f() { tracing::info!(b = 1); } }"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn page_and_code_must_agree() {
        let fields = LogFields::from([("client".to_owned(), "a.rs:1".to_owned())]);
        assert_eq!(compare_with_page(&fields, "p.md", "| `client` | address |\n"), []);
        let places: Vec<String> =
            compare_with_page(&fields, "p.md", "| `peer` | address |\n").into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["a.rs:1", "p.md"]);
    }
}
