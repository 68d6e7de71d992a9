//! What one line of a grant allows: `POST https://api.example/v1/`, `private http://intranet.example/`.
//!
//! A URL is allowed whose scheme, host and port are those of the grant, and whose path is that of the grant or lies below it: below
//! `/v1` is `/v1/x`, not `/v1evil`. The query is free. A host that the grant names as an address is reached at this address and no
//! other. One that it names by name is reached at public addresses only; with the word `private`, at those of this machine and its own
//! networks, too. Link-local addresses, where clouds keep their secrets, are reached by no name.

use reqwest::Url;

/// Not for plugins: a tunnel, and an echo of what a proxy has added.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Why a line allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{line}\" allows no URL: {reason}")]
pub struct GrantError {
    line: String,
    reason: &'static str,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// None: any.
    method: Option<String>,
    url: Url,
    private: bool,
}

impl Grant {
    /// Reads a line: a method if only that is allowed, the word `private` if so, a URL.
    pub fn parse(line: &str) -> Result<Self, GrantError> {
        let wrong = |reason| GrantError { line: line.to_owned(), reason };
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let url = words.pop().ok_or_else(|| wrong("it is empty"))?;
        let private = words.last() == Some(&"private");
        if private {
            words.pop();
        }
        let method = match *words {
            [] => None,
            [method] if METHODS.contains(&method) => Some(method.to_owned()),
            _ => {
                return Err(wrong(
                    "before the URL there can be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, and the word private",
                ));
            }
        };
        let url = Url::parse(url).map_err(|_| wrong("it has no URL"))?;
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
            return Err(wrong("the URL must begin with https:// or http:// and a host"));
        }
        if has_user(&url) || url.query().is_some() || url.fragment().is_some() || is_ambiguous(url.path()) {
            return Err(wrong("the URL must have a host and a path and nothing else"));
        }
        Ok(Self { method, url, private })
    }

    /// The request is one of those that this line allows.
    pub(crate) fn allows(&self, method: &str, url: &Url) -> bool {
        let same_place = url.scheme() == self.url.scheme()
            && url.host() == self.url.host()
            && url.port_or_known_default() == self.url.port_or_known_default();
        same_place && self.method.as_deref().is_none_or(|own| own == method) && is_below(url.path(), self.url.path())
    }

    /// The host may have an address of a private network.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }
}

