//! Reader of the plugin's configuration table, as plain values. Read every key in `on-load`: the host refuses to load a plugin with
//! unread keys in the table.
//!
//! ```
//! use waxwing_sdk::{settings, testing::Host};
//!
//! let host = Host::new().config("word", "\"lottery\"").config("limit", "\"many\"");
//! host.run(|| {
//!     assert_eq!(settings::string("word"), Ok(Some("lottery".to_owned())));
//!     assert_eq!(settings::number("limit"), Err("`limit` must be a whole number, not \"many\"".to_owned()));
//! });
//! ```

use crate::config;

/// Reads an optional string. The error names the key and the expected type.
pub fn string(key: &str) -> Result<Option<String>, String> {
    read_value(key, "a string", |json| json.string())
}

/// Reads a list of strings; empty if the key is missing.
pub fn strings(key: &str) -> Result<Vec<String>, String> {
    Ok(read_value(key, "a list of strings", |json| json.strings())?.unwrap_or_default())
}

/// Reads an optional boolean, `true` or `false`.
pub fn boolean(key: &str) -> Result<Option<bool>, String> {
    read_value(key, "true or false", |json| match json.rest {
        "true" => json.take("true").map(|()| true),
        _ => json.take("false").map(|()| false),
    })
}

/// Reads an optional non-negative integer.
pub fn number(key: &str) -> Result<Option<u64>, String> {
    read_value(key, "a whole number", |json| {
        let text = std::mem::take(&mut json.rest);
        text.parse().ok()
    })
}

fn read_value<T>(key: &str, what: &str, parse: impl FnOnce(&mut JsonReader<'_>) -> Option<T>) -> Result<Option<T>, String> {
    let Some(text) = config::get(key) else { return Ok(None) };
    let mut json = JsonReader { rest: text.trim() };
    match parse(&mut json) {
        Some(value) if json.rest.is_empty() => Ok(Some(value)),
        _ => Err(format!("`{key}` must be {what}, not {text}")),
    }
}

/// Minimal JSON reader (RFC 8259) for settings: smaller than a library, since every plugin is downloaded and compiled.
struct JsonReader<'a> {
    rest: &'a str,
}

impl JsonReader<'_> {
    fn take(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?.trim_start();
        Some(())
    }

    fn strings(&mut self) -> Option<Vec<String>> {
        let mut all = Vec::new();
        self.take("[")?;
        if self.take("]").is_some() {
            return Some(all);
        }
        loop {
            all.push(self.string()?);
            if self.take("]").is_some() {
                return Some(all);
            }
            self.take(",")?;
        }
    }

    fn string(&mut self) -> Option<String> {
        let inner = self.rest.trim_start().strip_prefix('"')?;
        let mut text = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = inner.get(at + 1..)?.trim_start();
                    return Some(text);
                }
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'u' => parse_unicode_escape(&mut chars)?,
                    c @ ('"' | '\\' | '/') => c,
                    _ => return None,
                }),
                _ => text.push(c),
            }
        }
        None
    }
}

fn parse_unicode_escape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let unit = |chars: &mut std::str::CharIndices<'_>| (0..4).try_fold(0, |n, _| Some(n * 16 + chars.next()?.1.to_digit(16)?));
    let high = unit(chars)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high);
    }
    let marked = chars.next()?.1 == '\\' && chars.next()?.1 == 'u';
    let low = unit(chars).filter(|low| marked && (0xdc00..0xe000).contains(low))?;
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn reads_json_values() {
        let host = Host::new()
            .config("s", r#""a \"b\" \u00e9 \ud83d\ude00""#)
            .config("l", r#"[ "a", "b,c" ]"#)
            .config("e", "[]")
            .config("b", "true")
            .config("n", "42");
        host.run(|| {
            assert_eq!(string("s"), Ok(Some("a \"b\" é 😀".to_owned())));
            assert_eq!(strings("l"), Ok(vec!["a".to_owned(), "b,c".to_owned()]));
            assert_eq!(strings("e"), Ok(vec![]));
            assert_eq!(strings("absent"), Ok(vec![]));
            assert_eq!(boolean("b"), Ok(Some(true)));
            assert_eq!(number("n"), Ok(Some(42)));
            assert_eq!(string("n"), Err("`n` must be a string, not 42".to_owned()));
            assert_eq!(boolean("l"), Err("`l` must be true or false, not [ \"a\", \"b,c\" ]".to_owned()));
        });
    }
}
