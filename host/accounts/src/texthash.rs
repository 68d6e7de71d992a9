//! `texthash:` files: a key, white space, a value (postmap(1)).

use crate::logical_lines::{logical_lines, split_quoted_key};
use crate::table_entries::TableEntries;

/// Parses the text of a `texthash:` file. Keys are folded to lower case; of two equal keys the first counts.
#[must_use]
pub fn parse_texthash(text: &str) -> TableEntries {
    let mut entries = TableEntries::default();
    for (number, line) in logical_lines(text) {
        let (key, value) = match split_quoted_key(&line) {
            Some((key, rest)) => (key, rest.trim()),
            None => line.split_once([' ', '\t']).map_or((line.clone(), ""), |(key, value)| (key.to_owned(), value.trim())),
        };
        if key.is_empty() || value.is_empty() {
            entries.add_problem(number, "a line has a key, white space and a value");
        } else {
            entries.insert(number, &key, value);
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postmap_reads() {
        let entries =
            parse_texthash("A@b.example\tmail/a/\n\"x y\" two words\n\n@c.example  box/\n   more\nlonely\nA@B.example 2\n");
        assert_eq!(entries.get("a@b.example"), Some("mail/a/"));
        assert_eq!(entries.get("X Y"), Some("two words"));
        assert_eq!(entries.get("@c.example"), Some("box/ more"));
        assert_eq!(entries.len(), 3);
        assert_eq!(
            entries.problems(),
            ["line 6: a line has a key, white space and a value", "line 7: duplicate key \"A@B.example\"; the first counts"]
        );
    }
}