/// A request's URL, if it is one that cannot be read in two ways.
pub(crate) fn request_url(method: &str, text: &str) -> Result<Url, &'static str> {
    if !METHODS.contains(&method) {
        return Err("the method is none of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS");
    }
    // The parser would leave them out in silence.
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("the URL has white space, control characters or a backslash");
    }
    let mut url = Url::parse(text).map_err(|_| "this is no URL")?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err("the URL does not begin with https:// or http:// and a host");
    }
    let authority = text.split(['/', '?', '#']).nth(2).unwrap_or_default();
    if has_user(&url) || authority.contains('@') {
        return Err("the URL has a user before the host");
    }
    if is_ambiguous(url.path()) {
        return Err("the path has an encoded slash or dots that servers read differently");
    }
    url.set_fragment(None);
    Ok(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// `.` and `..` are gone when a URL is parsed, also encoded ones. What some servers would make of the rest: `%2f` a slash, `..;` a `..`,
/// `%00` an end; `%25` another round of decoding.
fn is_ambiguous(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2f", "%5c", "%00", "%25", "\\", "..;", "%2e%2e", ".%2e", "%2e."].iter().any(|odd| path.contains(odd))
}

fn is_below(path: &str, own: &str) -> bool {
    match path.strip_prefix(own) {
        Some(rest) => rest.is_empty() || own.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(line: &str, method: &str, url: &str) -> bool {
        let grant = Grant::parse(line).unwrap();
        request_url(method, url).is_ok_and(|url| grant.allows(method, &url))
    }

    #[test]
    fn a_path_ends_at_its_boundary() {
        for line in ["https://api.example/v1", "https://api.example/v1/"] {
            for url in [
                "https://api.example/v1/",
                "https://api.example/v1/x/y?q=1#f",
                "https://API.example:443/v1/x",
                "https://api.example/a/../v1/",
            ] {
                assert!(allows(line, "GET", url), "{line} {url}");
            }
            for url in [
                "https://api.example/v1evil",
                "https://api.example/v",
                "https://api.example/",
                "https://api.example/v1/../admin",
                "https://api.example/v1/%2e%2e/admin",
                "https://api.example/v1/%2E./admin",
                "https://api.example/v1/..%2fadmin",
                "https://api.example/v1/..%5cadmin",
                "https://api.example/v1/..;/admin",
                "https://api.example/v1/%252e%252e/admin",
                "https://api.example/v1\\..\\admin",
                "https://api.example/V1/",
            ] {
                assert!(!allows(line, "GET", url), "{line} {url}");
            }
        }
        assert!(allows("https://api.example/v1", "GET", "https://api.example/v1?x=1"));
        assert!(!allows("https://api.example/v1/", "GET", "https://api.example/v1"));
        assert!(allows("https://api.example", "GET", "https://api.example/anything"));
    }

    #[test]
    fn scheme_host_port_and_method_must_be_the_same() {
        let line = "POST https://api.example/";
        assert!(allows(line, "POST", "https://api.example/x"));
        for (method, url) in [
            ("GET", "https://api.example/x"),
            ("post", "https://api.example/x"),
            ("POST", "http://api.example/x"),
            ("POST", "https://api.example:8443/x"),
            ("POST", "https://api.example.evil.example/x"),
            ("POST", "https://evil.example/api.example/"),
            ("POST", "https://api.example@evil.example/"),
            ("POST", "https://evil.example#@api.example/"),
            ("POST", "https://evil.example\\@api.example/"),
            ("POST", "https://user:pass@api.example/"),
            ("POST", "https://@api.example/"),
            ("POST", "https://api.example./x"),
            ("POST", "https:api.example\t.evil.example/"),
            ("POST", "ftp://api.example/"),
            ("POST", "file:///etc/passwd"),
            ("POST", "/x"),
            ("POST", ""),
        ] {
            assert!(!allows(line, method, url), "{method} {url}");
        }
        assert!(!allows("https://api.example/", "CONNECT", "https://api.example/"));
        assert!(!allows("https://api.example/", "TRACE", "https://api.example/"));
    }

    #[test]
    fn an_address_is_itself_however_it_is_written() {
        let line = "http://127.0.0.1:8080/";
        for url in ["http://127.0.0.1:8080/x", "http://2130706433:8080/x", "http://0x7f.1:8080/x", "http://0177.0.0.1:8080/"] {
            assert!(allows(line, "GET", url), "{url}");
        }
        for url in [
            "http://127.0.0.2:8080/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]:8080/",
            "http://127.0.0.1/",
            "http://localhost:8080/",
        ] {
            assert!(!allows(line, "GET", url), "{url}");
        }
        for url in [
            "http://2130706433/",
            "http://0x7f000001/",
            "http://[::ffff:7f00:1]/",
            "http://127.0.0.1@api.example/",
            "http://127.1/",
        ] {
            assert!(!allows("http://api.example/", "GET", url), "{url}");
        }
    }

    #[test]
    fn lines_that_allow_nothing_are_mistakes() {
        assert!(Grant::parse("private http://intranet.example/").unwrap().is_private());
        assert!(Grant::parse("GET private http://intranet.example/").unwrap().is_private());
        assert!(!Grant::parse("GET http://private.example/private").unwrap().is_private());
        for line in [
            "",
            "GET",
            "api.example",
            "CONNECT https://x.example/",
            "GET POST https://x.example/",
            "ftp://x.example/",
            "https://u@x.example/",
            "https://x.example/?q",
            "https://x.example/#f",
            "https://x.example/%2f",
        ] {
            assert!(Grant::parse(line).is_err(), "{line}");
        }
    }
}
