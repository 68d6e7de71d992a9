//! Logical lines of Postfix table files: comments and empty lines removed, continuation lines joined.

/// Returns each logical line with the number of its first physical line. A line with leading white space continues the previous line;
/// comments and empty lines do not end a logical line (postmap(1), aliases(5)).
pub(crate) fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, before)) if line.starts_with([' ', '\t']) => {
                before.push(' ');
                before.push_str(content);
            }
            Some(_) | None => lines.push((index + 1, content.to_owned())),
        }
    }
    lines
}

/// Splits off a key in double quotes at the start of a line and returns key and remainder; a backslash quotes the next character.
pub(crate) fn split_quoted_key(line: &str) -> Option<(String, &str)> {
    let inner = line.strip_prefix('"')?;
    let mut key = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((key, inner.get(at + 1..)?)),
            '\\' => key.push(chars.next()?.1),
            c => key.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_leaves_out() {
        let text = "# c\na: b,\r\n  c,\n\n# in between\n\td\n  # indented comment\ne f\n";
        assert_eq!(logical_lines(text), [(2, "a: b, c, d".to_owned()), (8, "e f".to_owned())]);
        assert_eq!(logical_lines("  first"), [(1, "first".to_owned())]);
    }

    #[test]
    fn quotes() {
        assert_eq!(split_quoted_key("\"a \\\"b\" rest"), Some(("a \"b".to_owned(), " rest")));
        assert_eq!(split_quoted_key("\"open"), None);
        assert_eq!(split_quoted_key("plain"), None);
    }
}
