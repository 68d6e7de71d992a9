//! Parser for the right-hand sides of aliases (aliases(5), virtual(5)).

use std::fmt;

use waxwing_sdk::Address;

/// An entry of an alias's right-hand side.
#[derive(Clone, Debug, PartialEq)]
pub enum AliasEntry {
    /// Mail address; a name, if without domain.
    Address(Address),
    /// `\name`: the user itself, without alias expansion.
    User(String),
    /// `@domain` of virtual(5): the same local part at another domain.
    Domain(String),
    /// `|command`: delivery to a command.
    Command(String),
    /// `/path`: delivery to a file.
    File(String),
    /// `:include:/path`: list of addresses in a file.
    Include(String),
}

/// Syntax error of a right-hand side, with the text at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasParseError {
    problem: &'static str,
    text: String,
}

impl fmt::Display for AliasParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem, self.text)
    }
}

/// Parses a right-hand side: entries separated by commas.
pub fn parse_alias(text: &str) -> Result<Vec<AliasEntry>, AliasParseError> {
    let mut entries = Vec::new();
    for item in split_entries(text)? {
        entries.push(parse_entry(&item)?);
    }
    Ok(entries)
}

/// Splits at commas outside quotes and comments; drops comments.
fn split_entries(text: &str) -> Result<Vec<String>, AliasParseError> {
    let open = |what| AliasParseError { problem: what, text: text.to_owned() };
    let (mut items, mut item) = (Vec::new(), String::new());
    let (mut quoted, mut depth) = (false, 0u32);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let next = chars.next().ok_or_else(|| open("a backslash at the end"))?;
                if depth == 0 {
                    item.extend(['\\', next]);
                }
            }
            '"' if depth == 0 => {
                quoted = !quoted;
                item.push(c);
            }
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    if quoted || depth > 0 {
        return Err(open("a quote or comment without end"));
    }
    items.push(item);
    Ok(items.iter().map(|i| i.trim().to_owned()).filter(|i| !i.is_empty()).collect())
}

fn parse_entry(item: &str) -> Result<AliasEntry, AliasParseError> {
    let bad = |what| AliasParseError { problem: what, text: item.to_owned() };
    // Commands and files may be quoted as a whole or after the mark: "|cmd a, b" and |"cmd a, b".
    let plain = unquote(item).unwrap_or_else(|| item.to_owned());
    if let Some(command) = plain.strip_prefix('|') {
        let command = unquote(command.trim()).unwrap_or_else(|| command.trim().to_owned());
        return if command.is_empty() { Err(bad("an empty command")) } else { Ok(AliasEntry::Command(command)) };
    }
    if plain.starts_with('/') && !plain.contains('@') {
        return Ok(AliasEntry::File(plain));
    }
    if let Some(path) = plain.get(..9).filter(|start| start.eq_ignore_ascii_case(":include:")).and(plain.get(9..)) {
        return Ok(AliasEntry::Include(path.trim().to_owned()));
    }
    if let Some(domain) = item.strip_prefix('@') {
        return Ok(AliasEntry::Domain(domain.to_lowercase()));
    }
    if let Some(name) = item.strip_prefix('\\') {
        return match Address::parse(name) {
            Some(user) if user.domain.is_empty() => Ok(AliasEntry::User(user.local)),
            Some(_) | None => Err(bad("no user's name behind a backslash")),
        };
    }
    let address = item.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(item);
    Address::parse(address).map(AliasEntry::Address).ok_or_else(|| bad("not an address"))
}

/// Returns the content of an item quoted as a whole.
fn unquote(item: &str) -> Option<String> {
    let inner = item.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => text.push(chars.next()?),
            _ => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AliasEntry {
        AliasEntry::Address(Address::parse(text).unwrap())
    }

    #[test]
    fn reads_what_aliases_5_shows() {
        for (text, entries) in [
            ("ann", vec![address("ann")]),
            (" ann , bob@example.com,\tcarl ", vec![address("ann"), address("bob@example.com"), address("carl")]),
            ("\"a, b\"@example.com, c", vec![address("\"a, b\"@example.com"), address("c")]),
            ("ann (Ann, at home (mostly)), <bob@example.com>", vec![address("ann"), address("bob@example.com")]),
            ("\\ann, ann@example.org", vec![AliasEntry::User("ann".into()), address("ann@example.org")]),
            ("\"|/usr/bin/vacation -t1h, ann\"", vec![AliasEntry::Command("/usr/bin/vacation -t1h, ann".into())]),
            ("|\"/usr/bin/say \\\"hi\\\"\", x", vec![AliasEntry::Command("/usr/bin/say \"hi\"".into()), address("x")]),
            ("|/usr/bin/filter -x", vec![AliasEntry::Command("/usr/bin/filter -x".into())]),
            ("/var/log/mail.archive", vec![AliasEntry::File("/var/log/mail.archive".into())]),
            ("\"/var/mail/with space\"", vec![AliasEntry::File("/var/mail/with space".into())]),
            (":include:/etc/mail/list", vec![AliasEntry::Include("/etc/mail/list".into())]),
            ("\":include:/etc/mail/list\"", vec![AliasEntry::Include("/etc/mail/list".into())]),
            ("@Example.ORG", vec![AliasEntry::Domain("example.org".into())]),
            ("", vec![]),
            (",,", vec![]),
        ] {
            assert_eq!(parse_alias(text), Ok(entries), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            ("\"ann", "a quote or comment without end: \"ann"),
            ("ann (Ann", "a quote or comment without end: ann (Ann"),
            ("ann\\", "a backslash at the end: ann\\"),
            ("ann bob", "not an address: ann bob"),
            ("a@b@c, d", "not an address: a@b@c"),
            ("|", "an empty command: |"),
            ("\\a@b", "no user's name behind a backslash: \\a@b"),
        ] {
            assert_eq!(parse_alias(text).unwrap_err().to_string(), error);
        }
    }
}
