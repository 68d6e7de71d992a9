//! Protocol of the control socket: a JSON object per line, requests and responses in turn.
//!
//! Owns: requests, responses, their limits, splitting and parsing of lines.
//! Uses: types.
//! Used by: daemon (server), tool (client).
//! Never: a socket, a runtime, a clock; the meaning of plugin or queue states beyond their names.
//! Start reading at: [`ControlRequest`], then [`ControlResponse`].
#![forbid(unsafe_code)]

mod frame;
mod plugin;
mod printed;
mod queue;
mod request;
mod response;
mod user;

pub use frame::{FrameError, Frames, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, frame};
pub use plugin::{HookStatus, PluginChange, PluginStatus};
pub use queue::{
    HEAD_BYTES_MAX, LastStatus, QUEUE_PAGE_MAX, QueuePage, QueueState, QueueTotals, QueuedRecipient, QueuedUnit, ShownMessage,
};
pub use request::{RECORDING_PAGE_MAX, Request, TRACE_LAST_MAX};
pub use response::{Problem, ProblemKind, Reloaded, Response, ServerInfo};
pub use user::{PasswordRecord, USER_PAGE_MAX, UserStatus};
