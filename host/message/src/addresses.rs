//! Addresses in header fields (RFC 5322 §3.4): search, and rewriting in place.

use std::ops::Range;

use bytes::Bytes;
use waxwing_types::Address;

use crate::Field;

/// Number of tokens sufficient for most addresses.
const TOKENS_CAPACITY: usize = 8;

/// Header fields with addresses (RFC 5322 §3.6), resent fields included.
pub const ADDRESS_FIELDS: &[&str] = &[
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-Reply-To",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Return-Receipt-To",
    "Disposition-Notification-To",
    "Errors-To",
];

/// Address in a field value, with the range of its octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSpan {
    /// Range of `local@domain` or a lone `local` within the value, without angle brackets.
    pub range: Range<usize>,
    /// Parsed address, with quoting removed.
    pub address: Address,
}

/// Finds the addresses in a list of mailboxes and groups. Comments, display names and encoded words are skipped;
/// malformed addresses are left out.
#[must_use]
pub fn find_addresses(value: &[u8]) -> Vec<AddressSpan> {
    let mut addresses = Vec::new();
    let mut element: Vec<Token> = Vec::with_capacity(TOKENS_CAPACITY);
    let mut angle: Option<Vec<Token>> = None;
    let tokens = Tokens { value, position: 0 };
    for token in tokens {
        match (token.kind, &mut angle) {
            (TokenKind::Special(b'<'), None) => angle = Some(Vec::with_capacity(TOKENS_CAPACITY)),
            (TokenKind::Special(b'>'), Some(inner)) => {
                addresses.extend(parse_addr_spec(value, strip_source_route(inner)));
                angle = None;
                // Neither the display name before the bracket is an address, nor any text from here to the comma.
                element.clear();
                element.push(Token { kind: TokenKind::Special(b'>'), range: token.range });
            }
            (_, Some(inner)) => inner.push(token),
            (TokenKind::Special(b','), None) => {
                addresses.extend(parse_addr_spec(value, &element));
                element.clear();
            }
            // End of the name of a group, and end of a group.
            (TokenKind::Special(b':'), None) => element.clear(),
            (TokenKind::Special(b';'), None) => {
                addresses.extend(parse_addr_spec(value, &element));
                element.clear();
            }
            (TokenKind::Atom | TokenKind::QuotedString | TokenKind::DomainLiteral | TokenKind::Special(_), None) => {
                element.push(token)
            }
        }
    }
    if angle.is_none() {
        addresses.extend(parse_addr_spec(value, &element));
    }
    addresses
}

/// Rewrites addresses: `map` returns a new address, or `None` to leave the octets unchanged. All other octets stay.
/// `None` if nothing changes.
pub fn rewrite_addresses(value: &[u8], mut map: impl FnMut(&Address) -> Option<Address>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + 32);
    let mut done = 0;
    for AddressSpan { range, address } in find_addresses(value) {
        if let Some(other) = map(&address).filter(|other| *other != address) {
            out.extend_from_slice(value.get(done..range.start).unwrap_or_default());
            out.extend_from_slice(other.to_string().as_bytes());
            done = range.end;
        }
    }
    if done == 0 {
        return None;
    }
    out.extend_from_slice(value.get(done..).unwrap_or_default());
    Some(out)
}

/// Rewrites the addresses of a field, as [`rewrite_addresses`] does; `None` if nothing changes.
pub fn rewrite_field(field: &Field, map: impl FnMut(&Address) -> Option<Address>) -> Option<Field> {
    let raw = field.raw();
    let colon = memchr::memchr(b':', raw)?;
    let (name, value) = raw.split_at_checked(colon + 1)?;
    let value = rewrite_addresses(value, map)?;
    Field::from_raw(Bytes::from([name, &value].concat()))
}

/// Kind of a token; white space and comments produce no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    /// An atom (RFC 5322 §3.2.3).
    Atom,
    /// A quoted string (RFC 5322 §3.2.4).
    QuotedString,
    /// A domain literal (RFC 5322 §3.4.1).
    DomainLiteral,
    /// Any of `<>@,;:.`, or a stray bracket.
    Special(u8),
}

