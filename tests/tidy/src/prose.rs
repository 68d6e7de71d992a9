//! Documentation comments of public items say something.
use crate::Finding;
use crate::sources::without_tests;

/// Words of a documentation comment, at least.
pub const DOC_WORDS_MIN: usize = 3;

/// Openings that leave the subject to be guessed.
const VAGUE: &[&str] = &[
    "What", "Who", "Whom", "Whose", "Which", "These", "This", "Those", "That", "It", "Its", "How", "Where", "When", "They",
    "Them", "Others", "Other", "He",
];

/// Documentation comments of public items that are shorter than [`DOC_WORDS_MIN`] words or open with a pronoun or a question word.
pub fn documentation(path: &str, source: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut doc: Option<(usize, String)> = None;
    for (number, line) in without_tests(source).lines().enumerate() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) {
            let (_, words) = doc.get_or_insert_with(|| (number + 1, String::new()));
            words.push_str(text);
            words.push(' ');
            continue;
        }
        if line.starts_with("#[") && doc.is_some() {
            continue;
        }
        let documents = doc.take().filter(|(start, _)| line.starts_with("pub ") || *start == 1);
        if let Some((start, words)) = documents {
            findings.extend(judge(&words).map(|advice| Finding::new(format!("{path}:{start}"), advice)));
        }
    }
    findings
}

fn judge(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let first = words.first().copied().unwrap_or_default();
    let opening = first.trim_matches(|c: char| !c.is_alphanumeric());
    if words.len() < DOC_WORDS_MIN {
        return Some(format!(
            "`{}` has fewer than {DOC_WORDS_MIN} words: say what the item is, with units and source",
            text.trim()
        ));
    }
    VAGUE.contains(&opening).then(|| format!("opens with `{opening}`: begin with a noun or verb of the field"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_vague_documentation_is_found() {
        let found = |source: &str| documentation("a.rs", source).len();
        assert_eq!(found("use x;\n/// These.\npub fn a() {}\n"), 1);
        assert_eq!(found("use x;\n/// What is done next in line.\n#[must_use]\npub fn a() {}\n"), 1);
        assert_eq!(found("use x;\n/// Adds a header field.\npub fn a() {}\n/// Short.\nfn b() {}\n"), 0);
        assert_eq!(found("//! Who may relay mail.\nuse x;\n"), 1);
        assert_eq!(found("//! Relay control: rules.\nuse x;\n"), 0);
    }
}
