//! Milters, bound like plugins.
//!
//! Owns: the milter protocol, version 6, as libmilter speaks it ([`codec`]); what a milter is told at each hook, and how its changes
//! become edits; the look at a milter before it is bound ([`probe`]).
//! Uses: types, message (fields), pipeline (what it implements).
//! Used by: daemon (binds), tool (probes).
//! Never: a decision of its own on mail, a change to a message: it says what the milter wants, and the pipeline does it.
//! Start reading at: [`Milter`], then `talk.rs`.
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
