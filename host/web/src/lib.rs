//! Requests to HTTP servers, for plugins.
#![forbid(unsafe_code)]
