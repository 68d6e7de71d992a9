//! What the server remembers beside the mail: the traces of transactions.
//!
//! Owns: how traces are stored, found, bounded and kept free of secrets.
//! Uses: store (keyspaces), pipeline (the trait Trace and its records).
//! Used by: intake and delivery by the trait; daemon opens, sweeps and shows.
//! Never: a wait on the mail's way; a sync for a trace.
//! Start reading at: [`TraceStore`].
#![forbid(unsafe_code)]

mod record;
mod redact;
mod trace;

pub use record::{RECORD_BYTES_MAX, RECORD_VERSION, RecordError};
pub use redact::redact;
pub use trace::{Found, LAST_MAX, Swept, TRACE_KEYSPACE, TraceError, TraceLimits, TraceStore};
