//! Integration tests of `waxwing-store`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::unwrap_used, reason = "a test fails by panic")]

mod store;
