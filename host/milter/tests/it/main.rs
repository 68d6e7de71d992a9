//! Integration tests of `waxwing-milter`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod codec;
mod common;
mod replies;
mod talk;
