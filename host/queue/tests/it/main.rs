//! Integration tests of `waxwing-queue`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::unwrap_used, reason = "a test fails by panic")]

mod bodies;
mod conformance;
mod old_store;
mod spool;
mod support;
