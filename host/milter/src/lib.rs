//! Milter client: milters are bound like plugins.
//!
//! Owns: the milter protocol, version 6, as implemented by libmilter ([`codec`]); the packets sent at each hook, and
//! the conversion of changes to edits; the connection test of a milter ([`probe_milter`]).
//! Uses: message, pipeline, types.
//! Used by: plugins, tool.
//! Never: decisions on mail, changes to a message: the pipeline applies the verdicts and edits of a milter.
//! Start reading at: [`Milter`], then `session.rs`.
#![forbid(unsafe_code)]

pub mod codec;
mod connection;
mod edits;
mod error;
mod header_editor;
mod macros;
mod plugin;
mod plugin_session;
mod probe;
mod reply;
mod session;
mod settings;
mod socket;
mod step;

pub use plugin::Milter;
pub use probe::{MilterProbe, MilterProbeError, probe_milter};
pub use settings::{
    EDIT_BYTES_MAX, EDITS_MAX, END_OF_BODY_TIME_MAX, MilterSettings, PROGRESS_PACKETS_MAX, REPLACED_BODY_BYTES_MAX,
    WRITE_BYTES_MAX,
};
