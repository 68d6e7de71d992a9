//! Fuzz targets: octets of a peer against each parser of Waxwing, with the laws that hold for any input.
//!
//! Owns: the targets, the layout of their input, the seeds made from the transcripts.
//! Uses: types, auth, message, smtp, net (for PROXY headers), transcripts.
//! Used by: `tests/fuzz` (nightly, libFuzzer), outside of the workspace; and by the test that replays the corpus.
//! Never: I/O but reading the corpus; a target that is not also replayed.
//! Start reading at: [`TARGETS`], then [`server_session`].
//!
//! A target panics where a law is broken, which a fuzzer detects.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::expect_used, reason = "a broken law is a panic: that is how a target tells it")]

mod auth;
mod chunk;
mod command;
mod data;
mod drive;
mod header;
mod layout;
#[cfg(feature = "net")]
mod proxy;
mod reply;
mod seeds;
mod server;

pub use auth::auth_exchange;
pub use chunk::chunk_reader;
pub use command::command_line;
pub use data::data_reader;
pub use header::header;
pub use layout::INPUT_BYTES_MAX;
#[cfg(feature = "net")]
pub use proxy::proxy_header;
pub use reply::reply_reader;
pub use seeds::{Seed, SeedError, seeds, write_seeds};
pub use server::server_session;

/// Fuzz target: takes any octets and panics where a law is broken.
pub type Target = fn(&[u8]);

/// All targets, by the name of their folder in the corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("command_line", command_line),
    ("server_session", server_session),
    ("auth_exchange", auth_exchange),
    ("data_reader", data_reader),
    ("chunk_reader", chunk_reader),
    ("reply_reader", reply_reader),
    ("header", header),
    #[cfg(feature = "net")]
    ("proxy_header", proxy_header),
];

/// Returns the target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
