//! The milter protocol, version 6: what octets mean, without I/O, clock or state.
//!
//! There is no RFC. What counts is what libmilter's `mfdef.h` defines and what Postfix and Sendmail send. A packet is a length of four
//! octets, the highest first, then as many octets: a code and its data. Texts end with NUL.

mod command;
mod flags;
mod frame;
mod response;
mod text;

pub use command::{Command, Family, Stage};
pub use flags::{Actions, Steps};
pub use frame::{Frame, Frames, RESPONSE_BYTES_MAX, WireError};
pub use response::Response;

/// The version that we speak.
pub const VERSION: u32 = 6;
/// The oldest that we speak.
pub const VERSION_MIN: u32 = 2;
/// Octets of a body packet (`MILTER_CHUNK_SIZE`): libmilter takes no larger one.
pub const CHUNK_BYTES_MAX: usize = 65_535;

/// What one side says in the negotiation. `macros` only comes from a milter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Protocol version.
    pub version: u32,
    /// Offered, or wanted.
    pub actions: Actions,
    /// Offered, or wanted.
    pub steps: Steps,
    /// Names of macros that the milter wants at a stage, in place of the usual ones.
    pub macros: Vec<(Stage, Vec<String>)>,
}
