//! Milter client: milters are bound like plugins.
//!
//! Owns: the milter protocol, version 6, as implemented by libmilter ([`codec`]); the packets sent at each hook, and
//! the conversion of changes to edits; the connection test of a milter ([`probe_milter`]).
//! Uses: message, pipeline, types.
//! Used by: daemon, tool.
//! Never: decisions on mail, changes to a message: the pipeline applies the verdicts and edits of a milter.
//! Start reading at: [`Milter`], then `session.rs`.
#![forbid(unsafe_code)]

pub mod codec;
mod edits;
mod guest;
mod heads;
mod line;
mod macros;
mod plugin;
mod probe;
mod said;
mod settings;
mod socket;
mod step;
mod talk;
mod trouble;

pub use plugin::Milter;
pub use probe::{Probe, ProbeError, probe};
pub use settings::{
    EDIT_BYTES_MAX, EDITS_MAX, END_OF_BODY_TOTAL, MilterSettings, PROGRESS_MAX, REPLACED_BODY_BYTES_MAX, WRITE_BYTES_MAX,
};
