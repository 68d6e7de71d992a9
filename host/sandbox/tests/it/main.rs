//! Integration tests of `waxwing-sandbox`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod common;
mod evil;
mod frozen;
mod guests;
mod hooks;
mod interpreters;
mod languages;
mod loading;
mod outbound;
mod part_edits;
mod reach;
mod standard;
mod wasi;
