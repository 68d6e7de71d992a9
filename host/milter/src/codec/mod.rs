//! Wire format of the milter protocol, version 6, without I/O, clock or state.
//!
//! No RFC exists; the definition is libmilter's `mfdef.h` and the behaviour of Postfix and Sendmail. A packet is a
//! length of four bytes in big-endian order, followed by a code and data. Texts end with NUL.

mod command;
mod flags;
mod frame;
mod response;
mod text;

pub use command::{Command, Family, Stage};
pub use flags::{Actions, Steps};
pub use frame::{Frame, Frames, RESPONSE_BYTES_MAX, WireError};
pub use response::Response;

/// Protocol version offered to milters.
pub const VERSION: u32 = 6;
/// Oldest supported protocol version.
pub const VERSION_MIN: u32 = 2;
/// Maximum size of a body packet in bytes (`MILTER_CHUNK_SIZE`), a limit of libmilter.
pub const CHUNK_BYTES_MAX: usize = 65_535;

/// Options of a negotiation. Only a milter sends `macros`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Protocol version of the peer.
    pub version: u32,
    /// Offered or requested actions.
    pub actions: Actions,
    /// Offered or requested protocol flags.
    pub steps: Steps,
    /// Names of the macros that the milter selects for a stage, instead of the defaults.
    pub macros: Vec<(Stage, Vec<String>)>,
}
