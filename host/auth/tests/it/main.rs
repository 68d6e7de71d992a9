//! Integration tests of `waxwing-auth`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod clients;
