//! HTTP client for plugins, limited to granted URLs and permitted addresses.
//!
//! Owns: URL grants, the permitted IP addresses, the limits of requests and responses.
//! Uses: pipeline.
//! Used by: plugins.
//! Never: a redirect, a proxy, a cookie; a connection to an unchecked address.
//! Start reading at: [`WebClient`], then `url_grant.rs`, then `address_scope.rs`.
#![forbid(unsafe_code)]

mod address_scope;
mod scoped_resolver;
mod url_grant;
mod web_client;

pub use url_grant::{UrlGrant, UrlGrantError};
pub use web_client::{REQUESTS_MAX, RESPONSE_HEADER_BYTES_MAX, URL_BYTES_MAX, WebClient, WebError};
