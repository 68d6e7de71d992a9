//! What is said over the control socket: one JSON object per line, a request and its response in turn.
//!
//! Owns: requests, responses, their limits, how lines are cut and read.
//! Uses: types.
//! Used by: tool (asks), daemon (answers).
//! Never: a socket, a runtime, a clock; the meaning of a plugin's or a queue's states beyond their names.
//! Start reading at: [`Request`], then [`Response`].
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
