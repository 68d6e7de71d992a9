//! Integration tests of `waxwing-net`, in one binary: each binary links all that the crate depends on.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod common;
mod drive;
mod resolver;
mod sockets;
mod tls;
