//! What the server remembers beside the mail: the traces of transactions, and recordings of them where the operator wants that.
//!
//! Owns: how traces and recordings are stored, found, bounded and kept free of secrets.
//! Uses: store (keyspaces), pipeline (the traits Trace and Recorder and their records), message (to redact headers).
//! Used by: intake and delivery by the trait; daemon opens, sweeps and shows.
//! Never: a wait on the mail's way; a sync for a trace.
//! Start reading at: [`TraceStore`], then [`RecordingStore`].
#![forbid(unsafe_code)]

mod record;
mod recorded;
mod recordings;
mod redact;
mod trace;

pub use record::{RECORD_BYTES_MAX, RECORD_VERSION, RecordError};
pub use recorded::{RECORDING_VERSION, Redaction};
pub use recordings::{RECORDING_KEYSPACE, RecordingLimits, RecordingPage, RecordingStore, Waiting};
pub use redact::redact;
pub use trace::{Found, LAST_MAX, Swept, TRACE_KEYSPACE, TraceError, TraceLimits, TraceStore};
