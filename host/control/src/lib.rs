//! Protocol of the control socket: a JSON object per line, requests and responses in turn.
//!
//! Owns: requests, responses, their limits, splitting and parsing of lines.
//! Uses: types.
//! Used by: admin (server), daemon, plugins (reports of changes), tool (client).
//! Never: a socket, a runtime, a clock; the meaning of plugin or queue states beyond their names.
//! Start reading at: [`ControlRequest`], then [`ControlResponse`].
#![forbid(unsafe_code)]

mod frame;
mod plugin;
mod queue;
mod request;
mod response;
mod serde_display;
mod user;

pub use frame::{FrameError, FrameReader, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, encode_frame};
pub use plugin::{HookStatus, PluginChange, PluginStatus};
pub use queue::{
    LastAttempt, MessageInfo, QUEUE_PAGE_MAX, QueuePage, QueueState, QueueTotals, QueuedRecipient, QueuedUnit,
    SHOWN_HEADER_BYTES_MAX,
};
pub use request::{ControlRequest, RECORDING_PAGE_MAX, TRACE_LAST_MAX};
pub use response::{ControlError, ControlErrorKind, ControlResponse, DaemonInfo, ReloadReport};
pub use user::{PasswordRecordText, USER_PAGE_MAX, UserStatus};
