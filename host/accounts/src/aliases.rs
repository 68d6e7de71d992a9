//! Aliases files: a name, a colon, a list (aliases(5)). The right-hand side stays text; the plugin `aliases` parses the list.

use crate::logical_lines::{logical_lines, split_quoted_key};
use crate::table_entries::TableEntries;

/// Parses the text of an aliases file. Names are folded to lower case; of two equal names the first counts.
#[must_use]
pub fn parse_aliases(text: &str) -> TableEntries {
    let mut entries = TableEntries::default();
    for (number, line) in logical_lines(text) {
        let split = match split_quoted_key(&line) {
            Some((name, rest)) => rest.trim_start().strip_prefix(':').map(|value| (name, value)),
            None => line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value)),
        };
        match split {
            Some((name, value)) if !name.is_empty() && !value.trim().is_empty() => entries.insert(number, &name, value.trim()),
            Some(_) | None => entries.add_problem(number, "a line has a name, a colon and a list of addresses"),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_newaliases_reads() {
        let text = "# See man 5 aliases\npostmaster:    root\nRoot: anna@a.example,\n  ben\n\n\"odd name\" : carl\n\
                    list: :include:/etc/list\npipe: \"|/usr/bin/x -a: b\"\nempty:\nno colon\nroot: other\n";
        let entries = parse_aliases(text);
        for (name, value) in [
            ("POSTMASTER", "root"),
            ("root", "anna@a.example, ben"),
            ("odd name", "carl"),
            ("list", ":include:/etc/list"),
            ("pipe", "\"|/usr/bin/x -a: b\""),
        ] {
            assert_eq!(entries.get(name), Some(value), "{name}");
        }
        assert_eq!(entries.len(), 5);
        let numbers: Vec<&str> = entries.problems().iter().filter_map(|p| p.split(':').next()).collect();
        assert_eq!(numbers, ["line 9", "line 10", "line 11"]);
    }
}
