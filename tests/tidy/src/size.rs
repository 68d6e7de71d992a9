//! A file answers one question and a function fits a screen; a ratchet lists the exceptions, which may only shrink.
use std::collections::BTreeMap;

use crate::Finding;
use crate::mask::mask;

/// Lines of a source file, tests included.
pub const FILE_LINES_MAX: usize = 600;
/// Lines of code in a function's body, as clippy counts them: without blank lines and comments.
pub const FUNCTION_LINES_MAX: usize = 70;

/// What is over a limit: `path` for a file, `path::function` for a function, with its lines.
pub type Oversize = BTreeMap<String, usize>;

/// The file and the functions of one source file that are over a limit.
pub fn oversize(path: &str, source: &str) -> Oversize {
    let mut over = Oversize::new();
    let lines = source.lines().count();
    if lines > FILE_LINES_MAX {
        over.insert(path.to_owned(), lines);
    }
    if path.ends_with(".rs") {
        for (name, lines) in functions(source).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            let longest = over.entry(format!("{path}::{name}")).or_default();
            *longest = lines.max(*longest);
        }
    }
    over
}

/// Reads the ratchet: `lines path[::function]`, one a line, `#` begins a comment.
///
/// # Errors
/// With the line that is not of that form.
pub fn read_ratchet(text: &str) -> Result<Oversize, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (count, place) = line.split_once(' ').ok_or_else(|| line.to_owned())?;
            Ok((place.trim().to_owned(), count.parse().map_err(|_| line.to_owned())?))
        })
        .collect()
}

/// Compares the tree with the ratchet: nothing new, nothing grown, and what shrank is written down.
pub fn against_ratchet(found: &Oversize, ratchet: &Oversize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, lines) in found {
        match ratchet.get(place) {
            None => findings.push(Finding::new(
                place,
                format!("{lines} lines; a file may have {FILE_LINES_MAX}, a function {FUNCTION_LINES_MAX}: split it by question"),
            )),
            Some(allowed) if lines > allowed => {
                findings.push(Finding::new(place, format!("grew from {allowed} to {lines} lines; it may only shrink")));
            }
            Some(allowed) if lines < allowed => {
                findings.push(Finding::new(place, format!("shrank to {lines} lines: write that into the ratchet")));
            }
            Some(_) => {}
        }
    }
    let gone = ratchet.keys().filter(|place| !found.contains_key(*place));
    findings.extend(gone.map(|place| Finding::new(place, "is within the limit now: take it out of the ratchet")));
    findings
}

/// Name and body lines of each function with a body.
fn functions(source: &str) -> Vec<(String, usize)> {
    let masked = mask(source);
    let mut found = Vec::new();
    for (start, _) in masked.match_indices("fn ") {
        let before = masked.get(..start).and_then(|text| text.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = masked.get(start + 3..).unwrap_or_default();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(open) = rest.find(['{', ';']).filter(|_| !name.is_empty()) else { continue };
        if let Some(body) = rest.get(open..).and_then(block) {
            found.push((name, body.lines().skip(1).filter(|line| !line.trim().is_empty()).count().saturating_sub(1)));
        }
    }
    found
}

/// The text from an opening brace to its closing one; `None` when it does not begin with a brace.
fn block(text: &str) -> Option<&str> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return text.get(..=at),
            b'}' => depth -= 1,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function_of(lines: usize) -> String {
        format!(
            "/// a comment with fn other() {{\nfn long<'a>(x: &'a str) -> usize {{\n{}}}\nfn short() {{}}\n",
            "    a();\n".repeat(lines)
        )
    }

    #[test]
    fn a_long_function_is_found_by_name() {
        assert_eq!(oversize("host/x.rs", &function_of(FUNCTION_LINES_MAX)), Oversize::new());
        let over = oversize("host/x.rs", &function_of(FUNCTION_LINES_MAX + 1));
        assert_eq!(over, Oversize::from([("host/x.rs::long".to_owned(), FUNCTION_LINES_MAX + 1)]));
    }

    #[test]
    fn blank_lines_and_comments_are_no_code() {
        let source = format!("fn f() {{\n{}}}\n", "\n    // why\n".repeat(FUNCTION_LINES_MAX));
        assert_eq!(oversize("host/x.rs", &source), Oversize::new());
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(oversize("a.py", &"x\n".repeat(FILE_LINES_MAX)), Oversize::new());
        assert_eq!(oversize("a.py", &"x\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn the_ratchet_only_goes_down() {
        let ratchet = read_ratchet("# why\n80 a.rs::f\n").unwrap();
        let found = |lines| against_ratchet(&Oversize::from([("a.rs::f".to_owned(), lines)]), &ratchet);
        assert_eq!(found(80), []);
        assert!(found(81)[0].advice.contains("grew"));
        assert!(found(79)[0].advice.contains("shrank"));
        assert!(against_ratchet(&Oversize::new(), &ratchet)[0].advice.contains("take it out"));
        assert_eq!(against_ratchet(&Oversize::from([("b.rs".to_owned(), 700)]), &Oversize::new()).len(), 1);
        assert!(read_ratchet("many a.rs").is_err());
    }
}
