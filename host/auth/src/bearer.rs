//! OAUTHBEARER (RFC 7628) and XOAUTH2: a user name and a token. Verification of the token is left to plugins.

use crate::NAME_BYTES_MAX;

/// Maximum length of a bearer token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// Credentials of an OAUTHBEARER or XOAUTH2 response.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerCredentials {
    /// User name claimed by the client.
    pub user: String,
    /// Bearer token (RFC 6750).
    pub token: String,
}

/// Parses `n,a=user,^Ahost=…^Aauth=Bearer token^A^A` (RFC 7628 §3.1). `None` for a malformed response or a missing user name, although the
/// RFC permits a token alone.
#[must_use]
pub fn parse_oauthbearer(response: &[u8]) -> Option<BearerCredentials> {
    let text = std::str::from_utf8(response).ok()?;
    let (header, pairs) = text.split_once('\x01')?;
    let mut gs2 = header.splitn(3, ',');
    let (flag, name, rest) = (gs2.next()?, gs2.next()?, gs2.next()?);
    if !matches!(flag, "n" | "y") || !rest.is_empty() {
        return None;
    }
    let name = name.strip_prefix("a=")?.replace("=2C", ",").replace("=3D", "=");
    parse_key_values(&name, pairs)
}

/// Parses `user=…^Aauth=Bearer token^A^A`. `None` for a malformed response.
#[must_use]
pub fn parse_xoauth2(response: &[u8]) -> Option<BearerCredentials> {
    let (name, pairs) = std::str::from_utf8(response).ok()?.split_once('\x01')?;
    parse_key_values(name.strip_prefix("user=")?, pairs)
}

fn parse_key_values(name: &str, pairs: &str) -> Option<BearerCredentials> {
    let pairs = pairs.strip_suffix("\x01\x01")?;
    let value = pairs.split('\x01').find_map(|pair| pair.strip_prefix("auth="))?;
    let (kind, token) = value.split_once(' ')?;
    let token_ok = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|octet| octet.is_ascii_graphic());
    (kind.eq_ignore_ascii_case("bearer") && token_ok)
        .then(|| Some(BearerCredentials { user: parse_user_name(name)?.to_owned(), token: token.to_owned() }))?
}

/// Returns a user name of permitted length without control characters.
fn parse_user_name(text: &str) -> Option<&str> {
    ((1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let bearer = parse_oauthbearer(b"n,a=user@example.com,\x01host=s\x01port=1\x01auth=Bearer vF9dft4qmT\x01\x01").unwrap();
        assert_eq!((bearer.user.as_str(), bearer.token.as_str()), ("user@example.com", "vF9dft4qmT"));
        assert!(parse_xoauth2(b"user=u@x\x01auth=Bearer t\x01\x01").is_some_and(|b| b.user == "u@x" && b.token == "t"));
        for wrong in ["", "n,,\x01auth=Bearer t\x01\x01", "p=x,a=u,\x01auth=Bearer t\x01\x01", "n,a=u,\x01auth=Basic t\x01\x01"] {
            assert!(parse_oauthbearer(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        for wrong in ["user=u", "user=\x01auth=Bearer t\x01\x01", "user=u\x01auth=Bearer \x01\x01", "user=u\x01auth=Bearer t\x01"]
        {
            assert!(parse_xoauth2(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
    }
}
