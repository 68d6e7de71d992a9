//! Reading, changing and making messages (RFC 5322, RFC 2045, RFC 3464).
//!
//! Owns: the header block and its edits, the split between header and body.
//! Uses: types.
//! Used by: pipeline, intake, delivery, sandbox.
//! Never: I/O, a clock, a whole large body.
//! Start reading at: [`HeaderBlock`].
#![forbid(unsafe_code)]

mod field;
mod header;
mod splitter;

pub use field::{Field, FieldError};
pub use header::{HeaderBlock, HeaderEditError};
pub use splitter::{HeadSplitter, HeaderTooLarge, Split};
