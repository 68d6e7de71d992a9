//! SMTP (RFC 5321) as a protocol without I/O: bytes in, actions out.
//!
//! Owns: the grammar of commands and replies, dot-stuffing, the states of the server and of the client, and the limits
//! of both.
//! Uses: types (the trait [`waxwing_types::Session`], addresses, replies, the line splitter). From outside the
//! workspace: idna for domains beyond ASCII.
//! Used by: daemon, delivery, intake.
//! Never: I/O, a clock, randomness; a decision on mail (the host is asked).
//! Start reading at: [`server::ServerQuestion`], then [`server::ServerSession`]; [`client::ClientQuestion`], then
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
