//! Transcripts: SMTP dialogues readable without knowledge of Rust, run against the protocol sessions.
//!
//! Owns: the format of `server/*.txt` and `client/*.txt` (README.md beside them), and the runner.
//! Uses: smtp, types.
//! Used by: fuzz-targets; the transcripts run as tests of this crate.
//! Never: I/O except reading transcript files.
//! Start reading at: README.md, then [`Transcript`].
#![forbid(unsafe_code)]

mod client;
mod runner;
mod script;
mod server;

pub use client::ScriptedClient;
pub use runner::{InputSplit, ScriptedSession, run};
pub use script::{Round, ScriptError, Stimulus, Transcript, parse};
pub use server::ScriptedServer;
