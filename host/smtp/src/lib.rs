//! SMTP (RFC 5321) as bytes in, actions out.
//!
//! Owns: the grammar of commands and replies, dot-stuffing, the server's and the client's states, their limits.
//! Uses: `types` ([`waxwing_types::Session`], addresses, replies, the line splitter); idna for domains beyond ASCII.
//! Used by: `intake` (server), `delivery` (client); `net` drives both.
//! Never: I/O, a clock, randomness; a decision on mail (the host is asked).
//! Start reading at: [`server::Question`], then [`server::ServerSession`]; [`client::Question`], then
//! [`client::ClientSession`].
#![forbid(unsafe_code)]

mod backlog;
mod chunk;
pub mod client;
mod command;
mod data;
mod path;
mod reply;
pub mod server;
mod stuff;
mod xtext;

pub use client::{ClientSession, ClientSettings};
pub use command::{Command, CommandError, Response, Verb};
pub use data::{DataEvent, DataReader, Refusal, Runs};
pub use reply::{ReplyFault, ReplyReader};
pub use server::{ServerSession, ServerSettings};
pub use stuff::DotStuffer;
