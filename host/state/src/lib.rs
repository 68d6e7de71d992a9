//! Server state besides mail: transaction traces, optional recordings, key-value stores of plugins, users, metrics.
//!
//! Owns: storage, queries, limits and redaction of traces and recordings; storage, accounting and expiry of kv entries; storage of users;
//! the metrics registry.
//! Uses: config, message, pipeline, store, types.
//! Used by: admin, daemon, plugins.
//! Never: a delay on the mail path; a sync for a trace or a kv entry.
//! Start reading at: [`TraceStore`], then [`RecordingStore`], [`KvStores`], [`StoredUsers`], [`MetricsRegistry`].
#![forbid(unsafe_code)]

mod kv_store;
mod metrics_registry;
mod recording_codec;
mod recording_store;
mod redact;
mod trace_codec;
mod trace_store;
mod user_store;

pub use kv_store::{
    KV_ENTRY_OVERHEAD_BYTES, KV_KEY_BYTES_MAX, KV_KEYSPACE, KV_NAMESPACE_BYTES_MAX, KV_SCAN_BYTES_MAX, KV_SCAN_MAX,
    KV_VALUE_BYTES_MAX, KvStores,
};
pub use metrics_registry::{
    METRIC_LABEL_BYTES_MAX, METRIC_LABEL_SETS_MAX, METRIC_LABELS_MAX, METRIC_NAME_BYTES_MAX, METRIC_NAMES_MAX, MetricsRegistry,
};
pub use recording_codec::RECORDING_VERSION;
pub use recording_store::{RECORDING_KEYSPACE, RecordingPage, RecordingQueue, RecordingStore};
pub use redact::redact;
pub use trace_codec::{RecordDecodeError, TRACE_RECORD_BYTES_MAX, TRACE_RECORD_VERSION};
pub use trace_store::{LAST_TRANSACTIONS_MAX, SweepResult, TRACE_KEYSPACE, TraceError, TraceQueryResult, TraceStore};
pub use user_store::{STORED_NAME_BYTES_MAX, STORED_RECORDS_BYTES_MAX, STORED_USERS_MAX, StoredUsers, USERS_KEYSPACE};
