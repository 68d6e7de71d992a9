//! Parsing, editing and generation of messages (RFC 5322, RFC 2045, RFC 3464).
//!
//! Owns: the header block and its edits, the split between header and body, trace fields, addresses in fields, DSNs,
//! MIME parts and their edits, the conversion to 7bit.
//! Uses: types.
//! Used by: daemon, delivery, generated, intake, milter, pipeline, sandbox, state, tool.
//! Never: I/O, a clock, a whole large body.
//! Start reading at: [`HeaderBlock`].
#![forbid(unsafe_code)]

mod addresses;
mod date;
mod dsn;
mod field;
mod header;
mod header_splitter;
mod mime;
mod part_edit;
mod parts;
mod seven_bit;
mod staged_part_edits;
pub mod trace_fields;

pub use addresses::{ADDRESS_FIELDS, AddressSpan, find_addresses, rewrite_addresses, rewrite_field};
pub use date::rfc5322_date;
pub use dsn::{Dsn, DsnAction, DsnBuilder, DsnRecipient};
pub use field::{Field, FieldError};
pub use header::{HeaderBlock, HeaderEditError};
pub use header_splitter::{HeaderSplit, HeaderSplitter, HeaderTooLarge};
pub use part_edit::{NewPart, PartEdit, PartEditError, edit_parts};
pub use parts::{MimePart, MimeParts, TooManyParts};
pub use seven_bit::{ConversionError, ConversionPlan, SevenBitScan, SevenBitWriter, binary_to_seven_bit, to_seven_bit};
pub use staged_part_edits::{StagedPartEdits, is_content_field_name};
