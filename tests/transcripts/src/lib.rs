//! Conversations that a person who knows no Rust can read, run against the protocol sessions.
//!
//! Owns: the format of `server/*.txt` and `client/*.txt` (README.md beside them), and what runs it.
//! Uses: types, smtp.
//! Used by: nobody; its tests are the point.
//! Never: I/O but reading those files.
//! Start reading at: README.md, then [`Transcript`].
#![forbid(unsafe_code)]

mod client;
mod run;
mod script;
mod server;

pub use client::ClientStage;
pub use run::{Cut, Side, run};
pub use script::{Round, ScriptError, Stimulus, Transcript, parse};
pub use server::ServerStage;
