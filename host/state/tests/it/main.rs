//! Integration tests of `waxwing-state`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod kv;