#[derive(Clone, Debug)]
struct Token {
    kind: TokenKind,
    range: Range<usize>,
}

struct Tokens<'v> {
    value: &'v [u8],
    position: usize,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let start = self.position;
            let byte = *self.value.get(start)?;
            self.position += 1;
            let kind = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'(' => {
                    self.skip_comment();
                    continue;
                }
                b'"' => {
                    self.skip_until(b'"');
                    TokenKind::QuotedString
                }
                b'[' => {
                    self.skip_until(b']');
                    TokenKind::DomainLiteral
                }
                b'<' | b'>' | b'@' | b',' | b';' | b':' | b'.' | b')' | b']' | b'\\' => TokenKind::Special(byte),
                _ => {
                    let is_end = |b: &u8| b.is_ascii_whitespace() || b"()<>[]:;@\\,.\"".contains(b);
                    let rest = self.value.get(self.position..).unwrap_or_default();
                    self.position += rest.iter().position(is_end).unwrap_or(rest.len());
                    TokenKind::Atom
                }
            };
            return Some(Token { kind, range: start..self.position });
        }
    }
}

impl Tokens<'_> {
    /// Skips a comment, nested comments included (RFC 5322 §3.2.2).
    fn skip_comment(&mut self) {
        let mut depth = 1_usize;
        while let Some(byte) = self.value.get(self.position) {
            self.position += 1;
            match byte {
                b'\\' => self.position += 1,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
        self.position = self.value.len();
    }

    fn skip_until(&mut self, end: u8) {
        while let Some(byte) = self.value.get(self.position) {
            self.position += 1;
            match byte {
                b'\\' => self.position += 1,
                byte if *byte == end => return,
                _ => {}
            }
        }
        self.position = self.value.len();
    }
}

/// Strips a source route: `@a,@b:local@domain` -> `local@domain` (RFC 5322 §4.4).
fn strip_source_route(tokens: &[Token]) -> &[Token] {
    match (tokens.first().map(|t| t.kind), tokens.iter().rposition(|t| t.kind == TokenKind::Special(b':'))) {
        (Some(TokenKind::Special(b'@')), Some(colon)) => tokens.get(colon + 1..).unwrap_or_default(),
        _ => tokens,
    }
}

/// Parses `word *("." word) ["@" (literal / atom *("." atom))]`, with white space and comments anywhere.
fn parse_addr_spec(value: &[u8], tokens: &[Token]) -> Option<AddressSpan> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    let range = first.range.start..last.range.end.min(value.len());
    let at = tokens.iter().rposition(|t| t.kind == TokenKind::Special(b'@'));
    let (local, domain) = match at {
        Some(at) => (tokens.get(..at)?, Some(tokens.get(at + 1..)?)),
        None => (tokens, None),
    };
    let local = join_dotted(value, local, &[TokenKind::Atom, TokenKind::QuotedString])?;
    let domain = match domain {
        Some([literal]) if literal.kind == TokenKind::DomainLiteral => token_text(value, literal)?.to_owned(),
        Some(tokens) => join_dotted(value, tokens, &[TokenKind::Atom])?,
        None => String::new(),
    };
    Address::new(local, &domain).ok().map(|address| AddressSpan { range, address })
}

/// Joins words separated by dots; quoting is removed.
fn join_dotted(value: &[u8], tokens: &[Token], words: &[TokenKind]) -> Option<String> {
    let octets = tokens.last()?.range.end.saturating_sub(tokens.first()?.range.start);
    let mut out = String::with_capacity(octets);
    for (number, token) in tokens.iter().enumerate() {
        match (number % 2, token.kind) {
            (0, kind) if words.contains(&kind) => push_unquoted(&mut out, value, token)?,
            (1, TokenKind::Special(b'.')) => out.push('.'),
            _ => return None,
        }
    }
    (tokens.len() % 2 == 1).then_some(out)
}

fn token_text<'v>(value: &'v [u8], token: &Token) -> Option<&'v str> {
    std::str::from_utf8(value.get(token.range.clone())?).ok()
}

