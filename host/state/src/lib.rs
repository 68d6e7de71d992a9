//! Server state besides mail: transaction traces, optional recordings, key-value stores of plugins, users, metrics.
//!
//! Owns: storage, queries, limits and redaction of traces and recordings; storage, accounting and expiry of kv entries; storage of users;
//! the metrics registry.
//! Uses: message, pipeline, store, types.
//! Used by: daemon.
//! Never: a delay on the mail path; a sync for a trace or a kv entry.
//! Start reading at: [`TraceStore`], then [`RecordingStore`], [`KvStores`], [`StoredUsers`], [`MetricsRegistry`].
#![forbid(unsafe_code)]

mod kv;
mod metrics;
mod record;
mod recorded;
mod recordings;
mod redact;
mod trace;
mod users;

pub use kv::{
    KV_KEY_BYTES_MAX, KV_KEYSPACE, KV_NAMESPACE_BYTES_MAX, KV_PAIR_BYTES, KV_SCAN_BYTES_MAX, KV_SCAN_MAX, KV_VALUE_BYTES_MAX,
    KvStores,
};
pub use metrics::{
    METRIC_LABEL_BYTES_MAX, METRIC_LABEL_SETS_MAX, METRIC_LABELS_MAX, METRIC_NAME_BYTES_MAX, METRIC_NAMES_MAX, MetricsRegistry,
};
pub use record::{RECORD_BYTES_MAX, RECORD_VERSION, RecordError};
pub use recorded::{RECORDING_VERSION, Redaction};
pub use recordings::{RECORDING_KEYSPACE, RecordingLimits, RecordingPage, RecordingStore, Waiting};
pub use redact::redact;
pub use trace::{Found, LAST_MAX, Swept, TRACE_KEYSPACE, TraceError, TraceLimits, TraceStore};
pub use users::{STORED_NAME_BYTES_MAX, STORED_RECORDS_BYTES_MAX, STORED_USERS_MAX, StoredUsers, USERS_KEYSPACE};
