//! SMTP (RFC 5321) as a protocol without I/O: bytes in, actions out.
//!
//! Owns: the grammar of commands and replies, dot-stuffing, the states of the server and of the client, and the limits
//! of both.
//! Uses: config, types (the trait [`waxwing_types::Session`], addresses, replies, the line splitter). From outside the
//! workspace: idna for domains beyond ASCII.
//! Used by: daemon, delivery, intake.
//! Never: I/O, a clock, randomness; a decision on mail (the host is asked).
//! Start reading at: [`server::ServerQuestion`], then [`server::ServerSession`]; [`client::ClientQuestion`], then
//! [`client::ClientSession`].
#![forbid(unsafe_code)]

mod bdat_reader;
pub mod client;
mod command;
mod data_reader;
mod dot_stuffing;
mod input_buffer;
mod path;
mod reply;
pub mod server;
mod xtext;

pub use client::{ClientSession, ClientSettings};
pub use command::{Command, CommandError, SaslResponse, Verb};
pub use data_reader::{BodySlices, DataEvent, DataReader, DataRefusal};
pub use dot_stuffing::DotStuffer;
pub use reply::{ReplyParseError, ReplyReader};
pub use server::{ServerSession, ServerSettings};
