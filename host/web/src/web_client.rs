//! HTTP client for requests of plugins, limited by URL grants, time and size.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use rustls::ClientConfig;
use rustls_platform_verifier::Verifier;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use waxwing_pipeline::{HttpClient, HttpError, HttpRequest, HttpResponse, Resolver};

use crate::address_scope::AddressScope;
use crate::scoped_resolver::{NoPermittedAddress, ScopedResolver};
use crate::url_grant::{UrlGrant, parse_request_url};

/// Maximum length of a URL, in bytes.
pub const URL_BYTES_MAX: usize = 8 << 10;
/// Maximum size of a response header, in bytes of names and values.
pub const RESPONSE_HEADER_BYTES_MAX: usize = 64 << 10;
/// Maximum number of concurrent requests of all plugins; further requests wait within their timeout.
pub const REQUESTS_MAX: usize = 100;

/// Maximum number of header fields in a response.
const RESPONSE_HEADERS_MAX: usize = 100;
/// Maximum number of idle connections to one host.
const IDLE_CONNECTIONS_MAX: usize = 4;
/// Lifetime of an idle connection.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// Default `User-Agent` field of requests.
const USER_AGENT: &str = concat!("Waxwing/", env!("CARGO_PKG_VERSION"));
/// Header fields with influence on framing and routing, reserved for the HTTP client.
const RESERVED_HEADERS: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "proxy-connection",
    "proxy-authorization",
];

/// Failure of the setup of the HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("HTTP for plugins can't be set up: {0}")]
pub struct WebError(String);

/// HTTP client for plugins.
pub struct WebClient {
    /// Client for public addresses only.
    public: Client,
    /// Client for public and private addresses, with a connection pool of its own.
    private: Client,
    request_permits: Semaphore,
}

impl WebClient {
    /// Sets up the client without a request. Server certificates are verified against the system's root certificates.
    pub fn new(resolver: &Arc<dyn Resolver>) -> Result<Self, WebError> {
        let tls = tls_config().map_err(|error| WebError(error.to_string()))?;
        let client = |least| {
            let builder = Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(ScopedResolver { resolver: Arc::clone(resolver), scope_min: least }))
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .retry(reqwest::retry::never())
                .http1_only()
                .http1_max_headers(RESPONSE_HEADERS_MAX)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .pool_idle_timeout(IDLE_TIME)
                .user_agent(USER_AGENT);
            builder.build().map_err(|error| WebError(error_text(&error)))
        };
        Ok(Self {
            public: client(AddressScope::Public)?,
            private: client(AddressScope::Private)?,
            request_permits: Semaphore::new(REQUESTS_MAX),
        })
    }

    /// Selects the client for a URL; `None` without a matching grant.
    fn client_for_url(&self, allowed: &[String], method: &str, url: &Url) -> Option<&Client> {
        let grants = allowed.iter().filter_map(|line| UrlGrant::parse(line).ok());
        let fit: Vec<UrlGrant> = grants.filter(|grant| grant.allows(method, url)).collect();
        match fit.iter().any(UrlGrant::allows_private) {
            _ if fit.is_empty() => None,
            true => Some(&self.private),
            false => Some(&self.public),
        }
    }

    async fn send_request(
        &self,
        client: &Client,
        method: Method,
        url: Url,
        request: HttpRequest,
    ) -> Result<HttpResponse, HttpError> {
        let headers = request_headers(&request.headers)?;
        let _permit =
            self.request_permits.acquire().await.map_err(|_| HttpError::Failed("the server is shutting down".to_owned()))?;
        let mut builder = client.request(method, url).headers(headers);
        if !request.body.is_empty() {
            builder = builder.body(request.body);
        }
        read_response(builder.send().await.map_err(|error| to_http_error(&error))?, request.response_bytes_max).await
    }
}

#[async_trait]
impl HttpClient for WebClient {
    async fn fetch(&self, allowed: &[String], request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.url.len() > URL_BYTES_MAX {
            return Err(HttpError::Failed(format!("the URL has more than {URL_BYTES_MAX} octets")));
        }
        let not_granted = |why: &str| HttpError::NotGranted(why.to_owned());
        let url = parse_request_url(&request.method, &request.url).map_err(not_granted)?;
        let client = self.client_for_url(allowed, &request.method, &url);
        let client = client.ok_or_else(|| not_granted("no line of the grant allows this method and URL"))?;
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| not_granted("invalid method"))?;
        let time = request.timeout;
        timeout(time, self.send_request(client, method, url, request)).await.unwrap_or(Err(HttpError::Timeout))
    }
}

fn tls_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Verifier::new(Arc::clone(&provider))?);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn request_headers(list: &[(String, String)]) -> Result<HeaderMap, HttpError> {
    let mut headers = HeaderMap::with_capacity(list.len());
    for (name, value) in list {
        let wrong = |problem: &str| HttpError::Failed(format!("the header field {name:?} {problem}"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("has an invalid name"))?;
        if RESERVED_HEADERS.contains(&name.as_str()) {
            return Err(wrong("is reserved"));
        }
        headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong("has control characters"))?);
    }
    Ok(headers)
}

async fn read_response(mut response: Response, bytes_max: usize) -> Result<HttpResponse, HttpError> {
    let octets: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let announced = response.content_length().unwrap_or_default();
    if octets > RESPONSE_HEADER_BYTES_MAX || announced > bytes_max as u64 {
        return Err(HttpError::TooLarge);
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let status = response.status().as_u16();
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| to_http_error(&error))? {
        if body.len().saturating_add(piece.len()) > bytes_max {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(HttpResponse { status, headers, body: Bytes::from(body) })
}

/// Converts an error, without the URL, since the URL may contain a secret.
fn to_http_error(error: &reqwest::Error) -> HttpError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(unreachable) = error.downcast_ref::<NoPermittedAddress>() {
            return HttpError::NotGranted(unreachable.to_string());
        }
        cause = error.source();
    }
    if error.is_timeout() { HttpError::Timeout } else { HttpError::Failed(error_text(error)) }
}

/// Describes an error by its kind and the innermost cause.
fn error_text(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_connect() => "no connection".to_owned(),
        error if error.is_builder() => "invalid request".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.source().is_none() {
            text = format!("{text}: {error}");
        }
        cause = error.source();
    }
    text
}