fn push_unquoted(out: &mut String, value: &[u8], token: &Token) -> Option<()> {
    let text = token_text(value, token)?;
    if token.kind != TokenKind::QuotedString {
        out.push_str(text);
        return Some(());
    }
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '\r' | '\n' => {}
            c => out.push(c),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(value: &str) -> Vec<String> {
        find_addresses(value.as_bytes()).iter().map(|f| f.address.to_string()).collect()
    }

    #[test]
    fn finds_what_is_an_address() {
        for (value, wanted) in [
            ("a@b.example", vec!["a@b.example"]),
            ("Ann <a@b.example>, \"B, C\" <c@d.example>", vec!["a@b.example", "c@d.example"]),
            ("root, postmaster", vec!["root", "postmaster"]),
            ("Friends: a@b.example, Bo <b@c.example>;, d@e.example", vec!["a@b.example", "b@c.example", "d@e.example"]),
            ("undisclosed-recipients:;", vec![]),
            ("a (a comment, with <x@y> and (more)) @ b . example", vec!["a@b.example"]),
            ("=?utf-8?q?J=C3=BCrgen?= <j@b.example>", vec!["j@b.example"]),
            ("\"a b\"@c.example", vec!["\"a b\"@c.example"]),
            ("<@relay.example,@two.example:u@b.example>", vec!["u@b.example"]),
            ("x@[127.0.0.1]", vec!["x@[127.0.0.1]"]),
            ("Jörg <j@b.example>", vec!["j@b.example"]),
            ("John Smith", vec![]),
            ("<>", vec![]),
            ("a@b@c", vec![]),
            ("a@b.example c@d.example", vec![]),
            ("\r\n\ta@b.example,\r\n\tc@d.example", vec!["a@b.example", "c@d.example"]),
            ("<unclosed@b.example", vec![]),
            ("\"unclosed", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(found(value), wanted, "{value}");
        }
    }

    #[test]
    fn rewrites_in_place() {
        let complete = |address: &Address| address.has_no_domain().then(|| address.with_domain("here.example").unwrap());
        let value = b"root (the boss),\r\n  \"Bo, B.\"  <bo>  , x@y.example, Team: ann ,;";
        let wanted =
            b"root@here.example (the boss),\r\n  \"Bo, B.\"  <bo@here.example>  , x@y.example, Team: ann@here.example ,;";
        assert_eq!(rewrite_addresses(value, complete).unwrap(), wanted, "all else stays as it was");
        assert_eq!(rewrite_addresses(b"x@y.example", complete), None);
        let field = Field::from_raw(Bytes::from_static(b"To : root,\r\n a@b\r\n")).unwrap();
        assert_eq!(&rewrite_field(&field, complete).unwrap().raw()[..], b"To : root@here.example,\r\n a@b\r\n");
    }

    proptest! {
        #[test]
        fn any_octets_are_read_and_ranges_are_in_order(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            for found in find_addresses(&value) {
                prop_assert!(found.range.start >= end && found.range.end <= value.len());
                end = found.range.end;
            }
            prop_assert_eq!(rewrite_addresses(&value, |_| None), None);
            prop_assert_eq!(rewrite_addresses(&value, |a| Some(a.clone())), None);
        }

        #[test]
        fn lists_like_those_in_the_world(value in r#"([a-c"(<>@,;:. \\\[\])]|=\?utf-8\?q\?x\?=|ö|\r\n ){0,40}"#) {
            for found in find_addresses(value.as_bytes()) {
                prop_assert!(!found.range.is_empty());
            }
        }

        #[test]
        fn a_rewritten_address_is_found_again(local in "[a-z]{1,8}|[a-z ]{1,8}x", name in r#"|"[a-z, ]*" |[A-Z][a-z]* "#) {
            let address = Address::new(local, "a.example").unwrap();
            let value = format!("{name}<old>, b@c.example");
            let out = rewrite_addresses(value.as_bytes(), |a| (a.local() == "old").then(|| address.clone())).unwrap();
            prop_assert_eq!(&find_addresses(&out)[0].address, &address);
            prop_assert_eq!(find_addresses(&out).len(), 2);
        }
    }
}
