//! HTTP requests of plugins: to granted URLs, and to no address that the operator did not mean.
//!
//! Owns: what a grant allows, which addresses may be reached, the limits of requests and responses.
//! Uses: pipeline (the traits Web and Resolver), reqwest.
//! Used by: sandbox by the trait; daemon builds it.
//! Never: a redirect, a proxy, a cookie; a connection to an address that was not checked.
//! Start reading at: [`WebClient`], then `grant.rs`, then `address.rs`.
#![forbid(unsafe_code)]

mod address;
mod client;
mod grant;
mod names;

pub use client::{REQUESTS_MAX, RESPONSE_HEADER_BYTES_MAX, URL_BYTES_MAX, WebClient, WebError};
pub use grant::{Grant, GrantError};
