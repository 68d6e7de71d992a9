//! URL grants, one per line: `POST https://api.example/v1/`, `private http://intranet.example/`.
//!
//! A grant allows URLs with the same scheme, host and port, and with the same path or a path below: `/v1` allows `/v1/x`, not `/v1evil`.
//! The query is free. A host given as an IP address is reached at exactly the given address. A host given by name is reached at public
//! addresses only; with the keyword `private`, also at addresses of the local machine and of private networks. Link-local addresses, used
//! by the metadata services of clouds, are never reached by name.

use reqwest::Url;

/// Permitted methods, without CONNECT (a tunnel) and TRACE (an echo of fields added by proxies).
const PERMITTED_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Reason for the refusal of a URL grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{line}\" allows no URL: {reason}")]
pub struct UrlGrantError {
    line: String,
    reason: &'static str,
}

/// Parsed URL grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlGrant {
    /// Permitted method; `None`: any.
    method: Option<String>,
    url: Url,
    allows_private: bool,
}

impl UrlGrant {
    /// Parses a grant: an optional method, the optional keyword `private`, a URL.
    pub fn parse(line: &str) -> Result<Self, UrlGrantError> {
        let wrong = |reason| UrlGrantError { line: line.to_owned(), reason };
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let url = words.pop().ok_or_else(|| wrong("it is empty"))?;
        let private = words.last() == Some(&"private");
        if private {
            words.pop();
        }
        let method = match *words {
            [] => None,
            [method] if PERMITTED_METHODS.contains(&method) => Some(method.to_owned()),
            _ => {
                return Err(wrong(
                    "before the URL there can be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, and the keyword private",
                ));
            }
        };
        let url = Url::parse(url).map_err(|_| wrong("it has no URL"))?;
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
            return Err(wrong("the URL must begin with https:// or http:// and a host"));
        }
        if has_userinfo(&url) || url.query().is_some() || url.fragment().is_some() || is_ambiguous(url.path()) {
            return Err(wrong("the URL must have a host and a path and nothing else"));
        }
        Ok(Self { method, url, allows_private: private })
    }

    /// True if the grant allows the request.
    pub(crate) fn allows(&self, method: &str, url: &Url) -> bool {
        let same_origin = url.scheme() == self.url.scheme()
            && url.host() == self.url.host()
            && url.port_or_known_default() == self.url.port_or_known_default();
        same_origin
            && self.method.as_deref().is_none_or(|granted| granted == method)
            && is_path_below(url.path(), self.url.path())
    }

    /// True if the host may have an address in a private network.
    pub(crate) fn allows_private(&self) -> bool {
        self.allows_private
    }
}

/// Parses the URL of a request. Error: an ambiguous or unsupported URL.
pub(crate) fn parse_request_url(method: &str, text: &str) -> Result<Url, &'static str> {
    if !PERMITTED_METHODS.contains(&method) {
        return Err("the method is none of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS");
    }
    // The URL parser would silently drop such characters.
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("the URL has white space, control characters or a backslash");
    }
    let mut url = Url::parse(text).map_err(|_| "invalid URL")?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err("the URL does not begin with https:// or http:// and a host");
    }
    let authority = text.split(['/', '?', '#']).nth(2).unwrap_or_default();
    if has_userinfo(&url) || authority.contains('@') {
        return Err("the URL has a user before the host");
    }
    if is_ambiguous(url.path()) {
        return Err("the path has an encoded slash or dots that servers read differently");
    }
    url.set_fragment(None);
    Ok(url)
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// True for a path with different meanings on different servers. The URL parser resolves `.` and `..`, also in encoded form. Some servers
/// read `%2f` as a slash, `..;` as `..`, `%00` as an end, and decode `%25` twice.
fn is_ambiguous(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2f", "%5c", "%00", "%25", "\\", "..;", "%2e%2e", ".%2e", "%2e."].iter().any(|odd| path.contains(odd))
}

fn is_path_below(path: &str, granted: &str) -> bool {
    match path.strip_prefix(granted) {
        Some(rest) => rest.is_empty() || granted.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(line: &str, method: &str, url: &str) -> bool {
        let grant = UrlGrant::parse(line).unwrap();
        parse_request_url(method, url).is_ok_and(|url| grant.allows(method, &url))
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
        assert!(UrlGrant::parse("private http://intranet.example/").unwrap().allows_private());
        assert!(UrlGrant::parse("GET private http://intranet.example/").unwrap().allows_private());
        assert!(!UrlGrant::parse("GET http://private.example/private").unwrap().allows_private());
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
            assert!(UrlGrant::parse(line).is_err(), "{line}");
        }
    }
}
