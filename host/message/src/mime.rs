//! MIME (RFC 2045, RFC 2046): the structure of a message, MIME parts, and transfer encodings.

mod content_type;
mod decode;
mod encode;
pub(crate) mod parser;

pub(crate) use content_type::{ContentType, TransferEncoding};
pub(crate) use decode::decode;
pub(crate) use encode::{Base64Writer, QuotedPrintableWriter};
