//! Integration tests of `waxwing-daemon`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod plugin_commands;
mod plugin_run;
