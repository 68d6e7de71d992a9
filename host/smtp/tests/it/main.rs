//! Integration tests of `waxwing-smtp`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod client_laws;
mod common;
mod server_laws;
