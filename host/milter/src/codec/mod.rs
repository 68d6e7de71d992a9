//! Wire format of the milter protocol, version 6, without I/O, clock or state.
//!
//! No RFC exists; the definition is libmilter's `mfdef.h` and the behaviour of Postfix and Sendmail. A packet is a
//! length of four bytes in big-endian order, followed by a code and data. Texts end with NUL.

mod command;
mod flags;
mod packet;
mod response;
mod text;

pub use command::{MacroStage, MilterAddress, MilterCommand, MilterOptions};
pub use flags::{ActionFlags, ProtocolFlags};
pub use packet::{MilterPacket, PacketError, PacketSplitter, RESPONSE_BYTES_MAX};
pub use response::MilterResponse;

/// Protocol version offered to milters.
pub const PROTOCOL_VERSION: u32 = 6;
/// Oldest supported protocol version.
pub const PROTOCOL_VERSION_MIN: u32 = 2;
/// Maximum size of a body packet in bytes (`MILTER_CHUNK_SIZE`), a limit of libmilter.
pub const CHUNK_BYTES_MAX: usize = 65_535;
